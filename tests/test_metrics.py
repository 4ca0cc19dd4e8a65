import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
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
    pairs = draw(st.lists(st.tuples(st.integers(0, num_classes - 1), st.integers(-1, num_classes - 1)), min_size=1, max_size=40))
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
        assert np.isnan(metrics.mean_per_class_accuracy(confusion)) and np.isnan(metrics.per_class_accuracy(confusion)).all()
        return
    p, y = predictions[known], labels[known]
    assert np.array_equal(confusion, sk.confusion_matrix(y, p, labels=range(num_classes)))
    assert same(metrics.accuracy(predictions, labels), sk.accuracy_score(y, p))
    # scikit-learn's balanced accuracy is the mean recall over the classes that occur: the same definition
    recalls = sk.recall_score(y, p, labels=range(num_classes), average=None, zero_division=np.nan)
    assert same(metrics.per_class_accuracy(confusion), recalls)
    assert same(metrics.mean_per_class_accuracy(confusion), np.nanmean(recalls))
    assert same(metrics.per_class_precision(confusion),
                sk.precision_score(y, p, labels=range(num_classes), average=None, zero_division=np.nan))


@given(scored())
def test_recall_at_k_is_a_stable_sort(case):
    similarity, labels = case
    for k in range(1, similarity.shape[1] + 1):
        naive = np.mean([y in sorted(range(len(row)), key=lambda c: (-row[c], c))[:k] for row, y in zip(similarity, labels)])
        assert metrics.recall_at_k(similarity, labels, k) == naive


@given(scored())
def test_recall_at_k_equals_scikit_learn_without_ties(case):
    # On ties scikit-learn takes the higher class index, clipnb the lower: so they are compared on distinct scores.
    similarity, labels = case
    num_classes = similarity.shape[1]
    similarity = similarity + np.linspace(0, 0.5, similarity.size).reshape(similarity.shape)
    for k in range(1, num_classes):
        if num_classes > 2:  # with two columns scikit-learn expects one score an image
            assert same(metrics.recall_at_k(similarity, labels, k),
                        sk.top_k_accuracy_score(labels, similarity, k=k, labels=range(num_classes)))


@given(gallery())
def test_precision_recall_equals_scikit_learn(case):
    scores, positives = case
    for ours, theirs in zip(metrics.precision_recall_curve(scores, positives), sk.precision_recall_curve(positives, scores)):
        assert same(ours, theirs)
    assert same(metrics.average_precision(scores, positives), sk.average_precision_score(positives, scores))


@given(gallery(), st.integers(1, 40))
def test_retrieval_recall_counts_found_of_all_relevant(case, k):
    scores, positives = case
    k = min(k, len(scores))
    first = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert same(metrics.retrieval_recall_at_k(scores[None], positives[None], k), positives[first].sum() / positives.sum())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_rank_correlation_equals_scipy(pairs):
    x, y = np.array(pairs, dtype=float).T
    rho, (low, high) = metrics.rank_correlation(x, y, resamples=50)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan([rho, low, high]).all()
    else:
        assert abs(rho - spearmanr(x, y).statistic) < 1e-9 and -1 - 1e-9 <= low <= high <= 1 + 1e-9


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
    assert metrics.rank_correlation(kind([1.0, 2.0, 3.0]), kind([3.0, 2.0, 1.0]))[0] == -1.0
    assert metrics.paired_difference(kind([True, True]), kind(positives))[0] == 0.5


def test_inputs_are_not_changed():
    similarity, labels = np.array([[0.2, 0.7]]), np.array([-1])
    confusion = np.array([[2, 0], [0, 0]])
    before = similarity.copy(), labels.copy(), confusion.copy()
    metrics.recall_at_k(similarity, labels, 1), metrics.accuracy([0], labels), metrics.per_class_accuracy(confusion)
    assert all(np.array_equal(a, b) for a, b in zip(before, (similarity, labels, confusion)))


@pytest.mark.parametrize(("call", "text"), [
    (lambda: metrics.accuracy([0, 1], [0]), "Expected `labels` of shape (N,) = (2,), got (1,)"),
    (lambda: metrics.accuracy([-1], [0]), "Expected `predictions` >= 0, got -1 at position 0"),
    (lambda: metrics.accuracy([0], [-2]), "Expected `labels` >= -1 (-1 stands for an unknown label), got -2 at position 0"),
    (lambda: metrics.accuracy([0.0], [0]), "Expected `predictions` to hold integers (class indices), got float64"),
    (lambda: metrics.recall_at_k([[NAN, 1.0]], [0], 1), "Expected `similarity` to be finite, got 1 NaN or infinite value(s)"),
    (lambda: metrics.recall_at_k([[np.inf, 1.0]], [0], 1), "Expected `similarity` to be finite, got 1 NaN or infinite value(s)"),
    (lambda: metrics.recall_at_k([[0.0, 1.0]], [2], 1), "Expected `labels` < 2 (the number of classes), got 2 at position 0"),
    (lambda: metrics.recall_at_k([[0.0, 1.0]], [0], 3), "Expected `k` between 1 and 2, got 3"),
    (lambda: metrics.recall_at_k([[0.0, 1.0]], [0], 0), "Expected `k` between 1 and 2, got 0"),
    (lambda: metrics.retrieval_recall_at_k([[0.0, 1.0]], [[1]], 1), "Expected `relevant` of shape (1, 2), got (1, 1)"),
    (lambda: metrics.retrieval_recall_at_k([[0.0, 1.0]], [[1, -1]], 1), "Expected `relevant` to hold booleans (or 0 and 1)"),
    (lambda: metrics.confusion_matrix([0], [3], 3), "Expected `labels` < 3 (the number of classes), got 3 at position 0"),
    (lambda: metrics.confusion_matrix([3], [0], 3), "Expected `predictions` < 3 (the number of classes), got 3 at position 0"),
    (lambda: metrics.confusion_matrix([0], [0], 0), "Expected `num_classes` >= 1, got 0"),
    (lambda: metrics.per_class_accuracy([[1, 2]]), "Expected `confusion` to be square, got shape (1, 2)"),
    (lambda: metrics.per_class_accuracy([[-1]]), "Expected `confusion` to hold counts >= 0, got -1"),
    (lambda: metrics.average_precision([0.1], [False]), "Expected at least one positive in `positives`, got none"),
    (lambda: metrics.average_precision([NAN], [True]), "Expected `scores` to be finite, got 1 NaN or infinite value(s)"),
    (lambda: metrics.precision_recall_curve([0.1, 0.2], [1, 2]), "Expected `positives` to hold booleans (or 0 and 1)"),
    (lambda: metrics.wilson_interval(4, 3), "Expected `successes` between 0 and 3, got 4"),
    (lambda: metrics.wilson_interval(1, 3, confidence=95), "Expected `confidence` strictly between 0 and 1, got 95"),
    (lambda: metrics.paired_difference([1], [1, 0]), "Expected `correct_a` and `correct_b` of one shape (N,), N >= 1"),
    (lambda: metrics.paired_difference([2], [0]), "Expected `correct_a` to hold booleans (or 0 and 1)"),
    (lambda: metrics.rank_correlation([1.0], [1.0, 2.0]), "Expected `y` of shape (C,) = (1,), got (2,)"),
    (lambda: metrics.rank_correlation([1.0], [1.0], nan="best"), "Expected `nan` to be one of 'drop', 'worst', got 'best'"),
])
def test_wrong_input_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_wilson_interval_by_the_book():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert np.allclose(metrics.wilson_interval(successes, n), (low, high), atol=5e-5)
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_interval_holds_its_proportion(n, share, confidence):
    successes = round(share * n)
    low, high = metrics.wilson_interval(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1 and low < high


def test_paired_difference_is_sure_only_where_images_agree():
    rng = np.random.default_rng(0)
    a = rng.random(400) < 0.7
    b = a & (rng.random(400) < 0.9)  # wrong wherever a is, and a little more
    difference, (low, high) = metrics.paired_difference(a, b)
    assert same(difference, a.mean() - b.mean()) and 0 < low < difference < high
    assert metrics.paired_difference(a, a) == (0.0, (0.0, 0.0))
    mirrored, (m_low, m_high) = metrics.paired_difference(b, a)
    assert mirrored == -difference and m_low < m_high < 0
    # the multinomial draw is the bootstrap of the images, checked against resampling them one by one
    picks = rng.integers(400, size=(4000, 400))
    plain = np.quantile(a[picks].mean(axis=1) - b[picks].mean(axis=1), [0.025, 0.975])
    assert np.allclose((low, high), plain, atol=0.006)


def test_rank_correlation_and_missing_classes():
    x, y = [NAN, 0.2, 0.5, 0.9], [0.0, 0.3, 0.4, 1.0]
    assert metrics.rank_correlation(x, y)[0] == 1.0
    # dropped, the first class has no say; ranked as worst, it spoils the order when it is good
    assert metrics.rank_correlation(x, [1.1, 0.3, 0.4, 1.0], nan="drop")[0] == 1.0
    assert metrics.rank_correlation(x, [1.1, 0.3, 0.4, 1.0], nan="worst")[0] < 0
    assert metrics.rank_correlation(x, [NAN, 0.3, 0.4, 1.0], nan="worst")[0] == 1.0
    assert np.isnan(metrics.rank_correlation([1, 2], [1, 2])[0])


def test_intervals_repeat_with_the_seed():
    a, b = [1, 1, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0]
    assert metrics.paired_difference(a, b, seed=3) == metrics.paired_difference(a, b, seed=3)
    assert metrics.rank_correlation(a, [3, 1, 2, 5, 4, 6], seed=3) == metrics.rank_correlation(a, [3, 1, 2, 5, 4, 6], seed=3)
    assert metrics.percentile_interval([0, 1, 2, 3, 4, NAN], 0.5) == (1.0, 3.0)


# Paired tests -----------------------------------------------------------------------------------------------------------

def test_mcnemar_by_hand():
    assert metrics.mcnemar([1, 1, 0, 0], [1, 1, 0, 0]) == (1.0, (0, 0))  # they agree everywhere: nothing to tell
    assert metrics.mcnemar([1, 0], [0, 1]) == (1.0, (1, 1))
    # 5 to 1: P(at least 5 of 6 fair coins) = 7/64, doubled
    p, counts = metrics.mcnemar([1] * 5 + [0] + [1] * 90, [0] * 5 + [1] + [1] * 90)
    assert p == pytest.approx(14 / 64) and counts == (5, 1)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_symmetric_and_blind_to_agreement(pairs):
    a, b = (np.array(side) for side in zip(*pairs))
    p, (only_a, only_b) = metrics.mcnemar(a, b)
    assert metrics.mcnemar(b, a) == (p, (only_b, only_a)) and 0 < p <= 1
    assert metrics.mcnemar(a[a != b], b[a != b])[0] == p if (a != b).any() else p == 1
    coins, tail = only_a + only_b, max(only_a, only_b)
    assert p == pytest.approx(min(1, 2 * sum(math.comb(coins, i) for i in range(tail, coins + 1)) / 2**coins))


def test_difference_of_rank_correlations_is_narrower_when_paired():
    rng = np.random.default_rng(0)
    y = rng.random(200)
    shared = y + 0.5 * rng.normal(size=200)
    a, b = shared + 0.05 * rng.normal(size=200), shared + 0.05 * rng.normal(size=200)
    difference, (low, high) = metrics.rank_correlation_difference(a, b, y)
    (rho_a, ci_a), (rho_b, _) = metrics.rank_correlation(a, y), metrics.rank_correlation(b, y)
    assert difference == pytest.approx(rho_a - rho_b) and low <= difference <= high
    assert high - low < 0.3 * (ci_a[1] - ci_a[0])
    clear, (low, _) = metrics.rank_correlation_difference(y, shared, y)
    assert clear > 0 and low > 0


def test_difference_of_rank_correlations_takes_the_classes_that_all_have():
    nan = float("nan")
    a, b, y = [1, nan, 3, 4, 5], [5, 4, nan, 2, 1], [1, 2, 3, 4, nan]
    assert np.isnan(metrics.rank_correlation_difference(a, b, y)[0])  # two classes are left
    worst = metrics.rank_correlation_difference(a, b, y, nan="worst")[0]
    assert worst == pytest.approx(metrics.rank_correlation([2, 1, 3, 4], y[:4])[0] - metrics.rank_correlation([4, 3, 1, 2], y[:4])[0])


# Calibration ------------------------------------------------------------------------------------------------------------

def test_calibration_bins_by_hand():
    mean, accurate, images = metrics.calibration_bins([0.0, 0.49, 0.5, 1.0], [False, True, True, False], bins=2)
    assert mean.tolist() == pytest.approx([0.245, 0.75]) and accurate.tolist() == [0.5, 0.5] and images.tolist() == [2, 2]
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
    assert np.allclose(accurate[images > 0], theirs[0]) and np.allclose(mean[images > 0], theirs[1]) and images.sum() == count
    error = metrics.expected_calibration_error(confidence, correct, bins)
    assert error <= 1 and error >= abs(confidence.mean() - correct.mean()) - 1e-12


@pytest.mark.parametrize(("call", "text"), [
    (lambda: metrics.mcnemar([1, 0], [1]), "Expected `correct_a` and `correct_b` of one shape (N,), N >= 1, got (2,) and (1,)"),
    (lambda: metrics.mcnemar([1, 2], [1, 0]), "Expected `correct_a` to hold booleans (or 0 and 1), got other values such as 2"),
    (lambda: metrics.rank_correlation_difference([1, 2], [1, 2, 3], [1, 2]), "Expected `y` of shape (C,) = (3,), got (2,)"),
    (lambda: metrics.calibration_bins([1.5], [True]), "Expected `confidence` in [0, 1], got 1.5 to 1.5"),
    (lambda: metrics.calibration_bins([0.5], [True], bins=0), "Expected `bins` >= 1, got 0"),
    (lambda: metrics.calibration_bins([0.5], [True, False]), "Expected `correct` of shape (1,), got (2,)"),
])
def test_wrong_input_of_comparisons_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_interval_of_clustered_images_is_that_of_the_clusters():
    """Copies of an image add no evidence: three equal views give the interval of one, not a narrower one."""
    once = np.random.default_rng(0).random(300) < 0.6
    views, picture = np.repeat(once, 3), np.repeat(np.arange(300), 3)
    value, interval = metrics.clustered_accuracy(views, picture)
    assert value == once.mean()
    assert interval == metrics.clustered_accuracy(once, np.arange(300))[1]
    low, high = metrics.wilson_interval(int(views.sum()), len(views))
    assert interval[1] - interval[0] > 1.5 * (high - low)
    assert np.allclose(interval, metrics.wilson_interval(int(once.sum()), len(once)), atol=0.01)
    with pytest.raises(InputError, match="one shape"):
        metrics.clustered_accuracy([True, False], [1])
