"""Corrections of class bias against the authors' formulas, written out on small dense arrays."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from clipnb import _class_bias, ensemble, evaluate, evaluate_prompts, evaluate_store
from clipnb.embeddings import Embeddings
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.similarity import unit_norm

SCALE = 20.0


@pytest.fixture
def world():
    """Images around 12 class vectors, of which some are pushed towards the mean of all images: they win too often."""
    rng = np.random.default_rng(0)
    texts = unit_norm(rng.standard_normal((12, 16)))
    labels = np.repeat(np.arange(12), 40)
    images = unit_norm(texts[labels] + 1.3 * unit_norm(rng.standard_normal((480, 16))))
    classifier = unit_norm(texts + np.linspace(0, 1.2, 12)[:, None] * unit_norm(images.mean(axis=0)[None]))
    return images, classifier, labels


def centred(values):
    return values - values.mean()


def test_nnn_is_the_mean_of_the_nearest_images(world):
    images, classifier, _ = world
    nearest = np.sort(images @ classifier.T, axis=0)[-7:]
    offset = ensemble.class_bias(images, classifier, "nnn", neighbours=7, strength=0.5)
    np.testing.assert_allclose(offset, centred(-0.5 * nearest.mean(axis=0)), atol=1e-6)
    every = ensemble.class_bias(images, classifier, "nnn", neighbours=10_000, strength=1)
    np.testing.assert_allclose(every, centred(-(images @ classifier.T).mean(axis=0)), atol=1e-6)


@pytest.mark.parametrize("prior", [None, np.arange(1, 13) / 78])
def test_sinkhorn_reaches_the_prior_and_is_the_potential_of_the_dense_iteration(world, prior, monkeypatch):
    images, classifier, _ = world
    monkeypatch.setattr(_class_bias, "MAX_PASSES", 500)
    monkeypatch.setattr(_class_bias, "TOLERANCE", 1e-5)
    logits, shares = SCALE * images @ classifier.T, np.full(12, 1 / 12) if prior is None else prior
    rows, columns = np.ones(480), np.ones(12)
    kernel = np.exp(logits)
    for _ in range(2000):
        rows = 1 / 480 / (kernel @ columns)
        columns = shares / (kernel.T @ rows)
    offset = ensemble.class_bias(images, classifier, "sinkhorn", logit_scale=SCALE, prior=prior)
    np.testing.assert_allclose(SCALE * offset, centred(np.log(columns)), atol=0.02)
    np.testing.assert_allclose(softmax(logits + SCALE * offset, axis=1).mean(axis=0), shares, atol=1e-5)


def test_sinkhorn_with_a_large_scale_predicts_what_otter_does(world, monkeypatch):
    images, classifier, _ = world
    monkeypatch.setattr(_class_bias, "MAX_PASSES", 300)
    _, place = linear_sum_assignment(-np.repeat(images @ classifier.T, 40, axis=1))
    offset = ensemble.class_bias(images, classifier, "sinkhorn", logit_scale=300)
    same = (images @ classifier.T + offset).argmax(axis=1) == place // 40
    assert same.mean() > 0.98


def test_mlls_is_em_for_the_prior(world):
    images, classifier, _ = world
    posterior, prior = softmax(SCALE * images @ classifier.T, axis=1), np.full(12, 1 / 12)
    for _ in range(_class_bias.MAX_PASSES):
        new = posterior * prior / (posterior @ prior)[:, None]
        before, prior = prior, new.mean(axis=0)
        if np.abs(prior - before).sum() < 1e-3:
            break
    offset = ensemble.class_bias(images, classifier, "mlls", logit_scale=SCALE)
    np.testing.assert_allclose(SCALE * offset, centred(np.log(prior)), atol=1e-4)


def test_frolic_is_the_fixed_point_of_the_mean_probabilities_by_prediction(world):
    images, classifier, _ = world
    logits = SCALE * images @ classifier.T
    total = np.zeros(12)
    for _ in range(11):
        top = np.sort(logits, axis=1)
        sure = logits[top[:, -1] - top[:, -2] > 1 / 12]
        matrix = np.zeros((12, 12))
        for c in np.unique(sure.argmax(axis=1)):
            matrix[:, c] = softmax(sure, axis=1)[sure.argmax(axis=1) == c].mean(axis=0)
        shares = np.full(12, 1 / 12)
        for _ in range(100):
            after = matrix @ shares / (matrix @ shares).sum()
            if np.abs(after - shares).sum() < 1e-3:
                break
            shares = after
        logits, total = logits - np.log(shares + 1e-12), total - np.log(shares + 1e-12)
    offset = ensemble.class_bias(images, classifier, "frolic", logit_scale=SCALE)
    np.testing.assert_allclose(SCALE * offset, centred(total), atol=0.02)


def test_corrections_undo_a_planted_bias_and_mlls_makes_it_worse(world):
    images, classifier, labels = world
    # The set is small: the default of 128 neighbours would be a quarter of it.
    offsets = {
        method: ensemble.class_bias(images, classifier, method, logit_scale=SCALE, neighbours=16)
        for method in _class_bias.BIAS_METHODS
    }
    right = {method: evaluate(images, classifier, labels, offset=offset).accuracy for method, offset in offsets.items()}
    plain = evaluate(images, classifier, labels).accuracy
    assert min(right["nnn"], right["frolic"], right["sinkhorn"]) > plain > right["mlls"]
    assert right["sinkhorn"] > plain + 0.05


def test_sinkhorn_is_wrong_where_most_classes_do_not_occur(world):
    images, classifier, labels = world
    few = np.isin(labels, [8, 11])

    def accuracy(method):
        offset = ensemble.class_bias(images[few], classifier, method, logit_scale=SCALE)
        return evaluate(images[few], classifier, labels[few], offset=offset).accuracy

    plain = evaluate(images[few], classifier, labels[few]).accuracy
    assert accuracy("sinkhorn") < plain - 0.2 and accuracy("mlls") > plain + 0.1


@pytest.mark.parametrize("method", _class_bias.BIAS_METHODS)
def test_the_offset_is_the_same_where_logits_are_computed_again_and_follows_the_reference(world, method, monkeypatch):
    images, classifier, _ = world
    kept = ensemble.class_bias(images, classifier, method, logit_scale=SCALE)
    assert kept.shape == (12,) and kept.dtype == np.float64 and abs(kept.mean()) < 1e-12
    other = ensemble.class_bias(images[:3], classifier, method, reference=images, logit_scale=SCALE)
    np.testing.assert_allclose(other, kept, atol=1e-9)
    monkeypatch.setattr(_class_bias, "KEPT_BYTES", 4 * 12 * 400)
    np.testing.assert_allclose(ensemble.class_bias(images, classifier, method, logit_scale=SCALE), kept, atol=1e-6)


def test_prior_that_is_no_distribution_is_refused(world):
    images, classifier, _ = world
    for prior in ([0.5, 0.5], np.full(12, 1.0), np.r_[0.0, np.full(11, 1 / 11)]):
        with pytest.raises(InputError, match="Expected `prior` as shares > 0 of C = 12 classes that sum to 1, got"):
            ensemble.class_bias(images, classifier, "sinkhorn", prior=prior)


def test_carprt_scores_are_the_mean_of_the_best_logit_by_prediction(world):
    images, classifier, _ = world
    bank = np.stack([classifier, unit_norm(classifier + 0.1), classifier[::-1]])
    expected = np.zeros((3, 12))
    for p, texts in enumerate(bank):
        similarity = images @ texts.T
        for c in np.unique(similarity.argmax(axis=1)):
            expected[p, c] = similarity[similarity.argmax(axis=1) == c].max(axis=1).mean()
    np.testing.assert_allclose(ensemble.carprt_scores(images, bank), expected, atol=1e-6)
    weights = ensemble.prompt_weights(images, bank, method="carprt")
    np.testing.assert_allclose(weights, softmax(100 * expected, axis=0), atol=1e-4)


# `evaluate` with an offset


def test_evaluate_adds_the_offset_to_every_similarity(world):
    images, classifier, labels = world
    offset = np.linspace(0.3, -0.3, 12)
    dense = images @ classifier.T + offset
    result = evaluate(images, classifier, labels, ks=(1, 3), offset=offset)
    np.testing.assert_array_equal(result.predictions, dense.argmax(axis=1))
    np.testing.assert_array_equal(result.topk, np.argsort(-dense, axis=1)[:, :3])
    own = dense[np.arange(480), labels]
    dense_others = dense.copy()
    dense_others[np.arange(480), labels] = -np.inf
    np.testing.assert_allclose(result.margins, own - dense_others.max(axis=1), atol=1e-6)
    means = np.stack([dense[labels == c].mean(axis=0) for c in range(12)])
    np.testing.assert_allclose(result.class_similarity, means, atol=1e-6)
    others = np.where(np.eye(12, dtype=bool), -np.inf, means).max(axis=1)
    np.testing.assert_allclose(result.cmm["class"], np.diag(means) - others, atol=1e-6)


def test_an_offset_works_in_parts_in_a_store_and_for_every_prompt(world, tmp_path):
    images, classifier, labels = world
    offset = np.linspace(0.3, -0.3, 12)
    whole = evaluate(images, classifier, labels, offset=offset)
    Embeddings(images, labels, [str(i) for i in range(480)], [str(c) for c in range(12)]).save(tmp_path, 100)
    np.testing.assert_array_equal(evaluate_store(tmp_path, classifier, offset=offset).predictions, whole.predictions)
    prompts = evaluate_prompts(images, np.stack([classifier, classifier[::-1]]), labels, offset=offset)
    np.testing.assert_array_equal(prompts.predictions[0], whole.predictions)
    np.testing.assert_allclose(prompts.cmm["class"][0], whole.cmm["class"], atol=1e-6)
    parts = [evaluate(images[:9], classifier, labels[:9], offset=offset), evaluate(images[9:], classifier, labels[9:])]
    with pytest.raises(InputError, match="got another offset"):
        EvaluationResult.merge(parts)


def test_an_offset_tells_classes_of_equal_names_apart():
    classifier = np.eye(2)[[0, 0, 1]]
    assert evaluate(np.eye(2)[:1], classifier, [1]).predictions == [0]
    assert evaluate(np.eye(2)[:1], classifier, [1], offset=[0, 1e-3, 0]).predictions == [1]


@pytest.mark.parametrize("offset", [[0.0], np.zeros((12, 1)), np.full(12, np.nan), np.full(12, 1e300), "b"])
def test_an_offset_of_another_shape_is_refused(world, offset):
    images, classifier, labels = world
    with np.errstate(over="ignore"), pytest.raises(InputError, match="`offset`"):
        evaluate(images, classifier, labels, offset=offset)


def test_each_half_is_scored_with_the_offset_of_the_other(world):
    images, classifier, labels = world
    seen = []

    def fit(rows):
        seen.append(rows)
        return ensemble.class_bias(images[rows], classifier, "sinkhorn", logit_scale=SCALE)

    result = ensemble.evaluate_offset_on_halves(images, classifier, fit, labels, seed=3)
    assert len(seen) == 2 and sorted(np.concatenate(seen)) == list(range(480))
    for rows, other in (seen, seen[::-1]):
        offset = ensemble.class_bias(images[other], classifier, "sinkhorn", logit_scale=SCALE)
        expected = evaluate(images[rows], classifier, labels[rows], offset=offset)
        np.testing.assert_array_equal(result.predictions[rows], expected.predictions)
        np.testing.assert_allclose(result.margins[rows], expected.margins, atol=1e-6)


@pytest.mark.parametrize("method", _class_bias.BIAS_METHODS)
def test_offsets_are_finite_where_probabilities_are_beyond_single_precision(method):
    """Images on their class's text under a scale of 100: each probability is 0 or 1."""
    for rows in ([0], [1], [0, 2], [0, 1, 2]):
        assert np.isfinite(ensemble.class_bias(np.eye(3)[rows], np.eye(3), method)).all()
