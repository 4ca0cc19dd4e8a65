import json
import math
import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipnb import margin, metrics, similarity, worst
from clipnb.errors import InputError
from clipnb.zeroshot import evaluate, prompt_vectors, zero_shot_classifier

from conftest import unit_rows

NAN = float("nan")


def same(result, other):
    """Whether two results hold the same numbers."""
    for name in ("predictions", "topk", "rivals", "confusion"):
        assert np.array_equal(getattr(result, name), getattr(other, name)), name
    for name in ("topk_similarity", "margins"):
        assert np.allclose(getattr(result, name), getattr(other, name), rtol=0, atol=1e-6, equal_nan=True), name
    for name in result.cmm:
        assert np.allclose(result.cmm[name], other.cmm[name], rtol=0, atol=1e-6, equal_nan=True), name
    assert result.recall_at_k == pytest.approx(other.recall_at_k, nan_ok=True)
    return True


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 10**6), st.booleans())
def test_equals_the_naive_computation(count, num_classes, seed, tied):
    rng = np.random.default_rng(seed)
    if tied:  # vectors of one 1, so that similarities are 0 or 1 and ties are everywhere
        vectors, classifier = (np.eye(4, dtype=np.float32)[rng.integers(0, 4, n)] for n in (count, num_classes))
    else:
        vectors, classifier = unit_rows(rng, count, 6), unit_rows(rng, num_classes, 6)
    labels = rng.integers(-1, num_classes, count)
    known = labels >= 0
    result = evaluate(vectors, classifier, labels, ks=(1, 3))
    s = vectors.astype(float) @ classifier.astype(float).T
    order = np.array([sorted(range(num_classes), key=lambda c: (-row[c], c)) for row in s])
    assert result.predictions.tolist() == order[:, 0].tolist()
    assert result.topk.tolist() == order[:, :3].tolist()
    assert np.allclose(result.topk_similarity, np.take_along_axis(s, order[:, :3], axis=1), atol=1e-6)
    if known.any():
        for k in (1, 3):
            assert result.recall_at_k[k] == np.mean([y in row[:k] for y, row in zip(labels[known], order[known])])
            assert result.recall_at_k[k] == metrics.recall_at_k(s, labels, min(k, num_classes))
        assert result.accuracy == result.recall_at_k[1]
    else:
        assert np.isnan(result.accuracy) and np.isnan(result.recall_at_k[3])
    assert result.n == known.sum() and result.num_unlabelled == (~known).sum() and result.num_classes == num_classes
    assert np.array_equal(result.confusion, metrics.confusion_matrix(order[:, 0], labels, num_classes))
    target = np.where(known, labels, order[:, 0])
    if num_classes > 1:
        others = s.copy()
        others[np.arange(count), target] = -np.inf
        assert np.allclose(result.margins, s[np.arange(count), target] - others.max(axis=1), atol=1e-6)
        assert result.rivals.tolist() == others.argmax(axis=1).tolist()
    else:
        assert np.isnan(result.margins).all() and (result.rivals == -1).all()
    for name, given_labels in (("", labels), ("pseudo_", None)):
        for reduction in ("image", "class"):
            expected = margin.class_wise_matching_margin(vectors, classifier, given_labels, reduction)
            assert np.allclose(result.cmm[name + reduction], expected, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("block_bytes", [1, 4 * 50 * 7])
def test_blocks_change_nothing(monkeypatch, block_bytes):
    rng = np.random.default_rng(0)
    vectors, classifier, labels = unit_rows(rng, 200, 32), unit_rows(rng, 50, 32), rng.integers(-1, 50, 200)
    whole = evaluate(vectors, classifier, labels)
    monkeypatch.setattr(similarity, "BLOCK_BYTES", block_bytes)
    assert same(evaluate(vectors, classifier, labels), whole)


def test_the_whole_matrix_never_exists(monkeypatch):
    count, num_classes = 20_000, 1000
    monkeypatch.setattr(similarity, "BLOCK_BYTES", 2**20)
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, count, 16), unit_rows(rng, num_classes, 16)
    tracemalloc.start()
    evaluate(vectors, classifier, rng.integers(0, num_classes, count))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4 * count * num_classes * 4  # of 80 MB; the confusion matrix and its copies are 8 MB each


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list])
def test_arrays_tensors_and_lists_agree(kind):
    vectors, classifier, labels = [[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.0, 1.0]], [0, 0]
    assert same(evaluate(kind(vectors), kind(classifier), kind(labels)), evaluate(np.array(vectors), np.array(classifier), labels))


def test_half_precision_is_computed_in_single():
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, 20, 8).astype(np.float16), unit_rows(rng, 5, 8).astype(np.float16)
    assert same(evaluate(vectors, classifier), evaluate(vectors.astype(np.float32), classifier.astype(np.float32)))


def test_without_labels_there_are_predictions_and_pseudo_margins_only():
    rng = np.random.default_rng(0)
    result = evaluate(unit_rows(rng, 9, 4), unit_rows(rng, 3, 4))
    assert (result.labels == -1).all() and result.n == 0 and result.confusion.sum() == 0
    assert np.isnan(result.cmm["image"]).all() and np.isfinite(result.cmm["pseudo_image"]).any()
    assert (result.margins >= 0).all()
    with pytest.raises(InputError, match=re.escape("Expected labelled images, got 9 with label -1: there is nothing to score")):
        result.summary()


def test_a_depth_above_the_number_of_classes_counts_as_all():
    result = evaluate(np.eye(3), np.eye(3), [2, 1, 0], ks=(2, 5))
    assert result.topk.shape == (3, 3) and result.recall_at_k[5] == 1.0
    assert result.recall_at_k[2] == pytest.approx(2 / 3)  # ties at 0: the lower index; image 0 ranks 0, 1, 2


@pytest.mark.parametrize(("call", "text"), [
    (lambda: evaluate(np.eye(2), np.eye(3)), "Expected `vectors` and `classifier` of one width D, got 2 and 3"),
    (lambda: evaluate(np.eye(2), np.eye(2), [0]), "Expected `labels` of shape (N,) = (2,), got (1,)"),
    (lambda: evaluate(np.eye(2), np.eye(2), [0, 2]), "Expected `labels` < 2 (the number of classes), got 2 at position 1"),
    (lambda: evaluate(np.eye(2), np.eye(2), [0.0, 1.0]), "Expected `labels` to hold integers (class indices), got float64"),
    (lambda: evaluate(np.eye(2), np.eye(2), ks=(0,)), "Expected `ks` >= 1, got 0"),
    (lambda: evaluate(np.eye(2), np.eye(2), ks=()), "Expected at least one depth in `ks`, got none"),
    (lambda: evaluate(np.eye(2) * np.nan, np.eye(2)), "Expected `vectors` to be finite, got 4 NaN or infinite value(s)"),
    (lambda: evaluate(np.eye(2), np.eye(2), [0, 1]).summary(k=0), "Expected `k` >= 1, got 0"),
])
def test_wrong_input_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


@pytest.fixture(scope="module")
def result():
    """40 classes of 6 images, right about half of the time; class 3 without images, five unknown labels."""
    rng = np.random.default_rng(1)
    classifier = unit_rows(rng, 40, 16)
    labels = np.repeat(np.delete(np.arange(40), 3), 6)
    vectors = similarity.unit_norm(classifier[labels] + 0.45 * rng.normal(size=(len(labels), 16))).astype(np.float32)
    labels = labels.copy()
    labels[:5] = -1
    return evaluate(vectors, classifier, labels)


def test_summary_has_every_score_with_an_interval_that_holds_it(result):
    summary = result.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == json.loads(json.dumps(summary))
    assert summary["n"] == 229 and summary["unlabelled"] == 5 and summary["classes"] == 40
    assert summary["classes_with_images"] == 39 and summary["chance"] == 1 / 40
    for name in ("accuracy", "recall_at_5", "mean_per_class_accuracy", "worst_10", "worst_10_honest", "classes_at_zero",
                 "harmonic_mean", "geometric_mean"):
        low, high = summary[f"{name}_ci"]
        assert 0 <= low <= summary[name] <= high, name
        assert low < high or summary[name] == 0, name
    assert 0.3 < summary["accuracy"] < 0.9  # the case is neither trivial nor hopeless
    assert summary["accuracy"] == result.accuracy and summary["worst_10"] == worst.worst_k_accuracy(result.per_class_accuracy, 10)
    assert summary["accuracy_ci"] == result.accuracy_ci == metrics.wilson_interval(round(result.accuracy * 229), 229)
    assert summary["classes_at_zero"] == worst.classes_at_zero(result.per_class_accuracy)
    assert math.isclose(summary["mean_per_class_accuracy"], np.nanmean(result.per_class_accuracy))


def test_summary_repeats_with_the_seed(result):
    assert result.summary(seed=1) == result.summary(seed=1) != result.summary(seed=2)


def test_summary_of_fewer_classes_than_k():
    summary = evaluate(np.eye(3), np.eye(3), [0, 1, 1]).summary()
    assert summary["worst_2"] == 0.75 and "worst_10" not in summary and "worst_2_honest" not in summary
    assert np.isfinite([v for value in summary.values() for v in np.atleast_1d(value)]).all()


def test_classes_at_zero_lie_inside_their_interval():
    # Three images a class: a plain bootstrap turns classes of one in three into 0 and never brings one back.
    rng = np.random.default_rng(0)
    truth = rng.beta(1.2, 0.5, 600)
    labels = np.repeat(np.arange(600), 3)
    predictions = np.where(rng.random(1800) < truth[labels], labels, (labels + 1) % 600)
    eye = np.eye(600, dtype=np.float32)
    summary = evaluate(eye[predictions], eye, labels).summary(resamples=50)
    low, high = summary["classes_at_zero_ci"]
    expected = ((1 - truth) ** 3).sum()  # what another draw of the images gives on average
    assert low < summary["classes_at_zero"] < high and low < expected < high


def test_a_classifier_is_the_renormalised_mean_of_its_prompts(tiny):
    names, templates = ["dog", "fire engine"], ["{}", "a photo of a {}."]
    bank = prompt_vectors(tiny, names, templates)
    assert bank.shape == (2, 2, 16) and bank.dtype == np.float32
    from clipnb import encode_texts

    for t, template in enumerate(templates):
        expected = encode_texts(tiny, [template.replace("{}", name) for name in names])
        assert np.allclose(bank[t], expected, atol=1e-6)
    classifier = zero_shot_classifier(tiny, names, templates)
    mean = bank.mean(axis=0)
    assert np.allclose(classifier, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    assert np.allclose(np.linalg.norm(classifier, axis=1), 1, atol=1e-6)
    assert np.allclose(zero_shot_classifier(tiny, names), bank[0], atol=1e-6)  # the default is the bare name


@pytest.mark.parametrize("name", ['the "big" one', "it's {odd}", "a{}b", "red, green; blue", "собака", "犬", "naïve café", "%s \\n"])
def test_classnames_survive_the_template(tiny, name):
    from clipnb import encode_texts

    found = prompt_vectors(tiny, [name, "dog"], ["a photo of a {}."])[0, 0]
    assert np.allclose(found, encode_texts(tiny, ["a photo of a " + name + "."])[0], atol=1e-6)
    assert not np.allclose(found, encode_texts(tiny, ["a photo of a ."])[0], atol=1e-3)
