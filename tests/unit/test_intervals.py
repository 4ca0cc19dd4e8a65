"""Scores and their intervals: by hand, against formulas of SciPy and statsmodels, and their coverage of the truth."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

import clipnb
from clipnb import intervals
from clipnb.errors import InputError
from clipnb.intervals import NAN, Score


def test_a_score_is_a_tuple_that_prints_with_its_interval():
    value, low, high = score = Score(0.699, 0.677, 0.719)
    assert clipnb.Score is Score and (value, low, high) == score and score.has_interval
    assert f"{score:.1%}" == "69.9 % [67.7, 71.9]" and f"{score:.2f}" == "0.70 [0.68, 0.72]"
    assert f"{Score(0.5):.0%}" == "50 %" and not Score(0.5).has_interval
    assert f"{Score(NAN, 0.1, 0.2):.0%}" == "10 to 20 %"


def test_wilson_interval_by_the_book():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert np.allclose(intervals.wilson_interval(successes, n), (low, high), atol=5e-5)
    assert intervals.wilson_interval(0, 0) == (0.0, 1.0)


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_the_area_under_the_roc_curve_is_that_of_scikit_learn(positives, seed, levels):
    scores = np.random.default_rng(seed).integers(levels, size=len(positives)) / levels
    if len(set(positives)) < 2:
        with pytest.raises(InputError, match="hold both kinds, got"):
            intervals.area_under_roc(scores, positives)
        return
    value, low, high = intervals.area_under_roc(scores, positives)
    assert value == pytest.approx(roc_auc_score(positives, scores), abs=1e-12)
    assert 0 <= low <= value <= high <= 1 and low < high
    other = intervals.area_under_roc(-scores, positives)  # the ends are not mirrored: the variance is not symmetric
    assert other.value == pytest.approx(1 - value, abs=1e-12)
    wider = intervals.area_under_roc(scores, positives, confidence=0.99)
    assert wider.low <= low and high <= wider.high


def test_the_interval_of_the_area_under_the_roc_curve_holds_the_truth():
    rng = np.random.default_rng(0)
    for m, n, truth in ((10, 100, 0.7), (100, 10, 0.9), (40, 40, 0.97)):
        shift = stats.norm.ppf(truth) * 2**0.5
        kept = 0
        for _ in range(400):
            scores = np.append(rng.normal(shift, 1, m), rng.normal(0, 1, n))
            _, low, high = intervals.area_under_roc(scores, np.arange(m + n) < m)
            kept += low <= truth <= high
        assert kept / 400 > 0.92, (m, n, truth)


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_a_proportion_lies_in_its_interval(n, share, confidence):
    successes = round(share * n)
    for low, high in (
        intervals.wilson_interval(successes, n, confidence),
        intervals.proportion(successes, n, confidence)[1:],
    ):
        assert 0 <= low <= successes / n <= high <= 1 and low < high


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.9, 0.95]))
def test_a_proportion_is_scipys_exact_interval_or_wilsons(n, share, confidence):
    successes = round(share * n)
    exact = min(successes, n - successes) < intervals.FEW
    theirs = stats.binomtest(successes, n).proportion_ci(confidence, "exact" if exact else "wilson")
    assert np.allclose(intervals.proportion(successes, n, confidence)[1:], theirs)


def test_ten_failures_are_enough_for_wilsons_interval():
    """10 of n failures were less than ten by rounding for some n, such as 28."""
    for n in range(20, 400):
        score = intervals.proportion(n - intervals.FEW, n)
        assert np.allclose(score[1:], intervals.wilson_interval(n - intervals.FEW, n)), n


@pytest.mark.parametrize("n", [1, 2, 3, 10, 50, 200, 628])
def test_a_proportion_is_covered_whatever_the_truth(n):
    """By enumeration: no sampling, so no tolerance for luck."""
    ends = np.array([intervals.proportion(successes, n)[1:] for successes in range(n + 1)])
    truth = np.linspace(0.005, 0.995, 199)[:, None]
    holds = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert (stats.binom.pmf(np.arange(n + 1), n, truth) * holds).sum(axis=1).min() > 0.93


def test_no_interval_has_a_width_of_zero():
    right, images = np.array([3, 0, 3]), np.array([3, 3, 3])
    scores = [
        intervals.mean_over_classes(right, images),
        intervals.mean_over_classes([1, 1, 1], [1, 1, 1]),
        intervals.proportion(5, 5),
        intervals.paired_difference([1] * 9, [1] * 9),
        intervals.clustered_accuracy([1] * 6, [0, 0, 1, 1, 2, 2]),
    ]
    assert all(score.low < score.high and score.low <= score.value <= score.high for score in scores)
    assert not intervals.mean_with_t([1.0, 1.0]).has_interval and not intervals.mean_with_t([1.0]).has_interval


@pytest.mark.parametrize(("classes", "images"), [(20, 2), (20, 10), (100, 1), (100, 3), (628, 3), (100, 50)])
def test_the_mean_over_classes_is_covered(classes, images):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        truth = rng.beta(2, 1, classes)
        score = intervals.mean_over_classes(rng.binomial(images, truth), np.full(classes, images))
        held.append(score.low <= truth.mean() <= score.high)
    assert np.mean(held) > 0.91  # 95 % aimed at; two standard errors are 2.2 points


def test_classes_without_images_have_no_say_and_few_images_widen():
    assert intervals.mean_over_classes([3, 0], [4, 0]).value == 0.75
    assert math.isnan(intervals.mean_over_classes([0], [0]).value)
    few, many = (intervals.mean_over_classes(np.full(30, n // 2), np.full(30, n)) for n in (2, 40))
    assert few.high - few.low > 3 * (many.high - many.low)


def test_the_mean_with_students_t_is_scipys():
    values = np.random.default_rng(0).normal(size=7)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert np.allclose(intervals.mean_with_t(values, 0.9), (values.mean(), *theirs))


def test_clustered_images_are_worth_their_clusters():
    """Copies of an image add no evidence: three equal views give the interval of one, not a narrower one."""
    once = np.random.default_rng(0).random(300) < 0.6
    views, drawing = np.repeat(once, 3), np.repeat(np.arange(300), 3)
    value, low, high = intervals.clustered_accuracy(views, drawing)
    assert value == once.mean()
    assert np.allclose((low, high), intervals.clustered_accuracy(once, np.arange(300))[1:], atol=2e-3)
    assert np.allclose((low, high), intervals.wilson_interval(int(once.sum()), len(once)), atol=0.01)
    narrow = intervals.wilson_interval(int(views.sum()), len(views))
    assert high - low > 1.5 * (narrow[1] - narrow[0])
    with pytest.raises(InputError, match="one shape"):
        intervals.clustered_accuracy([True, False], [1])


@pytest.mark.parametrize("clusters", [3, 5, 20])
def test_clustered_accuracy_is_covered_with_few_clusters(clusters):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        truth = rng.beta(1.4, 0.6, clusters)
        correct = rng.random((clusters, 8)) < truth[:, None]
        score = intervals.clustered_accuracy(correct.ravel(), np.repeat(np.arange(clusters), 8))
        held.append(score.low <= 0.7 <= score.high)
    assert np.mean(held) > 0.91


def test_a_paired_difference_by_the_published_formula():
    # 10 and 3 of 50 pairs: (7/52) -+ 1.96 sqrt((14/52 - (7/52)^2) / 52)
    half = 1.959964 * np.sqrt((14 / 52 - (7 / 52) ** 2) / 52)
    assert intervals.paired_counts(10, 3, 50) == pytest.approx((7 / 50, 7 / 52 - half, 7 / 52 + half), rel=1e-6)
    value, low, high = intervals.paired_difference([1] * 9, [1] * 9)
    assert value == 0 and low == -high < 0  # nine images leave room for doubt


@pytest.mark.parametrize("n", [9, 30, 300])
def test_a_paired_difference_is_covered_with_few_disagreements(n):
    rng = np.random.default_rng(0)
    held = []
    for only_a, only_b, _ in rng.multinomial(n, [0.05, 0.02, 0.93], size=1000):
        _, low, high = intervals.paired_counts(only_a, only_b, n)
        held.append(low <= 0.03 <= high)
    assert np.mean(held) > 0.93


def test_mcnemar_by_hand():
    assert intervals.mcnemar([1, 1, 0, 0], [1, 1, 0, 0]) == (1.0, (0, 0))  # they agree everywhere
    assert intervals.mcnemar([1, 0], [0, 1]) == (1.0, (1, 1))
    # 5 to 1: P(at least 5 of 6 fair coins) = 7/64, doubled
    p, counts = intervals.mcnemar([1] * 5 + [0] + [1] * 90, [0] * 5 + [1] + [1] * 90)
    assert p == pytest.approx(14 / 64) and counts == (5, 1)


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_sign_test_is_scipys_binomial_test(only_a, only_b):
    p = intervals.sign_test(only_a, only_b)
    assert p == intervals.sign_test(only_b, only_a)
    assert p == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_rank_correlation_equals_scipy(pairs):
    x, y = np.array(pairs, dtype=float).T
    rho, low, high = intervals.rank_correlation(x, y, resamples=50)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan([rho, low, high]).all()
    else:
        assert abs(rho - stats.spearmanr(x, y).statistic) < 1e-9
        assert np.isnan([low, high]).all() if len(x) < 10 else -1 - 1e-9 <= low <= high <= 1 + 1e-9


def test_rank_correlation_and_missing_classes():
    x, y = [NAN, 0.2, 0.5, 0.9], [0.0, 0.3, 0.4, 1.0]
    assert intervals.rank_correlation(x, y).value == 1.0
    # dropped, the first class has no say; ranked as worst, it spoils the order when it is good
    assert intervals.rank_correlation(x, [1.1, 0.3, 0.4, 1.0], nan="drop").value == 1.0
    assert intervals.rank_correlation(x, [1.1, 0.3, 0.4, 1.0], nan="worst").value < 0
    assert intervals.rank_correlation(x, [NAN, 0.3, 0.4, 1.0], nan="worst").value == 1.0
    assert np.isnan(intervals.rank_correlation([1, 2], [1, 2]).value)


def test_difference_of_rank_correlations_is_narrower_when_paired():
    rng = np.random.default_rng(0)
    y = rng.random(200)
    shared = y + 0.5 * rng.normal(size=200)
    a, b = shared + 0.05 * rng.normal(size=200), shared + 0.05 * rng.normal(size=200)
    difference = intervals.rank_correlation_difference(a, b, y)
    rho_a, rho_b = intervals.rank_correlation(a, y), intervals.rank_correlation(b, y)
    assert (
        difference.value == pytest.approx(rho_a.value - rho_b.value)
        and difference.low <= difference.value <= difference.high
    )
    assert difference.high - difference.low < 0.3 * (rho_a.high - rho_a.low)
    clear = intervals.rank_correlation_difference(y, shared, y)
    assert clear.value > 0 and clear.low > 0


def test_difference_of_rank_correlations_takes_the_classes_that_all_have():
    a, b, y = [1, NAN, 3, 4, 5], [5, 4, NAN, 2, 1], [1, 2, 3, 4, NAN]
    assert np.isnan(intervals.rank_correlation_difference(a, b, y).value)  # two classes are left
    worst = intervals.rank_correlation_difference(a, b, y, nan="worst").value
    expected = (
        intervals.rank_correlation([2, 1, 3, 4], y[:4]).value - intervals.rank_correlation([4, 3, 1, 2], y[:4]).value
    )
    assert worst == pytest.approx(expected)


def test_intervals_repeat_with_the_seed():
    a, b = np.random.default_rng(0).random((2, 30))
    assert (
        intervals.rank_correlation(a, b, seed=3)
        == intervals.rank_correlation(a, b, seed=3)
        != intervals.rank_correlation(a, b, seed=4)
    )
    assert intervals.percentile_interval([0, 1, 2, 3, 4, NAN], 0.5) == (1.0, 3.0)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list])
def test_arrays_tensors_and_lists_agree(kind):
    assert intervals.rank_correlation(kind([1.0, 2.0, 3.0]), kind([3.0, 2.0, 1.0])).value == -1.0
    assert intervals.paired_difference(kind([True, True]), kind([True, False])).value == 0.5
    assert intervals.mean_over_classes(kind([1, 2]), kind([2, 2])).value == 0.75


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: intervals.wilson_interval(4, 3), "Expected `successes` between 0 and 3, got 4"),
        (lambda: intervals.proportion(4, 3), "Expected `successes` between 0 and 3, got 4"),
        (
            lambda: intervals.wilson_interval(1, 3, confidence=95),
            "Expected `confidence` strictly between 0 and 1, got 95",
        ),
        (
            lambda: intervals.mean_over_classes([1, 2], [3]),
            "Expected `right` and `images` of one shape (C,), got (2,) and (1,)",
        ),
        (lambda: intervals.mean_over_classes([4], [3]), "Expected `right` between 0 and `images`, got 4 of 3"),
        (
            lambda: intervals.paired_difference([1], [1, 0]),
            "Expected `correct_a` and `correct_b` of one shape (N,), N >= 1",
        ),
        (lambda: intervals.paired_difference([2], [0]), "Expected `correct_a` to hold booleans (or 0 and 1)"),
        (lambda: intervals.rank_correlation([1.0], [1.0, 2.0]), "Expected `y` of shape (C,) = (1,), got (2,)"),
        (
            lambda: intervals.rank_correlation([1.0], [1.0], nan="best"),
            "Expected `nan` to be one of 'drop', 'worst', got 'best'",
        ),
        (
            lambda: intervals.mcnemar([1, 0], [1]),
            "Expected `correct_a` and `correct_b` of one shape (N,), N >= 1, got (2,) and (1,)",
        ),
        (
            lambda: intervals.mcnemar([1, 2], [1, 0]),
            "Expected `correct_a` to hold booleans (or 0 and 1), got other values such as 2",
        ),
        (
            lambda: intervals.rank_correlation_difference([1, 2], [1, 2, 3], [1, 2]),
            "Expected `y` of shape (C,) = (3,), got (2,)",
        ),
    ],
)
def test_wrong_input_is_one_clear_error(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()
