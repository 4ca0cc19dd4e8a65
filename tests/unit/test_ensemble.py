import re

import numpy as np
import pytest
import torch

from clipnb import ensemble, evaluate, evaluation, margin
from clipnb.errors import InputError
from clipnb.margin import class_wise_matching_margin
from clipnb.similarity import unit_norm
from tests.support.shared import same_classes, unit_rows


def case(seed=0, classes=12, per_class=20, prompts=4, width=32):
    """Vectors around their class's direction; the first prompt is best, the next are noisier, the last is useless."""
    rng = np.random.default_rng(seed)
    truth = unit_rows(rng, classes, width)
    labels = np.repeat(np.arange(classes), per_class)
    vectors = unit_norm(truth[labels] + 0.15 * rng.normal(size=(len(labels), width))).astype(np.float32)
    noise = [0.02, 0.1, 0.2] + [5.0] * (prompts - 3)
    bank = np.stack([unit_norm(truth + level * rng.normal(size=truth.shape)) for level in noise]).astype(np.float32)
    return vectors, bank, labels


@pytest.mark.parametrize("reduction", ["image", "class"])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_best_prompt_is_recovered_and_the_useless_one_dropped(reduction, labelled):
    vectors, bank, labels = case()
    last = []
    for temperature in (1.0, 0.1, 0.01):
        weights = ensemble.prompt_weights(
            vectors, bank, labels if labelled else None, temperature=temperature, reduction=reduction
        )
        assert weights.shape == (4,) and weights.sum() == pytest.approx(1) and (np.diff(weights) < 0).all()
        last.append(weights[-1])
    assert last[0] > 0.1 > last[1] > last[2] and last[2] < 1e-6
    assert weights[0] > 0.9


def test_margins_equal_one_prompt_at_a_time():
    vectors, bank, labels = case()
    found = ensemble.prompt_margins(vectors, bank, labels)
    assert found.shape == (4, 12)
    for p, prompt in enumerate(bank):
        assert np.allclose(found[p], class_wise_matching_margin(vectors, prompt, labels), atol=1e-6)
    reference = evaluate(vectors, unit_norm(bank.mean(axis=0))).predictions  # the uniform ensemble's, for every prompt
    assert np.allclose(
        ensemble.prompt_margins(vectors, bank), ensemble.prompt_margins(vectors, bank, reference), equal_nan=True
    )


def test_weights_are_the_softmax_of_mean_margins():
    vectors, bank, labels = case()
    margins = ensemble.prompt_margins(vectors, bank, labels)
    for worst_k in (None, 3, 99):
        chosen = np.argsort(margins.mean(axis=0))[:worst_k]
        score = margins[:, chosen].mean(axis=1) / 0.05
        expected = np.exp(score - score.max())
        found = ensemble.prompt_weights(vectors, bank, labels, temperature=0.05, worst_k=worst_k)
        assert np.allclose(found, expected / expected.sum(), atol=1e-6)
    assert np.allclose(ensemble.prompt_weights(vectors, bank, method="uniform"), 0.25)
    assert ensemble.prompt_weights(vectors, bank, method="uniform", per_class=True).shape == (4, 12)


def test_a_class_nobody_is_predicted_as_spreads_no_nan():
    vectors, bank, labels = case()
    labels = np.where(labels == 5, -1, labels)
    for options in ({}, {"worst_k": 3}, {"per_class": True}):
        weights = ensemble.prompt_weights(vectors, bank, labels, **options)
        assert np.isfinite(weights).all() and np.allclose(weights.sum(axis=0), 1)
    assert np.allclose(weights[:, 5], 0.25)  # that class: uniform
    assert np.isfinite(ensemble.weighted_classifier(bank, weights)).all()


def test_a_weighted_classifier_is_the_renormalised_mean():
    _, bank, _ = case()
    one = ensemble.weighted_classifier(bank, [0, 1, 0, 0])
    assert np.allclose(one, bank[1], atol=1e-6) and one.dtype == np.float32
    weights = np.random.default_rng(0).random((4, 12))
    expected = np.stack([sum(weights[p, c] * bank[p, c] for p in range(4)) for c in range(12)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(ensemble.weighted_classifier(bank, weights), expected, atol=1e-6)
    assert np.allclose(
        ensemble.weighted_classifier(torch.from_numpy(bank), 7 * weights), expected, atol=1e-6
    )  # scale is free


def test_softmax():
    assert np.allclose(ensemble.softmax_weights([0.0, np.log(3)], 1.0), [0.25, 0.75])
    assert np.allclose(ensemble.softmax_weights([[1e6, 0.0], [0.0, 1e6]], 1e-3), np.eye(2))  # no overflow
    assert np.allclose(ensemble.softmax_weights([[1.0, np.nan], [0.0, 2.0]], 0.01), [[1, 0.5], [0, 0.5]])


def test_descriptions_by_hand():
    classifier = np.eye(3)
    descriptions = {0: [[0.6, 0.8, 0.0], [1.0, 0.0, 0.0]]}
    vectors, labels = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0, 1]
    new, weights = ensemble.description_classifier(
        classifier, descriptions, vectors, labels, temperature=0.1, name_weight=0.0
    )
    expected = np.exp([(0.6 - 1.0) / 0.1, 0.0])  # the margin of each: 0.6 - 0 and 1 - 0
    assert np.allclose(weights[0], expected / expected.sum(), atol=1e-6)
    assert np.allclose(new[0], unit_norm(weights[0] @ np.array(descriptions[0])[None])[0], atol=1e-6)
    assert np.allclose(new[1:], classifier[1:], atol=1e-6)  # the others keep their vectors
    same, _ = ensemble.description_classifier(classifier, descriptions, vectors, labels, name_weight=1.0)
    assert np.allclose(same, classifier)
    _, equal = ensemble.description_classifier(classifier, descriptions)  # without images: equal weights
    assert np.allclose(equal[0], 0.5)
    _, absent = ensemble.description_classifier(classifier, {2: descriptions[0]}, vectors, labels)
    assert np.allclose(absent[2], 0.5)
    assert np.array_equal(classifier, np.eye(3))


def naive(vectors, bank):
    """The whole (N, P, C) tensor in double precision."""
    return np.einsum("nd,pcd->npc", vectors.astype(float), bank.astype(float))


def softmax(scores, axis=-1):
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def test_zpe_equals_the_naive_tensor():
    vectors, bank, _ = case(per_class=100)  # 1,200 images: several blocks
    reference = unit_rows(np.random.default_rng(1), 50, 32)
    logits = naive(vectors, bank)
    for other, bias in (
        (None, logits.mean(axis=0)),
        (reference, (logits.mean(axis=0) + naive(reference, bank).mean(axis=0)) / 2),
    ):
        expected = (logits - bias).max(axis=2).mean(axis=0)
        assert np.allclose(ensemble.zpe_scores(vectors, bank, other), expected, atol=1e-9)
        found = ensemble.prompt_weights(vectors, bank, method="zpe", reference=other, temperature=0.05)
        assert np.allclose(found, softmax(expected / 0.05), atol=1e-6)
    assert not np.allclose(ensemble.zpe_scores(vectors, bank), ensemble.zpe_scores(vectors, bank, reference), atol=1e-3)


def test_autoclip_equals_the_gradient_of_the_naive_tensor():
    vectors, bank, labels = case(per_class=100)
    scores = torch.from_numpy(naive(vectors, bank))
    rho = torch.zeros(len(vectors), len(bank), dtype=torch.float64, requires_grad=True)
    torch.logsumexp((rho.softmax(dim=1)[:, :, None] * scores).sum(dim=1), dim=1).sum().backward()
    weights = ensemble.prompt_weights(vectors, bank, method="autoclip")
    assert weights.shape == (1200, 4) and np.allclose(weights.sum(axis=1), 1)
    entropy = -(weights * np.log(weights)).sum(axis=1) / np.log(4)
    assert np.allclose(entropy, 0.85, atol=1e-6)
    # weights = softmax(step x gradient): their logarithms are the gradient, but for a factor and a constant
    logs, gradient = np.log(weights), rho.grad.numpy()
    steps = np.ptp(logs, axis=1) / np.ptp(gradient, axis=1)
    assert np.allclose(weights, softmax(steps[:, None] * gradient), atol=1e-6)
    result = ensemble.evaluate_per_image(vectors, bank, weights, labels)
    expected = np.einsum("np,npc->nc", weights, scores.numpy())
    assert same_classes(result.predictions, expected.argmax(axis=1), expected)
    assert np.allclose(result.topk_similarity[:, 0], expected.max(axis=1), atol=1e-6)


def test_autoclip_at_the_ends_of_its_entropy():
    vectors, bank, _ = case()
    assert np.allclose(ensemble.autoclip_weights(vectors, bank, entropy=1), 0.25, atol=1e-4)
    assert ensemble.autoclip_weights(vectors, bank, entropy=1e-6).max(axis=1).min() > 0.999
    assert np.allclose(
        ensemble.autoclip_weights(vectors, np.repeat(bank[:1], 4, axis=0)), 0.25
    )  # nothing to choose from
    assert np.allclose(ensemble.autoclip_weights(vectors, bank[:1]), 1)


@pytest.mark.parametrize("blocks", [1, 5])
def test_per_image_weights_that_do_not_differ_are_one_ensemble(monkeypatch, blocks):
    vectors, bank, labels = case()
    monkeypatch.setattr(ensemble, "WEIGHTED_BYTES", 4 * 4 * 32 * len(vectors) // blocks)
    weights = np.array([0.5, 0.3, 0.2, 0.0])
    mean = np.einsum("p,pcd->cd", weights, bank)
    found = ensemble.evaluate_per_image(vectors, bank, np.tile(weights, (len(vectors), 1)), labels)
    # as in AutoCLIP, the mean is not renormalised
    expected = evaluation.evaluate_unchecked(vectors, mean.astype(np.float32), labels, (1, 5))
    assert same_classes(found.predictions, expected.predictions, vectors.astype(float) @ mean.T)
    assert np.allclose(found.margins, expected.margins, atol=1e-6)
    assert np.allclose(found.cmm["class"], expected.cmm["class"], atol=1e-6)


def test_halves_score_every_image_by_the_other_half():
    vectors, bank, labels = case()
    seen = []

    def fit(rows):
        seen.append(set(rows))
        return bank[len(seen) - 1]

    result = ensemble.evaluate_on_halves(vectors, fit, labels)
    assert len(seen) == 2 and seen[0] | seen[1] == set(range(240)) and not seen[0] & seen[1] and len(seen[0]) == 120
    for rows, prompt in ((seen[1], bank[0]), (seen[0], bank[1])):
        rows = sorted(rows)
        assert np.array_equal(result.predictions[rows], evaluate(vectors[rows], prompt).predictions)


@pytest.mark.parametrize("method", ["zpe", "cmm", "greedy"])
def test_every_weighting_recovers_a_known_best_prompt(method):
    vectors, bank, labels = case()
    weights = ensemble.prompt_weights(vectors, bank, labels, method=method, temperature=0.01)
    assert weights.argmax() == 0 and weights[0] > 0.5 and weights[-1] < 1e-6
    only = ensemble.prompt_weights(vectors, bank, labels, method=method, temperature=0.01, top_m=1)
    assert only[0] > 0.5 and (method == "greedy" or np.array_equal(only, [1, 0, 0, 0]))


def test_zpe_drops_the_useless_prompt_as_the_temperature_falls():
    vectors, bank, _ = case()
    last = [ensemble.prompt_weights(vectors, bank, method="zpe", temperature=t)[-1] for t in (1, 0.1, 0.01)]
    assert last[0] > 0.1 > last[1] > last[2] and last[2] < 1e-6


def test_autoclip_finds_the_prompt_that_fits_each_image():
    rng = np.random.default_rng(0)
    bank = unit_rows(rng, 2, 6, 64)
    labels, kind = np.repeat(np.arange(6), 20), np.tile([0, 1], 60)
    vectors = unit_norm(bank[kind, labels] + 0.02 * rng.normal(size=(120, 64)))
    weights = ensemble.autoclip_weights(vectors, bank)
    assert (weights.argmax(axis=1) == kind).mean() > 0.95


def test_greedy_adds_prompts_while_accuracy_rises():
    rng = np.random.default_rng(1)
    vectors, bank, labels = case()
    truth = bank[0]
    half = np.arange(12) < 6
    bank = np.stack(
        [
            np.where(half[:, None], truth, unit_rows(rng, 12, 32)),
            np.where(half[:, None], unit_rows(rng, 12, 32), truth),
            bank[-1],
        ]
    )
    weights = ensemble.prompt_weights(vectors, bank, labels, method="greedy")
    alone = [evaluate(vectors, prompt, labels).accuracy for prompt in bank]
    both = evaluate(vectors, ensemble.weighted_classifier(bank, weights), labels).accuracy
    assert weights[0] > 0 and weights[1] > 0 and weights.sum() == pytest.approx(1) and both > max(alone) + 0.05


def test_top_m_keeps_the_best_of_each_class():
    scores = np.array([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0]])
    weights = ensemble.softmax_weights(scores, 1.0, top_m=2)
    assert np.array_equal(weights > 0, [[True, False], [True, True], [False, True]]) and np.allclose(
        weights.sum(axis=0), 1
    )
    assert np.array_equal(ensemble.softmax_weights([1.0, 1.0, 1.0], np.inf, top_m=2), [0.5, 0.5, 0])
    assert np.allclose(ensemble.softmax_weights(scores, 1.0, top_m=9), ensemble.softmax_weights(scores, 1.0))


def test_never_predicted_classes_are_ranked_by_how_far_off_they_are():
    classifier = unit_norm(np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [-1, 0, 0], [0.5, -0.5, 0]]))
    vectors = unit_norm(np.array([[1, 0, 0], [1, -0.01, 0], [0.2, 1, 0]]))
    predictions = evaluate(vectors, classifier).predictions
    assert set(predictions) == {0, 2}
    similarity = vectors @ classifier.T
    misses = {c: (similarity[:, c] - similarity.max(axis=1)).max() for c in (1, 3, 4)}
    found = margin.find_worst(vectors, classifier)
    assert found[:3].tolist() == sorted(misses, key=misses.get) == [3, 4, 1]
    assert set(found[3:]) == {0, 2} and margin.find_worst(vectors, classifier, 2).tolist() == [3, 4]
    copies = np.tile(vectors, (700, 1))  # several blocks of images
    assert np.array_equal(margin.find_worst(copies, classifier)[:3], found[:3])


def test_descriptions_lift_a_class_that_nobody_is_predicted_as():
    """The old class vector loses everywhere; only one description is right, and two rounds find it without labels."""
    rng = np.random.default_rng(0)
    truth = unit_rows(rng, 6, 32)
    labels = np.repeat(np.arange(6), 10)
    vectors = unit_norm(truth[labels] + 0.1 * rng.normal(size=(60, 32))).astype(np.float32)
    classifier = truth.copy()
    classifier[0] = unit_rows(rng, 1, 32)[0]
    assert not (evaluate(vectors, classifier).predictions == 0).any()
    descriptions = {0: np.stack([unit_rows(rng, 1, 32)[0], truth[0], unit_rows(rng, 1, 32)[0]])}
    new, weights = ensemble.description_classifier(classifier, descriptions, vectors)
    assert weights[0].argmax() == 1 and weights[0][1] > 0.99
    assert evaluate(vectors, new, labels).per_class_accuracy[0] == 1
    # Even where the first round does not help, the nearest images decide, and nothing is NaN.
    far = {0: np.stack([-classifier[0], truth[0]])}
    new, weights = ensemble.description_classifier(classifier, far, vectors, name_weight=0.99)
    assert not (
        evaluate(vectors, ensemble.description_classifier(classifier, far, name_weight=0.99)[0]).predictions == 0
    ).any()
    assert np.isfinite(new).all() and not np.allclose(weights[0], 0.5)


VECTORS, BANK, LABELS = case()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK[0], LABELS),
            "Expected `bank` to have 3 dimension(s), got shape (12, 32)",
        ),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK[:0], LABELS),
            "Expected `bank` of shape (P, C, D) with P, C >= 1, got (0, 12, 32)",
        ),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK, method="best"),
            "Expected `method` to be one of 'uniform', 'zpe', 'autoclip', 'cmm', 'carprt', 'greedy', got 'best'",
        ),
        (lambda: ensemble.prompt_weights(VECTORS, BANK, temperature=0), "Expected `temperature` > 0, got 0"),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK, temperature=float("nan")),
            "Expected `temperature` > 0, got nan",
        ),
        (lambda: ensemble.prompt_weights(VECTORS, BANK, worst_k=0), "Expected `worst_k` >= 1, got 0"),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK, np.full(240, -1)),
            "Expected margins for at least one class, got NaN for all",
        ),
        (
            lambda: ensemble.prompt_weights(VECTORS[:, :5], BANK),
            "Expected `vectors` and `classifier` of one width D, got 5 and 32",
        ),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK, method="zpe", per_class=True),
            "Expected `per_class` with method 'cmm' only, got it with 'zpe'",
        ),
        (lambda: ensemble.prompt_weights(VECTORS, BANK, top_m=0), "Expected `top_m` >= 1, got 0"),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK, method="autoclip", entropy=0),
            "Expected `entropy` in (0, 1], got 0",
        ),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK, method="greedy"),
            "Expected `labels` with method 'greedy', got none",
        ),
        (
            lambda: ensemble.prompt_weights(VECTORS, BANK, method="zpe", reference=VECTORS[:, :5]),
            "Expected `reference` and `classifier` of one width D, got 5 and 32",
        ),
        (
            lambda: ensemble.evaluate_per_image(VECTORS, BANK, np.ones((4, 240))),
            "Expected `weights` of shape (N, P) = (240, 4), got (4, 240)",
        ),
        (
            lambda: ensemble.evaluate_per_image(VECTORS, BANK, -np.ones((240, 4))),
            "Expected `weights` >= 0, got a negative or NaN weight",
        ),
        (
            lambda: ensemble.evaluate_on_halves(VECTORS[:1], lambda rows: BANK[0]),
            "Expected at least two images to halve, got 1",
        ),
        (lambda: margin.find_worst(VECTORS, BANK[0], 13), "Expected `k` between 1 and 12, got 13"),
        (
            lambda: ensemble.weighted_classifier(BANK, [1, 1]),
            "Expected `weights` of shape (P,) = (4,) or (P, C) = (4, 12), got (2,)",
        ),
        (
            lambda: ensemble.weighted_classifier(BANK, [1, 1, 1, -1]),
            "Expected `weights` >= 0, got a negative or NaN weight",
        ),
        (
            lambda: ensemble.weighted_classifier(BANK, [1, 1, 1, np.nan]),
            "Expected `weights` >= 0, got a negative or NaN weight",
        ),
        (
            lambda: ensemble.weighted_classifier(BANK, [0, 0, 0, 0]),
            "Expected vectors with a direction, got a row of zeros",
        ),
        (
            lambda: ensemble.description_classifier(np.eye(2), {2: np.eye(2)}),
            "Expected class indices in `descriptions` between 0 and 1, got 2",
        ),
        (
            lambda: ensemble.description_classifier(np.eye(2), {0: np.eye(3)}),
            "Expected `descriptions[0]` of shape (P_c >= 1, D = 2), got (3, 3)",
        ),
        (
            lambda: ensemble.description_classifier(np.eye(2), {0: 2 * np.eye(2)}),
            "Expected `descriptions[0]` of unit norm, got norms from 2 to 2; divide each row by its norm",
        ),
        (
            lambda: ensemble.description_classifier(np.eye(2), {}, name_weight=2),
            "Expected `name_weight` in [0, 1], got 2",
        ),
    ],
)
def test_wrong_input_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_what_moved_still_works_and_says_where_to():
    with pytest.warns(DeprecationWarning, match=r"clipnb\.paired\.compare"):
        assert len(ensemble.compare({"bare": evaluate(VECTORS, BANK[0], LABELS)}, k=3)) == 1
