import json
import math
import pickle
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipnb import Embeddings, intervals, margin, metrics, similarity, worst
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, evaluate, evaluate_prompts, evaluate_store
from tests.support.shared import same_classes, unit_rows

NAN = float("nan")


def same(result, other, vectors):
    """Whether two results have the same classes and counts, except for near ties, and similarities up to rounding."""
    scores = np.asarray(vectors, dtype=float) @ result.classifier.astype(float).T
    assert np.array_equal(result.labels, other.labels) and result.ks == other.ks
    for name in ("topk", "rivals"):
        assert same_classes(getattr(result, name), getattr(other, name), scores), name
    for name in ("topk_similarity", "margins", "pseudo_margins"):
        assert np.allclose(getattr(result, name), getattr(other, name), rtol=0, atol=1e-6, equal_nan=True), name
    if np.array_equal(result.topk, other.topk):  # no near tie
        for name in ("predictions", "confusion", "per_class_accuracy", "per_class_precision"):
            assert np.array_equal(
                getattr(result, name), getattr(other, name), equal_nan=getattr(result, name).dtype.kind == "f"
            ), name
        for name in ("recall_at_k", "accuracy", "mean_per_class_accuracy"):
            assert str(getattr(result, name)) == str(getattr(other, name)), name
        assert np.allclose(result.vector_sums, other.vector_sums, rtol=0, atol=1e-9)
        for name in result.cmm:
            assert np.allclose(result.cmm[name], other.cmm[name], rtol=0, atol=1e-6, equal_nan=True), name
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
    assert same_classes(result.topk, order[:, :3], s)
    if tied:  # these similarities are exact
        assert result.topk.tolist() == order[:, :3].tolist()
    near_tie = result.topk.tolist() != order[:, :3].tolist()
    order[:, :3] = result.topk
    assert np.allclose(result.topk_similarity, np.take_along_axis(s, order[:, :3], axis=1), atol=1e-6)
    if known.any():
        for k in (1, 3):
            assert result.recall_at_k[k] == np.mean([y in row[:k] for y, row in zip(labels[known], order[known])])
            assert near_tie or result.recall_at_k[k] == metrics.recall_at_k(s, labels, min(k, num_classes))
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
        assert same_classes(result.rivals, others.argmax(axis=1), s)
    else:
        assert np.isnan(result.margins).all() and (result.rivals == -1).all()
    for name, given_labels in (("", labels), ("pseudo_", None)):
        for reduction in ("image", "class"):
            expected = margin.class_wise_matching_margin(vectors, classifier, given_labels, reduction)
            assert np.allclose(result.cmm[name + reduction], expected, rtol=0, atol=1e-6, equal_nan=True)


@given(st.integers(2, 700), st.integers(1, 40), st.integers(0, 10**6), st.data())
def test_parts_add_up_to_the_whole(count, num_classes, seed, data):
    rng = np.random.default_rng(seed)
    vectors, classifier = unit_rows(rng, count, 24), unit_rows(rng, num_classes, 24)
    labels = rng.integers(-1, num_classes, count)
    whole = evaluate(vectors, classifier, labels)
    cuts = sorted(data.draw(st.lists(st.integers(1, count - 1), max_size=4, unique=True)))
    rows = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, count])]
    parts = [pickle.loads(pickle.dumps(evaluate(vectors[r], classifier, labels[r]))) for r in rows]
    assert same(EvaluationResult.merge(iter(parts)), whole, vectors)
    if len(parts) > 2:  # merging in steps
        assert same(EvaluationResult.merge([parts[0], EvaluationResult.merge(parts[1:])]), whole, vectors)
    backwards = EvaluationResult.merge(parts[::-1])
    place = np.concatenate([np.arange(count)[r] for r in rows[::-1]])
    assert same(backwards, evaluate(vectors[place], classifier, labels[place]), vectors[place])


@pytest.mark.parametrize("num_classes", [5, 6, 7, 9, 10, 11, 40])
def test_the_lower_of_equal_classes_is_predicted_however_images_are_cut(num_classes):
    """For these numbers of classes, products on some processors round rows and columns differently by their place."""
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, 500, 32), unit_rows(rng, num_classes, 32)
    classifier[-1] = classifier[1] = classifier[0]
    for rows in (slice(None), slice(1), slice(0, 3), slice(3, 387), slice(100, 499)):
        result = evaluate(vectors[rows], classifier)
        assert not np.isin(result.predictions, [1, num_classes - 1]).any()
        best = result.predictions == 0
        assert best.any() and (result.pseudo_margins[best] == 0).all() and (result.topk[best, 1] == 1).all()
        prompts = evaluate_prompts(vectors[rows], classifier[None])
        assert not np.isin(prompts.predictions, [1, num_classes - 1]).any()


def test_parts_that_do_not_belong_together_raise():
    result = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
    for other, text in (
        (evaluate(np.eye(3), np.eye(3)[::-1], [0, 1, 2]), "one `classifier`, got another classifier"),
        (evaluate(np.eye(3), np.eye(3), [0, 1, 2], ks=(1,)), "one `ks` = (1, 5), got `ks` = (1,)"),
    ):
        with pytest.raises(InputError, match=re.escape(f"Expected parts with {text}") + "$"):
            EvaluationResult.merge([result, other])
    with pytest.raises(InputError, match="Expected at least one result to merge, got none"):
        EvaluationResult.merge([])


def test_a_store_is_evaluated_shard_by_shard(tmp_path):
    rng = np.random.default_rng(0)
    labels, classifier = rng.integers(-1, 9, 1500), unit_rows(rng, 9, 16)
    images = Embeddings(unit_rows(rng, 1500, 16), labels, [str(i) for i in range(1500)], list("abcdefghi"))
    images.save(tmp_path, shard_size=600)  # the first two are larger than a block
    assert same(evaluate_store(tmp_path, classifier), evaluate(images.vectors, classifier, labels), images.vectors)
    (tmp_path / "part-000000600.parquet").unlink()
    with pytest.raises(InputError, match="is not complete"):
        evaluate_store(tmp_path, classifier)


def test_class_similarity_is_the_mean_over_a_classs_images():
    rng = np.random.default_rng(0)
    vectors, classifier, labels = unit_rows(rng, 90, 8), unit_rows(rng, 5, 8), rng.integers(-1, 4, 90)
    found = evaluate(vectors, classifier, labels).class_similarity
    for c in range(4):
        assert np.allclose(found[c], (vectors[labels == c] @ classifier.T).mean(axis=0), atol=1e-6)
    assert np.isnan(found[4]).all()


@pytest.mark.parametrize("num_classes", [1, 2, 12])
def test_many_prompts_equal_one_evaluation_each(num_classes):
    rng = np.random.default_rng(0)
    vectors, bank, labels = (
        unit_rows(rng, 700, 16),
        unit_rows(rng, 5, num_classes, 16),
        rng.integers(-1, num_classes, 700),
    )
    for given_labels in (labels, None):
        found = evaluate_prompts(vectors, bank, given_labels, ks=(1, 3))
        for p, classifier in enumerate(bank):
            one = evaluate(vectors, classifier, given_labels, ks=(1, 3))
            assert np.array_equal(found.predictions[p], one.predictions) and np.array_equal(found.labels, one.labels)
            assert np.array_equal(found.per_class_accuracy[p], one.per_class_accuracy, equal_nan=True)
            for k in (1, 3):
                assert np.array_equal(found.recall_at_k[k][p], one.recall_at_k[k], equal_nan=True)
            for name in ("accuracy", "mean_per_class_accuracy"):
                assert getattr(found, name)[p] == pytest.approx(getattr(one, name), nan_ok=True)
            for name in one.cmm:
                assert np.allclose(found.cmm[name][p], one.cmm[name], rtol=0, atol=1e-6, equal_nan=True), name


def test_many_prompts_never_hold_the_cube():
    rng = np.random.default_rng(0)
    vectors, bank = unit_rows(rng, 2000, 8), unit_rows(rng, 10, 500, 8)
    tracemalloc.start()
    evaluate_prompts(vectors, bank, rng.integers(0, 500, 2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * 2000 * 10 * 500 * 4  # of 40 MB; each core holds a block of one prompt, many cores all of it


@pytest.mark.parametrize("block_bytes", [1, 4 * 50 * 7])
def test_blocks_change_nothing(monkeypatch, block_bytes):
    rng = np.random.default_rng(0)
    vectors, classifier, labels = unit_rows(rng, 200, 32), unit_rows(rng, 50, 32), rng.integers(-1, 50, 200)
    whole = evaluate(vectors, classifier, labels)
    monkeypatch.setattr(similarity, "BLOCK_BYTES", block_bytes)
    assert same(evaluate(vectors, classifier, labels), whole, vectors)


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
    assert same(
        evaluate(kind(vectors), kind(classifier), kind(labels)),
        evaluate(np.array(vectors), np.array(classifier), labels),
        vectors,
    )


def test_half_precision_is_computed_in_single():
    rng = np.random.default_rng(0)
    vectors, classifier = unit_rows(rng, 20, 8).astype(np.float16), unit_rows(rng, 5, 8).astype(np.float16)
    assert same(
        evaluate(vectors, classifier), evaluate(vectors.astype(np.float32), classifier.astype(np.float32)), vectors
    )


def test_without_labels_there_are_predictions_and_pseudo_margins_only():
    rng = np.random.default_rng(0)
    result = evaluate(unit_rows(rng, 9, 4), unit_rows(rng, 3, 4))
    assert (result.labels == -1).all() and result.n == 0 and result.confusion.sum() == 0
    assert np.isnan(result.cmm["image"]).all() and np.isfinite(result.cmm["pseudo_image"]).any()
    assert (result.margins >= 0).all()
    with pytest.raises(
        InputError, match=re.escape("Expected labelled images, got 9 with label -1: there is nothing to score")
    ):
        result.summary()


def test_a_depth_above_the_number_of_classes_counts_as_all():
    result = evaluate(np.eye(3), np.eye(3), [2, 1, 0], ks=(2, 5))
    assert result.topk.shape == (3, 3) and result.recall_at_k[5] == 1.0
    assert result.recall_at_k[2] == pytest.approx(2 / 3)  # ties at 0: the lower index; image 0 ranks 0, 1, 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: evaluate(np.eye(2), np.eye(3)), "Expected `vectors` and `classifier` of one width D, got 2 and 3"),
        (lambda: evaluate(np.eye(2), np.eye(2), [0]), "Expected `labels` of shape (N,) = (2,), got (1,)"),
        (
            lambda: evaluate(np.eye(2), np.eye(2), [0, 2]),
            "Expected `labels` < 2 (the number of classes), got 2 at position 1",
        ),
        (
            lambda: evaluate(np.eye(2), np.eye(2), [0.0, 1.0]),
            "Expected `labels` to hold integers (class indices), got float64",
        ),
        (lambda: evaluate(np.eye(2), np.eye(2), ks=(0,)), "Expected `ks` >= 1, got 0"),
        (lambda: evaluate(np.eye(2), np.eye(2), ks=()), "Expected at least one depth in `ks`, got none"),
        (
            lambda: evaluate(np.eye(2) * np.nan, np.eye(2)),
            "Expected `vectors` to be finite, got 4 NaN or infinite value(s)",
        ),
        (
            lambda: evaluate([[1.0, 0.0], [0.0, -np.inf]], np.eye(2)),
            "Expected `vectors` to be finite, got 1 NaN or infinite value(s)",
        ),
        (
            lambda: evaluate(np.eye(2), 2 * np.eye(2)),
            "Expected `classifier` of unit norm, got norms from 2 to 2; divide each row by its norm",
        ),
        (
            lambda: evaluate(7 * np.eye(2), np.eye(2)),
            "Expected `vectors` of unit norm, got norms from 7 to 7; divide each row by its norm",
        ),
        (
            lambda: evaluate_prompts(np.eye(2), 2 * np.eye(2)[None]),
            "Expected `bank` of unit norm, got norms from 2 to 2",
        ),
        (
            lambda: evaluate(np.eye(2), np.full((2, 2), np.inf)),
            "Expected `classifier` to be finite, got 4 NaN or infinite value(s)",
        ),
        (lambda: evaluate(np.eye(2), np.eye(2), [0, 1]).summary(k=0), "Expected `k` >= 1, got 0"),
        (lambda: evaluate(np.eye(2), np.eye(2), device="abacus"), "Device 'abacus' cannot be used here: "),
        (lambda: evaluate_prompts(np.eye(2), np.eye(2)), "Expected `bank` to have 3 dimension(s), got shape (2, 2)"),
        (
            lambda: evaluate_prompts(np.eye(2), np.eye(3)[None]),
            "Expected `vectors` and `classifier` of one width D, got 2 and 3",
        ),
        (
            lambda: evaluate_prompts(np.eye(2), np.eye(2)[None], [0, 2]),
            "Expected `labels` < 2 (the number of classes), got 2",
        ),
    ],
)
def test_wrong_input_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


@given(st.integers(0, 10**6), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(1, 4))
def test_one_value_that_is_not_finite_is_an_error_wherever_it_stands(seed, value, num_classes):
    rng = np.random.default_rng(seed)
    vectors, classifier = unit_rows(rng, 30, 3), np.eye(4, 3, dtype=np.float32)[:num_classes]
    vectors[rng.integers(30), rng.integers(3)] = value
    with pytest.raises(InputError, match="Expected `vectors` to be finite, got 1 NaN or infinite value"):
        evaluate(vectors, classifier)


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


def test_summary_is_the_scores_as_numbers(result):
    scores, summary = result.scores(), result.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == json.loads(json.dumps(summary))
    assert summary["n"] == 229 and summary["unlabelled"] == 5 and summary["classes"] == 40
    assert summary["classes_with_images"] == 39 and summary["chance"] == 1 / 40
    assert (summary["worst_k"], summary["worst_k_classes"]) == (10, 10)
    for name, score in scores.items():
        key = name.replace("worst_k", "worst_10")
        assert summary[key] is None if np.isnan(score.value) else summary[key] == pytest.approx(score.value), name
        assert summary[f"{key}_ci"] == ((score.low, score.high) if score.has_interval else None), name
    for name in ("accuracy", "recall_at_5", "mean_per_class_accuracy", "worst_10_split_half", "classes_at_zero"):
        low, high = summary[f"{name}_ci"]
        assert 0 <= low <= summary[name] <= high and low < high, name
    # noise pulls these down by an unknown amount, and six images a class fix no point for the truly worst
    assert (
        summary["worst_10_ci"]
        is summary["harmonic_mean_ci"]
        is summary["geometric_mean_ci"]
        is summary["worst_10_truly_worst"]
        is None
    )
    assert summary["worst_10_truly_worst_ci"] == summary["worst_k_possible"]
    assert 0.3 < summary["accuracy"] < 0.9  # the case is neither trivial nor hopeless
    assert summary["accuracy"] == result.accuracy and summary["worst_10"] == worst.worst_k_accuracy(
        result.per_class_accuracy, 10
    )
    assert summary["accuracy_ci"] == result.accuracy_ci == intervals.proportion(round(result.accuracy * 229), 229)[1:]
    assert summary["classes_at_zero"] == worst.classes_at_zero(result.per_class_accuracy)
    assert math.isclose(summary["mean_per_class_accuracy"], np.nanmean(result.per_class_accuracy))


def test_summary_repeats_with_the_seed(result):
    assert result.summary(seed=1) == result.summary(seed=1) != result.summary(seed=2)


def test_summary_of_fewer_classes_than_k():
    summary = evaluate(np.eye(3), np.eye(3), [0, 1, 1]).summary()
    assert summary["worst_10"] == 0.75 and summary["worst_k_classes"] == 2 and "worst_10_split_half" not in summary
    assert np.isfinite([v for value in summary.values() if value is not None for v in np.atleast_1d(value)]).all()


def test_classes_at_zero_lie_inside_their_interval():
    # Three images a class: a plain bootstrap turns classes of one in three into 0 and never brings one back.
    rng = np.random.default_rng(0)
    truth = rng.beta(1.2, 0.5, 600)
    labels = np.repeat(np.arange(600), 3)
    predictions = np.where(rng.random(1800) < truth[labels], labels, (labels + 1) % 600)
    eye = np.eye(600, dtype=np.float32)
    summary = evaluate(eye[predictions], eye, labels).summary()
    low, high = summary["classes_at_zero_ci"]
    expected = ((1 - truth) ** 3).sum()  # what another draw of the images gives on average
    assert low < summary["classes_at_zero"] < high and low < expected < high


def test_it_needs_torch_for_computing_only():
    """Modules that take arrays are imported where there is no torch."""
    arrays = "metrics, worst, margin, ensemble, explain, evaluation".split(", ")
    code = f"import sys; sys.modules['torch'] = None; import {', '.join(f'clipnb.{name}' for name in arrays)}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
