"""The tail of the per-class accuracies: worst-k, harmonic and geometric mean, and what selection does to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from clipnb.errors import MOST_RESAMPLES, InputError, as_numpy, class_indices, floats, generator, real, whole_number
from clipnb.metrics import check_confidence, percentile_interval, right_by_class


def _fractions(per_class) -> np.ndarray:
    per_class = floats(per_class, "per_class", 1, finite=False).astype(float)
    present = per_class[~np.isnan(per_class)]
    if not len(present):
        raise InputError(f"Expected `per_class` to hold at least one class with images, got {len(per_class)} NaN(s)")
    if present.min() < 0 or present.max() > 1:
        raise InputError(f"Expected `per_class` to be fractions in [0, 1], got {present.min():g} to {present.max():g}")
    return per_class


def worst_classes(per_class, k: int) -> np.ndarray:
    """Indices of the k classes with the lowest accuracy, worst first; ties go to the lower index, NaN is left out.

    >>> worst_classes([.5, 0., .9, 0.], k=3)
    array([1, 3, 0])
    """
    per_class = _fractions(per_class)
    present = int((~np.isnan(per_class)).sum())
    return np.argsort(per_class, kind="stable")[: whole_number(k, "k", 1, present)]  # argsort puts NaN last


def worst_k_accuracy(per_class, k: int) -> float:
    """Mean accuracy of the k worst classes, a fraction in [0, 1].

    On few images a class this is biased downward, because the worst classes are chosen by the same draw that
    measures them: see `worst_k_report`.

    Args:
        per_class: (C,) fractions in [0, 1], NaN = no images (left out).
        k: 1 to the number of classes that have images.

    >>> worst_k_accuracy([.5, 0., .9, .1], k=2)
    0.05
    """
    per_class = _fractions(per_class)
    return float(per_class[worst_classes(per_class, k)].mean())


def classes_at_zero(per_class) -> int:
    """Number of classes that have images and an accuracy of exactly 0.

    >>> classes_at_zero([0., float("nan"), .5])
    1
    """
    return int((_fractions(per_class) == 0).sum())


def harmonic_mean(per_class, floor: float = 0.0) -> float:
    """Harmonic mean of the per-class accuracies, in [0, 1]; 0 as soon as one class is at 0.

    Args:
        per_class: (C,) fractions in [0, 1], NaN = no images (left out).
        floor: raise lower accuracies to this value first, so that one class at 0 does not decide alone.

    >>> harmonic_mean([.5, 1.])
    0.6666666666666666
    >>> harmonic_mean([0., 1.])
    0.0
    """
    return float(_harmonic(_raised(per_class, floor)))


def geometric_mean(per_class, floor: float = 0.0) -> float:
    """Geometric mean of the per-class accuracies, in [0, 1]; 0 as soon as one class is at 0 (`floor` as above).

    >>> round(geometric_mean([.25, 1.]), 6)
    0.5
    """
    return float(_geometric(_raised(per_class, floor)))


def _harmonic(values: np.ndarray) -> np.ndarray:
    """Over the last axis; a class at 0 makes it 0, because 1 / 0 is inf and 1 / inf is 0."""
    with np.errstate(divide="ignore"):
        return 1 / np.mean(1 / values, axis=-1)


def _geometric(values: np.ndarray) -> np.ndarray:
    """Over the last axis; a class at 0 makes it 0, because log 0 is -inf."""
    with np.errstate(divide="ignore"):
        return np.exp(np.mean(np.log(values), axis=-1))


def _raised(per_class, floor: float) -> np.ndarray:
    values = _fractions(per_class)
    return np.maximum(values[~np.isnan(values)], _fraction(floor))


def _fraction(floor: float) -> float:
    if not 0 <= real(floor, "floor") <= 1:
        raise InputError(f"Expected `floor` in [0, 1], got {floor}")
    return floor


@dataclass(frozen=True)
class WorstKReport:
    """Worst-k accuracy twice: `naive` (chosen and measured on the same images) and `honest` (chosen on one half,
    measured on the other), each a fraction in [0, 1] with its interval."""

    k: int
    naive: float
    naive_ci: tuple[float, float]
    honest: float
    honest_ci: tuple[float, float]
    classes: np.ndarray  # (k,) the naive worst classes, worst first
    num_left_out: int  # classes with fewer than two images: they cannot be split


def worst_k_report(predictions, labels, num_classes: int, k: int, splits: int = 1000, seed: int = 0,
                   confidence: float = 0.95) -> WorstKReport:
    """Worst-k accuracy, naive and honest, with intervals.

    Honest: each class's images are split at random in two halves; the k worst classes are chosen on the first
    (ties at random) and measured on the second; the mean over `splits` splits is reported. Its interval adds, to
    each split, a resample of the measuring half; it is wide rather than narrow. The naive interval is a bootstrap
    within classes (widened to hold the value): it tells the noise, not the bias.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k: 1 to the number of classes with at least two images.
        splits: random halves.

    Raises:
        InputError: shapes or indices are off, or too few classes can be split.

    >>> labels = np.repeat([0, 1, 2], 10)
    >>> predictions = np.where(labels == 0, 1, labels)
    >>> report = worst_k_report(predictions, labels, num_classes=3, k=1)
    >>> report.naive, report.honest, report.classes
    (0.0, 0.0, array([0]))
    """
    splits = whole_number(splits, "splits", 1, MOST_RESAMPLES)
    check_confidence(confidence)
    right, images = right_by_class(predictions, labels, num_classes)
    usable = np.flatnonzero(images >= 2)
    k = whole_number(k, "k", 1, max(1, len(usable)))
    if k > len(usable):
        raise InputError(f"Expected at least k = {k} classes with two or more images, got {len(usable)}")
    per_class = np.divide(right, images, out=np.full(len(images), np.nan), where=images > 0)
    naive = worst_k_accuracy(per_class, k)
    rng = generator(seed)
    n, correct = images[usable], right[usable]
    first = n // 2
    # A random half of n images of which `correct` are right: the number right in it is hypergeometric.
    right_first = rng.hypergeometric(correct, n - correct, first, size=(splits, len(n)))
    # Two accuracies a/m != b/n differ by at least 1/(mn): noise below that breaks ties at random, nothing else.
    order = right_first / first + rng.random(right_first.shape) / (2 * first.max() ** 2)
    chosen = np.argpartition(order, k - 1, axis=1)[:, :k]
    second = (n - first)[chosen]
    measured = np.take_along_axis(correct - right_first, chosen, axis=1) / second
    resampled = rng.binomial(second, measured) / second
    low, high = percentile_interval(tail_of_rows(resample_per_class(per_class, images, splits, rng), k)["worst_k"], confidence)
    return WorstKReport(
        k=k,
        naive=naive,
        naive_ci=(min(low, naive), max(high, naive)),
        honest=float(measured.mean()),
        honest_ci=percentile_interval(resampled.mean(axis=1), confidence),
        classes=worst_classes(per_class, k),
        num_left_out=int((images < 2).sum()),
    )


def resample_per_class(per_class, images, resamples: int, rng) -> np.ndarray:
    """Bootstrap of the per-class accuracies, images resampled within each class: (resamples, classes with images).

    >>> resample_per_class([1., float("nan")], [5, 0], 2, np.random.default_rng(0))
    array([[1.],
           [1.]])
    """
    per_class, images = np.asarray(per_class, dtype=float), np.asarray(images)
    present = images > 0
    return rng.binomial(images[present], per_class[present], size=(resamples, present.sum())) / images[present]


def tail_of_rows(per_class: np.ndarray, k: int, floor: float = 0.0) -> dict[str, np.ndarray]:
    """`worst_k_accuracy`, `harmonic_mean` and `geometric_mean` of each row of accuracies (R, C), all rows at once: (R,) each.

    >>> tail_of_rows(np.array([[0., 1.], [.5, .5]]), k=1)["worst_k"]
    array([0. , 0.5])
    """
    raised = np.maximum(per_class, _fraction(floor))
    return {"worst_k": np.partition(per_class, k - 1, axis=1)[:, :k].mean(axis=1),
            "harmonic_mean": _harmonic(raised), "geometric_mean": _geometric(raised)}


def paired_tail_difference(predictions_a, predictions_b, labels, num_classes: int, k: int, floor: float = 0.0,
                           resamples: int = 1000, seed: int = 0, confidence: float = 0.95):
    """How much better A is than B where it hurts: tail statistics of two methods on the same images.

    Images are resampled within classes, an image always with both of its predictions, so what makes an image hard
    for both cancels. The worst classes are each method's own, chosen on the images that measure them: the naive
    figure, whose bias is about the same on both sides (`worst_k_report` has the honest one). Intervals are widened to
    hold the difference. That of `classes_at_zero` is no bootstrap, because no resample of a class's images brings it back
    from 0: it takes the classes as one sample of pairs (Agresti and Min 2005), which is the safe side (Hoeffding 1956).

    Args:
        predictions_a, predictions_b: (N,) class indices of the two methods.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k: 1 to the number of classes that have images.
        floor: of the two means, as in `harmonic_mean`.

    Returns:
        DataFrame, one row for each of worst_k, harmonic_mean, geometric_mean (fractions) and classes_at_zero (a
        count); columns a, b, difference (a minus b), low, high. For `classes_at_zero`, below 0 is better.

    Raises:
        InputError: shapes or indices are off, or `k` or `floor` is out of range.

    >>> table = paired_tail_difference([0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1], num_classes=2, k=1)
    >>> table.loc[["worst_k", "classes_at_zero"], ["a", "b", "difference"]]
                       a    b  difference
    worst_k          0.5  0.0         0.5
    classes_at_zero  0.0  1.0        -1.0
    """
    import pandas as pd  # only tables need it

    resamples = whole_number(resamples, "resamples", 1, MOST_RESAMPLES)
    predictions_a, predictions_b = class_indices(predictions_a, "predictions_a"), class_indices(predictions_b, "predictions_b")
    _, images = right_by_class(predictions_a, labels, num_classes)
    right_by_class(predictions_b, labels, num_classes)  # checks
    if not images.any():
        raise InputError(f"Expected at least one label in `labels`, got {len(labels)} of -1")
    k = whole_number(k, "k", 1, int((images > 0).sum()))
    labels = as_numpy(labels, "labels").astype(np.int64)  # a narrow type would overflow below
    # Of each image only this matters: 3 both right, 2 only A, 1 only B, 0 none. A resample of a class is one multinomial.
    outcome = 2 * (predictions_a == labels) + (predictions_b == labels)
    known = labels >= 0
    counts = np.bincount(labels[known] * 4 + outcome[known], minlength=4 * num_classes).reshape(-1, 4)[images > 0]
    images = images[images > 0]
    draws = generator(seed).multinomial(images, counts / images[:, None], size=(resamples, len(images)))
    right = [counts[:, side].sum(axis=1) for side in ([2, 3], [1, 3])]  # A, B
    found = [tail_of_rows(side[None] / images, k, floor) for side in right]
    samples = [tail_of_rows(draws[:, :, side].sum(axis=2) / images, k, floor) for side in ([2, 3], [1, 3])]
    rows = {}
    for name in found[0]:
        a, b = (float(side[name][0]) for side in found)
        low, high = percentile_interval(samples[0][name] - samples[1][name], confidence)
        rows[name] = {"a": a, "b": b, "difference": a - b, "low": min(low, a - b), "high": max(high, a - b)}
    zero_a, zero_b = (side == 0 for side in right)
    difference = int(zero_a.sum()) - int(zero_b.sum())
    low, high = _paired_count_interval(int((zero_a & ~zero_b).sum()), int((zero_b & ~zero_a).sum()), len(images), confidence)
    rows["classes_at_zero"] = {"a": zero_a.sum(), "b": zero_b.sum(), "difference": difference,
                               "low": min(low, difference), "high": max(high, difference)}
    return pd.DataFrame.from_dict(rows, orient="index")


def _paired_count_interval(only_a: int, only_b: int, n: int, confidence: float) -> tuple[float, float]:
    """Interval of `only_a` - `only_b` of n pairs (Agresti and Min 2005): half a pair is added to each of the four cells, so
    that no discordant pair does not mean no doubt."""
    a, b, n_plus = only_a + 0.5, only_b + 0.5, n + 2
    difference = (a - b) / n_plus
    z = scipy.stats.norm.ppf(0.5 + check_confidence(confidence) / 2)
    half = z * np.sqrt(((a + b) / n_plus - difference**2) / n_plus)
    return float(n * (difference - half)), float(n * (difference + half))
