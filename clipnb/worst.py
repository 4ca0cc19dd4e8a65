"""The tail of the per-class accuracies: worst-k, harmonic and geometric mean, and what selection does to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipnb.errors import InputError, floats, whole_number
from clipnb.metrics import check_confidence, confusion_matrix, percentile_interval


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
    values = _raised(per_class, floor)
    return 0.0 if (values == 0).any() else float(1 / np.mean(1 / values))


def geometric_mean(per_class, floor: float = 0.0) -> float:
    """Geometric mean of the per-class accuracies, in [0, 1]; 0 as soon as one class is at 0 (`floor` as above).

    >>> round(geometric_mean([.25, 1.]), 6)
    0.5
    """
    values = _raised(per_class, floor)
    return 0.0 if (values == 0).any() else float(np.exp(np.mean(np.log(values))))


def _raised(per_class, floor: float) -> np.ndarray:
    if not 0 <= floor <= 1:
        raise InputError(f"Expected `floor` in [0, 1], got {floor}")
    values = _fractions(per_class)
    return np.maximum(values[~np.isnan(values)], floor)


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
    splits = whole_number(splits, "splits", 1)
    check_confidence(confidence)
    confusion = confusion_matrix(predictions, labels, num_classes)
    images, right = confusion.sum(axis=1), np.diag(confusion)
    usable = np.flatnonzero(images >= 2)
    k = whole_number(k, "k", 1, max(1, len(usable)))
    if k > len(usable):
        raise InputError(f"Expected at least k = {k} classes with two or more images, got {len(usable)}")
    per_class = np.divide(right, images, out=np.full(len(images), np.nan), where=images > 0)
    naive = worst_k_accuracy(per_class, k)
    rng = np.random.default_rng(seed)
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
    low, high = percentile_interval(resampled_worst_k(per_class, images, k, splits, rng), confidence)
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


def resampled_worst_k(per_class, images, k: int, resamples: int, rng) -> np.ndarray:
    """Bootstrap sample (resamples,) of the naive worst-k accuracy.

    >>> resampled_worst_k([0., 1.], [5, 5], 1, 2, np.random.default_rng(0))
    array([0., 0.])
    """
    sample = resample_per_class(per_class, images, resamples, rng)
    return np.partition(sample, k - 1, axis=1)[:, :k].mean(axis=1)
