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


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: worst.worst_k_accuracy([0.5, NAN], 2), "Expected `k` between 1 and 1, got 2"),
        (lambda: worst.worst_k_accuracy([0.5], 0), "Expected `k` between 1 and 1, got 0"),
        (
            lambda: worst.worst_k_accuracy([NAN], 1),
            "Expected `per_class` to hold at least one class with images, got 1 NaN(s)",
        ),
        (lambda: worst.harmonic_mean([50.0, 90.0]), "Expected `per_class` to be fractions in [0, 1], got 50 to 90"),
        (lambda: worst.geometric_mean([0.5], floor=2), "Expected `floor` in [0, 1], got 2"),
        (
            lambda: worst.worst_k_report([0, 1], [0, 1], 2, 1),
            "Expected at least k = 1 classes with two or more images, got 0",
        ),
        (lambda: worst.worst_k_report([0, 0], [0, 0], 2, 2), "Expected `k` between 1 and 1, got 2"),
        (
            lambda: worst.worst_k_report([0, 0], [0, 5], 2, 1),
            "Expected `labels` < 2 (the number of classes), got 5 at position 1",
        ),
        (lambda: worst.worst_k_report([0, 0], [0, 0], 2, 1, splits=0), "Expected `splits` >= 1, got 0"),
    ],
)
def test_wrong_input_raises(call, text):
    with pytest.raises(InputError, match="^" + re.escape(text)):
        call()


def test_where_all_classes_are_equal_only_the_naive_score_is_far_off():
    truth = 0.7
    for seed in range(3):
        report = worst.worst_k_report(*draw([truth] * 200, 50, seed), 200, 10)
        assert report.naive.value < truth - 0.08 and not report.naive.has_interval
        for score in (report.truly_worst, report.listed, report.split_half):
            assert score.low < truth < score.high
        assert abs(report.split_half.value - truth) < 0.05


def test_where_the_worst_stand_apart_all_scores_find_them():
    truth = np.full(100, 0.9)
    truth[[3, 50, 77]] = 0.2
    report = worst.worst_k_report(*draw(truth, 60, 0), 100, 3)
    assert sorted(report.classes) == [3, 50, 77] and report.fits
    for score in (report.naive, report.truly_worst, report.listed, report.split_half):
        assert abs(score.value - 0.2) < 0.08
    assert report.truly_worst.low < 0.2 < report.truly_worst.high and report.possible[0] < 0.2 < report.possible[1]


def test_below_ten_images_a_class_a_range_stands_in_place_of_a_value():
    rng = np.random.default_rng(0)
    truth = rng.beta(1.4, 0.6, 300)
    report = worst.worst_k_report(*draw(truth, 3, 0), 300, 10)
    assert (
        np.isnan(report.truly_worst.value)
        and report.truly_worst[1:] == report.possible
        and not report.listed.has_interval
    )
    assert report.possible[0] <= np.sort(truth)[:10].mean() <= report.possible[1]
    assert report.images_per_class == 3 and not np.isnan(
        worst.worst_k_report(*draw(truth, 10, 0), 300, 10).truly_worst.value
    )


@pytest.mark.parametrize(
    ("classes", "images", "half", "truly"), [(20, 2, False, False), (20, 10, True, False), (50, 10, True, True)]
)
def test_an_interval_is_given_where_simulated_ones_cover(classes, images, half, truly):
    labels = np.repeat(np.arange(classes), images)
    right = np.random.default_rng(0).random(len(labels)) < 0.7
    report = worst.worst_k_report(np.where(right, labels, (labels + 1) % classes), labels, classes, k=5)
    assert report.split_half.has_interval == half and report.listed.has_interval == truly
    assert np.isnan(report.truly_worst.value) != truly


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["beta", "dead", "two groups"])
def test_the_truly_worst_are_covered_in_most_of_many_worlds(shape):
    rng = np.random.default_rng(0)
    truly, listed, half = [], [], []
    for seed in range(25):
        truth = {
            "beta": rng.beta(2, 1, 200),
            "dead": np.where(rng.random(200) < 0.05, 0, rng.beta(5, 2, 200)),
            "two groups": np.where(rng.random(200) < 0.1, rng.beta(2, 8, 200), rng.beta(18, 2, 200)),
        }[shape]
        report = worst.worst_k_report(*draw(truth, 30, seed), 200, 10, splits=60, seed=seed)
        truly.append(report.truly_worst.low - 1e-3 <= np.sort(truth)[:10].mean() <= report.truly_worst.high + 1e-3)
        listed.append(report.listed.low - 1e-3 <= truth[report.classes].mean() <= report.listed.high + 1e-3)
        order = rng.binomial(15, truth, (200, 200)) / 15 + 1e-6 * rng.random((200, 200))
        target = truth[np.argsort(order, axis=1)[:, :10]].mean()
        half.append(report.split_half.low - 1e-3 <= target <= report.split_half.high + 1e-3)
    # 95 % aimed at; at most 3 of 25 misses. The benchmark of coverage has many more worlds.
    assert min(sum(truly), sum(listed), sum(half)) >= 22, (truly, listed, half)


def test_the_possible_range_holds_the_truth_whatever_the_shape():
    rng = np.random.default_rng(0)
    for truth in (
        rng.beta(2, 1, 150),
        np.full(150, 0.7),
        np.where(rng.random(150) < 0.5, 0.02, 0.98),
        rng.choice([0.1, 0.5, 0.9], 150),
    ):
        for images in (2, 10, 40):
            right = rng.binomial(images, truth)
            low, high = worst.possible_worst(right, np.full(150, images), 10)
            assert low <= np.sort(truth)[:10].mean() <= high
    assert worst.possible_worst([5, 5], [5, 5], 1)[1] == pytest.approx(1)


@pytest.mark.parametrize("classes, images", [(10, 100_000), (100, 1000), (1000, 500), (1000, 10_000), (4000, 500)])
@pytest.mark.parametrize("center, spread", [(0.7, 0), (0.6, 0.01), (0.999, 0), (0.8, 0.1)])
def test_many_images_of_nearly_equal_classes_have_a_possible_range(classes, images, center, spread):
    rng = np.random.default_rng(0)
    truth = np.clip(rng.normal(center, spread, classes), 0, 1)
    low, high = worst.possible_worst(rng.binomial(images, truth), np.full(classes, images), 10)
    assert 0 <= low <= np.sort(truth)[:10].mean() <= high <= 1


@pytest.mark.slow
def test_classes_that_differ_in_size_are_modelled_together():
    rng = np.random.default_rng(0)
    held = []
    for seed in range(10):
        images, truth = rng.integers(12, 90, 120), rng.beta(3, 1.5, 120)
        labels = np.repeat(np.arange(120), images)
        predictions = np.where(rng.random(len(labels)) < truth[labels], labels, (labels + 1) % 120)
        report = worst.worst_k_report(predictions, labels, 120, 5, splits=50, seed=seed)
        held.append(
            (
                report.truly_worst.low < np.sort(truth)[:5].mean() < report.truly_worst.high,
                report.listed.low < truth[report.classes].mean() < report.listed.high,
            )
        )
    assert (np.sum(held, axis=0) >= 8).all(), held


def test_halves_of_unequal_classes_are_drawn_without_replacement():
    # Two images, one right: whichever half is chosen on, the other half holds the rest. The one class that is
    # always chosen has 0 or 1 on its choosing half, so the score is the mean of what is left: exactly one half.
    report = worst.worst_k_report([0, 1], [0, 0], 2, 1, splits=4000)
    assert report.naive.value == 0.5 and abs(report.split_half.value - 0.5) < 0.03 and report.num_left_out == 1
    # the worse half is chosen on: two classes of one right in two; the chosen (0 of 1) leaves 1 of 1 unless both drew 1
    report = worst.worst_k_report([0, 1, 1, 0], [0, 0, 1, 1], 2, 1, splits=4000)
    assert abs(report.split_half.value - 0.75) < 0.03


def test_ties_between_first_halves_are_broken_at_random():
    # Class 0 has one right of two, nine classes two of two. Where its first half is right, all ten tie: drawn at
    # random it is chosen in one of ten splits and measures 0, so 0.95 in all; always chosen it would give 0.5.
    for odd in (0, 9):
        labels = np.repeat(np.arange(10), 2)
        predictions = labels.copy()
        predictions[2 * odd] = (odd + 1) % 10
        assert abs(worst.worst_k_report(predictions, labels, 10, 1, splits=4000).split_half.value - 0.95) < 0.02
    labels = np.repeat(np.arange(40), 2)
    predictions = labels.copy()
    report = worst.worst_k_report(predictions, labels, 40, 10, splits=50)
    assert report.naive.value == report.split_half.value == 1.0
    # 20 classes at 0 of 2: any of them may be chosen, and the score stays 0
    predictions[labels < 20] = 39
    assert worst.worst_k_report(predictions, labels, 40, 10, splits=50).split_half.value == 0.0


def test_reports_repeat_with_the_seed_and_leave_unknown_labels_out():
    predictions, labels = draw([0.5] * 20, 10, 1)
    first, second = (worst.worst_k_report(predictions, labels, 20, 5, seed=4) for _ in range(2))
    extra = worst.worst_k_report(np.append(predictions, 0), np.append(labels, -1), 20, 5, seed=4)
    for name in ("k", "truly_worst", "listed", "split_half", "possible", "num_left_out"):
        assert getattr(first, name) == getattr(second, name) == getattr(extra, name)
    other = worst.worst_k_report(predictions, labels, 20, 5, seed=5)
    assert other.split_half != first.split_half and other.naive.value == first.naive.value
    several = worst.worst_k_reports(predictions, labels, 20, [3, 5], seed=4)
    assert [report.k for report in several] == [3, 5] and several[1].truly_worst == first.truly_worst


def test_the_old_names_of_the_split_half_score_say_where_it_went():
    report = worst.worst_k_report(*draw([0.5] * 20, 10, 1), 20, 5)
    with pytest.warns(DeprecationWarning, match="split_half"):
        assert report.honest == report.split_half.value
    with pytest.warns(DeprecationWarning, match="split_half"):
        assert report.honest_ci == report.split_half[1:]
