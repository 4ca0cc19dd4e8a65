import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipnb import worst
from clipnb.errors import InputError

NAN = float("nan")


def draw(truth, images, seed):
    """Predictions and labels of a classifier with the given true accuracy of each class."""
    rng = np.random.default_rng(seed)
    truth = np.asarray(truth, dtype=float)
    labels = np.repeat(np.arange(len(truth)), images)
    return np.where(rng.random(len(labels)) < truth[labels], labels, (labels + 1) % len(truth)), labels


def test_worst_classes_by_hand():
    per_class = [0.5, 0.0, NAN, 0.9, 0.0]
    assert worst.worst_classes(per_class, 3).tolist() == [1, 4, 0]  # ties to the lower index, NaN left out
    assert worst.worst_k_accuracy(per_class, 3) == pytest.approx(0.5 / 3)
    assert worst.worst_k_accuracy(per_class, 4) == pytest.approx(1.4 / 4)
    assert worst.classes_at_zero(per_class) == 2
    assert worst.worst_k_accuracy(torch.tensor([0.5, 0.25]), 1) == 0.25


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=20))
def test_means_are_ordered(per_class):
    harmonic, geometric = worst.harmonic_mean(per_class), worst.geometric_mean(per_class)
    assert harmonic <= geometric + 1e-12 <= np.mean(per_class) + 2e-12
    assert min(per_class) - 1e-12 <= harmonic and worst.worst_k_accuracy(per_class, 1) == min(per_class)
    assert harmonic == pytest.approx(len(per_class) / sum(1 / a for a in per_class))
    assert geometric == pytest.approx(np.prod(per_class) ** (1 / len(per_class)))


def test_one_class_at_zero_decides_unless_there_is_a_floor():
    assert worst.harmonic_mean([0.0, 1.0]) == worst.geometric_mean([0.0, 1.0]) == 0.0
    assert worst.harmonic_mean([0.0, 1.0], floor=0.01) == pytest.approx(2 / 101)
    assert worst.geometric_mean([0.0, 1.0], floor=0.01) == pytest.approx(0.1)
    assert worst.harmonic_mean([NAN, 0.5]) == 0.5
    assert worst.harmonic_mean([0.2, 0.4], floor=0.5) == 0.5


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_rows_at_once_equal_one_after_the_other(floor):
    rows = np.random.default_rng(0).integers(0, 6, (50, 8)) / 5  # some rows hold a 0
    found = worst.tail_of_rows(rows, 3, floor)
    assert found["worst_k"] == pytest.approx([worst.worst_k_accuracy(row, 3) for row in rows])
    for name in ("harmonic_mean", "geometric_mean"):
        assert found[name] == pytest.approx([getattr(worst, name)(row, floor) for row in rows])
        assert (found[name] == 0).tolist() == ((rows.min(axis=1) == 0) & (floor == 0)).tolist()


@pytest.mark.parametrize(("call", "text"), [
    (lambda: worst.worst_k_accuracy([0.5, NAN], 2), "Expected `k` between 1 and 1, got 2"),
    (lambda: worst.worst_k_accuracy([0.5], 0), "Expected `k` between 1 and 1, got 0"),
    (lambda: worst.worst_k_accuracy([NAN], 1), "Expected `per_class` to hold at least one class with images, got 1 NaN(s)"),
    (lambda: worst.harmonic_mean([50.0, 90.0]), "Expected `per_class` to be fractions in [0, 1], got 50 to 90"),
    (lambda: worst.geometric_mean([0.5], floor=2), "Expected `floor` in [0, 1], got 2"),
    (lambda: worst.worst_k_report([0, 1], [0, 1], 2, 1), "Expected at least k = 1 classes with two or more images, got 0"),
    (lambda: worst.worst_k_report([0, 0], [0, 0], 2, 2), "Expected `k` between 1 and 1, got 2"),
    (lambda: worst.worst_k_report([0, 0], [0, 5], 2, 1), "Expected `labels` < 2 (the number of classes), got 5 at position 1"),
    (lambda: worst.worst_k_report([0, 0], [0, 0], 2, 1, splits=0), "Expected `splits` >= 1, got 0"),
])
def test_wrong_input_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


@pytest.mark.parametrize("seed", range(5))
def test_where_all_classes_are_equal_naive_is_far_off_and_honest_covers(seed):
    truth = 0.7
    report = worst.worst_k_report(*draw([truth] * 200, 50, seed), 200, 10, splits=300)
    assert report.naive < truth - 0.08 and report.naive_ci[1] < truth
    assert report.honest_ci[0] < truth < report.honest_ci[1]
    assert abs(report.honest - truth) < 0.05


def test_where_the_worst_stand_apart_both_find_them():
    truth = np.full(100, 0.9)
    truth[[3, 50, 77]] = 0.2
    report = worst.worst_k_report(*draw(truth, 60, 0), 100, 3)
    assert sorted(report.classes) == [3, 50, 77]
    assert abs(report.naive - 0.2) < 0.08 and abs(report.honest - 0.2) < 0.08
    assert report.naive_ci[0] < 0.2 < report.naive_ci[1] and report.honest_ci[0] < 0.2 < report.honest_ci[1]


def test_halves_of_unequal_classes_are_drawn_without_replacement():
    # Two images, one right: whichever half is chosen on, the other half holds the rest. The one class that is
    # always chosen has 0 or 1 on its choosing half, so honest is the mean of what is left: exactly one half.
    report = worst.worst_k_report([0, 1], [0, 0], 2, 1, splits=4000)
    assert report.naive == 0.5 and abs(report.honest - 0.5) < 0.03 and report.num_left_out == 1
    # the worse half is chosen on: two classes of one right in two; the chosen (0 of 1) leaves 1 of 1 unless both drew 1
    report = worst.worst_k_report([0, 1, 1, 0], [0, 0, 1, 1], 2, 1, splits=4000)
    assert abs(report.honest - 0.75) < 0.03


def test_ties_between_first_halves_are_broken_at_random():
    # Class 0 has one right of two, nine classes two of two. Where its first half is right, all ten tie: drawn at
    # random it is chosen in one of ten splits and measures 0, so 0.95 in all; always chosen it would give 0.5.
    for odd in (0, 9):
        labels = np.repeat(np.arange(10), 2)
        predictions = labels.copy()
        predictions[2 * odd] = (odd + 1) % 10
        assert abs(worst.worst_k_report(predictions, labels, 10, 1, splits=4000).honest - 0.95) < 0.02
    labels = np.repeat(np.arange(40), 2)
    predictions = labels.copy()
    report = worst.worst_k_report(predictions, labels, 40, 10, splits=50)
    assert report.naive == report.honest == 1.0 and report.honest_ci == (1.0, 1.0)
    # 20 classes at 0 of 2: any of them may be chosen, and the honest score stays 0
    predictions[labels < 20] = 39
    assert worst.worst_k_report(predictions, labels, 40, 10, splits=50).honest == 0.0


def test_reports_repeat_with_the_seed_and_leave_unknown_labels_out():
    predictions, labels = draw([0.5] * 20, 10, 1)
    first, second = (worst.worst_k_report(predictions, labels, 20, 5, seed=4) for _ in range(2))
    extra = worst.worst_k_report(np.append(predictions, 0), np.append(labels, -1), 20, 5, seed=4)
    for name in ("k", "naive", "naive_ci", "honest", "honest_ci", "num_left_out"):
        assert getattr(first, name) == getattr(second, name) == getattr(extra, name)
    other = worst.worst_k_report(predictions, labels, 20, 5, seed=5)
    assert other.honest != first.honest and other.naive == first.naive


@given(st.integers(0, 10**6))
def test_an_interval_holds_its_value(seed):
    rng = np.random.default_rng(seed)
    report = worst.worst_k_report(*draw(rng.random(30), int(rng.integers(2, 12)), seed), 30, 5, splits=60)
    assert report.naive_ci[0] <= report.naive <= report.naive_ci[1]
    assert 0 <= report.honest_ci[0] <= report.honest <= report.honest_ci[1] <= 1


def test_the_bootstrap_stays_within_classes():
    sample = worst.resample_per_class([0.5, NAN, 1.0, 0.0], [100, 0, 3, 3], 4000, np.random.default_rng(0))
    assert sample.shape == (4000, 3) and (sample[:, 1] == 1).all() and (sample[:, 2] == 0).all()
    assert abs(sample[:, 0].mean() - 0.5) < 0.01 and abs(sample[:, 0].std() - 0.05) < 0.005


# Two methods on the same images ---------------------------------------------------------------------------------------

def test_paired_tail_by_hand():
    labels = np.repeat([0, 1, 2], 4)
    a = np.array([0, 0, 0, 1, 1, 1, 0, 0, 2, 2, 2, 2])  # 3/4, 2/4, 4/4
    b = np.array([0, 0, 1, 1, 0, 0, 0, 0, 2, 2, 2, 0])  # 2/4, 0/4, 3/4
    table = worst.paired_tail_difference(a, b, labels, 3, k=2, floor=0.1)
    assert table["a"].tolist() == pytest.approx([0.625, worst.harmonic_mean([0.75, 0.5, 1]), worst.geometric_mean([0.75, 0.5, 1]), 0])
    assert table["b"].tolist() == pytest.approx([0.25, worst.harmonic_mean([0.5, 0, 0.75], 0.1), worst.geometric_mean([0.5, 0, 0.75], 0.1), 1])
    assert (table["difference"] == table["a"] - table["b"]).all()
    assert (table["low"] <= table["difference"]).all() and (table["difference"] <= table["high"]).all()
    unfloored = worst.paired_tail_difference(a, b, labels, 3, k=2)
    assert unfloored.loc["harmonic_mean", "b"] == unfloored.loc["geometric_mean", "b"] == 0


@given(st.integers(0, 10**6))
def test_paired_tail_is_antisymmetric_in_its_values_and_zero_for_one_method(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 8, 80)
    a, b = rng.integers(0, 8, (2, 80))
    a, b = np.where(rng.random(80) < 0.6, np.maximum(labels, 0), a), np.where(rng.random(80) < 0.3, np.maximum(labels, 0), b)
    forth, back = (worst.paired_tail_difference(*pair, labels, 8, 3, resamples=50, seed=seed) for pair in ((a, b), (b, a)))
    assert np.allclose(forth["difference"], -back["difference"]) and (forth["a"] == back["b"]).all()
    same = worst.paired_tail_difference(a, a, labels, 8, 3, resamples=20)[["difference", "low", "high"]]
    assert (same.drop("classes_at_zero") == 0).all(axis=None)
    low, high = same.loc["classes_at_zero", ["low", "high"]]
    assert same.loc["classes_at_zero", "difference"] == 0 and low == -high < 0  # eight classes leave room for doubt
    again = worst.paired_tail_difference(a, b, labels, 8, 3, resamples=50, seed=seed)
    assert again.equals(forth)


def two_methods(truth_a, truth_b, images, seed):
    """Predictions of two methods that share half of what makes an image hard, and the labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(truth_a)), images)
    shared = rng.random(len(labels))
    hard = [np.where(rng.random(len(labels)) < 0.5, shared, rng.random(len(labels))) for _ in range(2)]
    return *(np.where(h < t[labels], labels, (labels + 1) % len(t)) for h, t in zip(hard, (truth_a, truth_b))), labels


def test_where_two_methods_are_equally_good_the_intervals_hold_zero_most_of_the_time():
    truth = np.linspace(0.2, 0.9, 60)
    covered = []
    for seed in range(60):
        table = worst.paired_tail_difference(*two_methods(truth, truth, 20, seed), 60, 10, floor=0.02, resamples=200)
        covered.append((table["low"] <= 0) & (0 <= table["high"]))
    assert (np.mean(covered, axis=0) >= 0.88).all()  # 95 % aimed at; 60 runs


def test_the_interval_of_paired_counts_is_agresti_and_mins():
    # 10 and 3 of 50 pairs, by the published formula: (7/52) -+ 1.96 sqrt((14/52 - (7/52)^2) / 52)
    half = 1.959964 * np.sqrt((14 / 52 - (7 / 52) ** 2) / 52)
    assert worst._paired_count_interval(10, 3, 50, 0.95) == pytest.approx((50 * (7 / 52 - half), 50 * (7 / 52 + half)), rel=1e-6)
    truth, held = (0.06, 0.02), []  # shares of pairs in which only A, only B is at 0
    rng = np.random.default_rng(0)
    for only_a, only_b, _ in rng.multinomial(60, [*truth, 1 - sum(truth)], size=2000):
        low, high = worst._paired_count_interval(only_a, only_b, 60, 0.95)
        held.append(low <= 60 * (truth[0] - truth[1]) <= high)
    assert 0.94 <= np.mean(held) <= 0.99


def test_where_a_is_better_in_the_tail_the_interval_says_so():
    weak, strong = np.full(60, 0.8), np.full(60, 0.8)
    weak[:10], strong[:10] = 0.02, 0.4
    table = worst.paired_tail_difference(*two_methods(strong, weak, 20, 0), 60, 10, floor=0.02, resamples=300)
    assert (table.loc[["worst_k", "harmonic_mean", "geometric_mean"], "low"] > 0).all()
    assert table.loc["classes_at_zero", "high"] < 0
    assert abs(table.loc["worst_k", "difference"] - 0.38) < 0.08


@pytest.mark.parametrize(("call", "text"), [
    (lambda: worst.paired_tail_difference([0, 1], [0], [0, 1], 2, 1), "Expected `labels` of shape (N,) = (1,), got (2,)"),
    (lambda: worst.paired_tail_difference([0, 1], [0, 1], [0, 1], 2, 3), "Expected `k` between 1 and 2, got 3"),
    (lambda: worst.paired_tail_difference([0, 1], [0, 1], [0, 1], 2, 1, floor=-1), "Expected `floor` in [0, 1], got -1"),
    (lambda: worst.paired_tail_difference([0, 1], [0, 1], [-1, -1], 2, 1), "Expected at least one label in `labels`, got 2 of -1"),
])
def test_wrong_input_of_the_comparison_is_told(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_honest_intervals_cover_the_truth_in_most_of_many_worlds():
    """All classes equally good: the naive interval never holds the truth, the honest one does in 95 % of worlds or more."""
    truth, naive, honest = 0.6, [], []
    for seed in range(60):
        report = worst.worst_k_report(*draw([truth] * 150, 30, seed), 150, 10, splits=150)
        naive.append(report.naive_ci[0] <= truth <= report.naive_ci[1])
        honest.append(report.honest_ci[0] <= truth <= report.honest_ci[1])
    assert not any(naive) and np.mean(honest) >= 0.95


def test_labels_of_a_narrow_type_do_not_overflow():
    labels = np.repeat(np.arange(120), 2).astype(np.uint8)
    table = worst.paired_tail_difference(labels, np.roll(labels, 1), labels, 120, 10)
    assert table.loc["worst_k", ["a", "b"]].tolist() == [1.0, 0.5]
