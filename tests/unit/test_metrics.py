import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from clipnb import metrics
from clipnb.errors import InputError

NAN = float("nan")


def same(a, b):
    return np.allclose(a, b, rtol=0, atol=1e-12, equal_nan=True)


@st.composite
def classified(draw):
    """(predictions, labels, C): any number of images and classes, some labels unknown, some classes absent."""
    num_classes = draw(st.integers(1, 6))
    pairs = draw(
        st.lists(st.tuples(st.integers(0, num_classes - 1), st.integers(-1, num_classes - 1)), min_size=1, max_size=40)
    )
    predictions, labels = np.array(pairs).T
    return predictions, labels, num_classes


@st.composite
def scored(draw):
    """(similarity (N, C), labels): few distinct scores, so that ties are common."""
    count, num_classes = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    values = draw(st.lists(st.integers(-2, 2), min_size=count * num_classes, max_size=count * num_classes))
    labels = draw(st.lists(st.integers(0, num_classes - 1), min_size=count, max_size=count))
    return np.array(values, dtype=float).reshape(count, num_classes), np.array(labels)


@st.composite
def gallery(draw):
    """(scores, positives) with at least one positive; half of the cases full of ties."""
    spread = draw(st.sampled_from([3, 10**6]))
    pairs = draw(st.lists(st.tuples(st.integers(-spread, spread), st.booleans()), min_size=1, max_size=40))
    scores, positives = np.array([s / 7 for s, _ in pairs]), np.array([p for _, p in pairs])
    positives[draw(st.integers(0, len(pairs) - 1))] = True
    return scores, positives


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(classified())
def test_confusion_and_averages_equal_scikit_learn(case):
    predictions, labels, num_classes = case
    confusion = metrics.confusion_matrix(predictions, labels, num_classes)
    known = labels >= 0
    assert confusion.dtype == np.int64 and confusion.shape == (num_classes, num_classes)
    if not known.any():
        assert confusion.sum() == 0 and np.isnan(metrics.accuracy(predictions, labels))
        assert (
            np.isnan(metrics.mean_per_class_accuracy(confusion))
            and np.isnan(metrics.per_class_accuracy(confusion)).all()
        )
        return
    p, y = predictions[known], labels[known]
    assert np.array_equal(confusion, sk.confusion_matrix(y, p, labels=range(num_classes)))
    assert same(metrics.accuracy(predictions, labels), sk.accuracy_score(y, p))
    # scikit-learn's balanced accuracy is the mean recall over the classes that occur: the same definition
    recalls = sk.recall_score(y, p, labels=range(num_classes), average=None, zero_division=np.nan)
    assert same(metrics.per_class_accuracy(confusion), recalls)
    assert same(metrics.mean_per_class_accuracy(confusion), np.nanmean(recalls))
    assert same(
        metrics.per_class_precision(confusion),
        sk.precision_score(y, p, labels=range(num_classes), average=None, zero_division=np.nan),
    )


@given(scored())
def test_recall_at_k_is_a_stable_sort(case):
    similarity, labels = case
    for k in range(1, similarity.shape[1] + 1):
        naive = np.mean(
            [y in sorted(range(len(row)), key=lambda c: (-row[c], c))[:k] for row, y in zip(similarity, labels)]
        )
        assert metrics.recall_at_k(similarity, labels, k) == naive


@given(scored())
def test_recall_at_k_equals_scikit_learn_without_ties(case):
    # On ties scikit-learn takes the higher class index, clipnb the lower: so they are compared on distinct scores.
    similarity, labels = case
    num_classes = similarity.shape[1]
    similarity = similarity + np.linspace(0, 0.5, similarity.size).reshape(similarity.shape)
    for k in range(1, num_classes):
        if num_classes > 2:  # with two columns scikit-learn expects one score an image
            assert same(
                metrics.recall_at_k(similarity, labels, k),
                sk.top_k_accuracy_score(labels, similarity, k=k, labels=range(num_classes)),
            )


@given(gallery())
def test_precision_recall_equals_scikit_learn(case):
    scores, positives = case
    for ours, theirs in zip(
        metrics.precision_recall_curve(scores, positives), sk.precision_recall_curve(positives, scores)
    ):
        assert same(ours, theirs)
    assert same(metrics.average_precision(scores, positives), sk.average_precision_score(positives, scores))


@given(gallery(), st.integers(1, 40))
def test_retrieval_recall_counts_found_of_all_relevant(case, k):
    scores, positives = case
    k = min(k, len(scores))
    first = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert same(
        metrics.retrieval_recall_at_k(scores[None], positives[None], k), positives[first].sum() / positives.sum()
    )


def test_ties_go_to_the_lower_class():
    flat = [[0.5, 0.5, 0.5]]
    assert [metrics.recall_at_k(flat, [label], 1) for label in range(3)] == [1.0, 0.0, 0.0]
    assert [metrics.recall_at_k(flat, [label], 2) for label in range(3)] == [1.0, 1.0, 0.0]
    assert metrics.label_rank([[0.1, 0.5, 0.5, 0.9]] * 2, [1, 2]).tolist() == [1, 2]
    assert metrics.retrieval_recall_at_k([[0.5, 0.5]], [[0, 1]], 1) == 0.0


def test_the_two_recalls_are_different_numbers():
    similarity, relevant = [[0.9, 0.8, 0.1]], [[1, 0, 1]]
    assert metrics.retrieval_recall_at_k(similarity, relevant, 2) == 0.5  # one of two relevant found
    assert metrics.recall_at_k(similarity, [0], 2) == 1.0  # the one label found
    # a query without relevant items is left out, and no query at all is NaN
    assert metrics.retrieval_recall_at_k(similarity * 2, [[1, 0, 1], [0, 0, 0]], 2) == 0.5
    assert np.isnan(metrics.retrieval_recall_at_k(similarity, [[0, 0, 0]], 2))


def test_absent_classes_are_nan_never_zero():
    confusion = metrics.confusion_matrix([0, 2, 2], [0, 0, 2], 4)
    assert same(metrics.per_class_accuracy(confusion), [0.5, NAN, 1.0, NAN])
    assert same(metrics.per_class_precision(confusion), [1.0, NAN, 0.5, NAN])
    assert metrics.mean_per_class_accuracy(confusion) == 0.75
    assert same(metrics.per_class_accuracy([[0, 0], [3, 0]]), [NAN, 0.0])  # here is a real 0


def test_one_class_and_one_image():
    assert metrics.confusion_matrix([0], [0], 1).tolist() == [[1]]
    assert metrics.accuracy([0], [0]) == metrics.recall_at_k([[0.3]], [0], 1) == 1.0
    assert metrics.average_precision([0.3], [True]) == 1.0


def test_unknown_labels_are_left_out():
    assert metrics.accuracy([0, 1, 1], [0, -1, 0]) == 0.5
    assert metrics.confusion_matrix([0, 1, 1], [0, -1, 0], 2).tolist() == [[1, 1], [0, 0]]
    assert metrics.recall_at_k([[1, 0], [1, 0], [1, 0]], [0, -1, 1], 1) == 0.5
    for nothing in (metrics.accuracy([0], [-1]), metrics.recall_at_k([[1.0]], [-1], 1), metrics.accuracy([], [])):
        assert np.isnan(nothing)


def test_tied_scores_cross_the_threshold_together():
    precision, recall, thresholds = metrics.precision_recall_curve([0.5, 0.5, 0.2], [True, False, False])
    assert same(precision, [1 / 3, 0.5, 1]) and same(recall, [1, 1, 0]) and same(thresholds, [0.2, 0.5])


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list])
def test_arrays_tensors_and_lists_agree(kind):
    similarity, labels, positives = [[0.1, 0.9], [0.8, 0.2]], [1, 1], [True, False]
    s = kind(similarity)
    assert metrics.accuracy(kind([1, 0]), kind(labels)) == 0.5
    assert metrics.recall_at_k(s, kind(labels), 1) == 0.5
    assert metrics.retrieval_recall_at_k(s, kind([[1, 0], [1, 0]]), 1) == 0.5
    assert metrics.confusion_matrix(kind([1, 0]), kind(labels), 2).tolist() == [[0, 0], [1, 1]]
    assert metrics.average_precision(kind([0.1, 0.2]), kind(positives)) == 0.5
    assert same(metrics.per_class_accuracy(kind([[1, 0], [1, 1]])), [1.0, 0.5])


def test_inputs_are_not_changed():
    similarity, labels = np.array([[0.2, 0.7]]), np.array([-1])
    confusion = np.array([[2, 0], [0, 0]])
    before = similarity.copy(), labels.copy(), confusion.copy()
    metrics.recall_at_k(similarity, labels, 1), metrics.accuracy([0], labels), metrics.per_class_accuracy(confusion)
    assert all(np.array_equal(a, b) for a, b in zip(before, (similarity, labels, confusion)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: metrics.accuracy([0, 1], [0]), "Expected `labels` of shape (N,) = (2,), got (1,)"),
        (lambda: metrics.accuracy([-1], [0]), "Expected `predictions` >= 0, got -1 at position 0"),
        (
            lambda: metrics.accuracy([0], [-2]),
            "Expected `labels` >= -1 (-1 stands for an unknown label), got -2 at position 0",
        ),
        (lambda: metrics.accuracy([0.0], [0]), "Expected `predictions` to hold integers (class indices), got float64"),
        (
            lambda: metrics.recall_at_k([[NAN, 1.0]], [0], 1),
            "Expected `similarity` to be finite, got 1 NaN or infinite value(s)",
        ),
        (
            lambda: metrics.recall_at_k([[np.inf, 1.0]], [0], 1),
            "Expected `similarity` to be finite, got 1 NaN or infinite value(s)",
        ),
        (
            lambda: metrics.recall_at_k([[0.0, 1.0]], [2], 1),
            "Expected `labels` < 2 (the number of classes), got 2 at position 0",
        ),
        (lambda: metrics.recall_at_k([[0.0, 1.0]], [0], 3), "Expected `k` between 1 and 2, got 3"),
        (lambda: metrics.recall_at_k([[0.0, 1.0]], [0], 0), "Expected `k` between 1 and 2, got 0"),
        (
            lambda: metrics.retrieval_recall_at_k([[0.0, 1.0]], [[1]], 1),
            "Expected `relevant` of shape (1, 2), got (1, 1)",
        ),
        (
            lambda: metrics.retrieval_recall_at_k([[0.0, 1.0]], [[1, -1]], 1),
            "Expected `relevant` to hold booleans (or 0 and 1)",
        ),
        (
            lambda: metrics.confusion_matrix([0], [3], 3),
            "Expected `labels` < 3 (the number of classes), got 3 at position 0",
        ),
        (
            lambda: metrics.confusion_matrix([3], [0], 3),
            "Expected `predictions` < 3 (the number of classes), got 3 at position 0",
        ),
        (lambda: metrics.confusion_matrix([0], [0], 0), "Expected `num_classes` >= 1, got 0"),
        (lambda: metrics.per_class_accuracy([[1, 2]]), "Expected `confusion` to be square, got shape (1, 2)"),
        (lambda: metrics.per_class_accuracy([[-1]]), "Expected `confusion` to hold counts >= 0, got -1"),
        (lambda: metrics.average_precision([0.1], [False]), "Expected at least one positive in `positives`, got none"),
        (
            lambda: metrics.average_precision([NAN], [True]),
            "Expected `scores` to be finite, got 1 NaN or infinite value(s)",
        ),
        (
            lambda: metrics.precision_recall_curve([0.1, 0.2], [1, 2]),
            "Expected `positives` to hold booleans (or 0 and 1)",
        ),
    ],
)
def test_wrong_input_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_calibration_bins_by_hand():
    mean, accurate, images = metrics.calibration_bins([0.0, 0.49, 0.5, 1.0], [False, True, True, False], bins=2)
    assert (
        mean.tolist() == pytest.approx([0.245, 0.75]) and accurate.tolist() == [0.5, 0.5] and images.tolist() == [2, 2]
    )
    mean, accurate, images = metrics.calibration_bins([0.95], [True])
    assert images.tolist() == [0] * 9 + [1] and np.isnan(mean[:9]).all() and np.isnan(accurate[:9]).all()
    assert metrics.expected_calibration_error([0.9] * 10, [1] * 9 + [0]) == pytest.approx(0)
    assert metrics.expected_calibration_error([1.0] * 4, [0] * 4) == 1
    assert np.isnan(metrics.expected_calibration_error([], []))


@given(st.integers(1, 300), st.integers(1, 15), st.integers(0, 10**6))
def test_calibration_bins_equal_scikit_learns(count, bins, seed):
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(count), rng.random(count) < 0.5
    mean, accurate, images = metrics.calibration_bins(confidence, correct, bins)
    theirs = calibration_curve(correct, confidence, n_bins=bins, pos_label=True)
    assert (
        np.allclose(accurate[images > 0], theirs[0])
        and np.allclose(mean[images > 0], theirs[1])
        and images.sum() == count
    )
    error = metrics.expected_calibration_error(confidence, correct, bins)
    assert error <= 1 and error >= abs(confidence.mean() - correct.mean()) - 1e-12


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: metrics.calibration_bins([1.5], [True]), "Expected `confidence` in [0, 1], got 1.5 to 1.5"),
        (lambda: metrics.calibration_bins([0.5], [True], bins=0), "Expected `bins` >= 1, got 0"),
        (lambda: metrics.calibration_bins([0.5], [True, False]), "Expected `correct` of shape (1,), got (2,)"),
    ],
)
def test_wrong_input_of_comparisons_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_bins_are_exact_at_their_edges():
    for bins in (10, 22, 29, 57):
        images = metrics.calibration_bins(np.arange(bins + 1) / bins, np.ones(bins + 1, dtype=bool), bins)[2]
        assert images.tolist() == [1] * (bins - 1) + [2]  # an edge belongs to the bin above it, and 1 to the last one


@given(classified(), st.integers(0, 10**6))
def test_weighted_images_equal_scikit_learns(case, seed):
    predictions, labels, num_classes = case
    known = labels >= 0
    weights = np.random.default_rng(seed).integers(1, 4, len(labels)).astype(float)
    assert np.allclose(
        metrics.confusion_matrix(predictions, labels, num_classes, weights),
        sk.confusion_matrix(labels[known], predictions[known], labels=range(num_classes), sample_weight=weights[known])
        if known.any()
        else np.zeros((num_classes, num_classes)),
    )
    expected = (
        sk.accuracy_score(labels[known], predictions[known], sample_weight=weights[known]) if known.any() else NAN
    )
    assert same(metrics.accuracy(predictions, labels, weights), expected)
    assert (
        metrics.accuracy(predictions, labels, np.ones(len(labels))) == metrics.accuracy(predictions, labels)
        or not known.any()
    )


@given(classified())
def test_f1_and_balanced_accuracy_equal_scikit_learns(case):
    predictions, labels, num_classes = case
    known = labels >= 0
    confusion = metrics.confusion_matrix(predictions, labels, num_classes)
    f1 = metrics.per_class_f1(confusion)
    theirs = (
        sk.f1_score(labels[known], predictions[known], labels=range(num_classes), average=None, zero_division=0)
        if known.any()
        else f1
    )
    present = confusion.sum(axis=1) > 0
    assert same(f1[present], theirs[present]) and np.isnan(f1[~present]).all()
    if known.any():
        assert same(metrics.mean_per_class_f1(confusion), theirs[present].mean())


@given(gallery(), st.integers(1, 40))
def test_a_hit_is_any_relevant_item_among_the_first(case, k):
    scores, positives = case
    k = min(k, len(scores))
    first = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert metrics.hit_at_k(scores[None], positives[None], k) == float(positives[first].any())
    assert metrics.hit_at_k(scores[None], positives[None], k) >= metrics.retrieval_recall_at_k(
        scores[None], positives[None], k
    )


def test_five_captions_an_image_count_as_one_hit():
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(40, 200))
    relevant = np.repeat(np.eye(40, dtype=bool), 5, axis=1)
    assert metrics.retrieval_recall_at_k(similarity + 3 * relevant, relevant, 1) <= 0.2
    assert metrics.hit_at_k(similarity + 3 * relevant, relevant, 1) > 0.5


def test_what_moved_still_works_and_says_where_to():
    with pytest.warns(DeprecationWarning, match=r"clipnb\.intervals\.wilson_interval"):
        assert metrics.wilson_interval(0, 3)[0] == 0
    with pytest.raises(AttributeError, match="no_such_metric"):
        _ = metrics.no_such_metric


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, NAN], "text"])
def test_wrong_weights_are_one_clear_error(weights):
    with pytest.raises(InputError, match=r"^Expected `sample_weight`"):
        metrics.accuracy([0, 1], [0, 1], weights)
