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
