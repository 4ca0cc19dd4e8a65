"""The tail of the per-class accuracies: worst-k, harmonic and geometric mean, and their bias by selection."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import scipy  # its sub-modules take a second to load, so each is loaded when it is first used

from clipnb._arrays import divide_or_nan
from clipnb._checks import MAX_RESAMPLES, floats, generator, listed, real_number, whole_number
from clipnb._class_prior import sample_accuracies
from clipnb.errors import InputError
from clipnb.intervals import NAN, Score, check_confidence, check_right, percentile_interval, proportion
from clipnb.metrics import correct_and_total

MAX_IMAGES = 10**9  # images of a class
FINE = 200  # images of a class from which the levels of accuracy that `possible_worst` weighs lie closer together
# With fewer images a class, or in all, the range that the data allow takes the place of an estimate; below MIN_SPLIT in
# all the split half has no interval. Simulated intervals cover too rarely there (`benchmarks/coverage.py`).
MIN_IMAGES = 10
MIN_TOTAL = 500
MIN_SPLIT = 50
HALVES = 4  # random halves for each posterior draw of the accuracies


def _fractions(per_class: npt.ArrayLike) -> np.ndarray:
    """Return per-class accuracies if they are fractions in [0, 1] and at least one class has images."""
    per_class = floats(per_class, "per_class", 1, finite=False).astype(float)
    present = per_class[~np.isnan(per_class)]
    if not len(present):
        raise InputError(f"Expected `per_class` to hold at least one class with images, got {len(per_class)} NaN(s)")
    if present.min() < 0 or present.max() > 1:
        raise InputError(f"Expected `per_class` to be fractions in [0, 1], got {present.min():g} to {present.max():g}")
    return per_class


def worst_classes(per_class: npt.ArrayLike, k: int) -> npt.NDArray[np.int64]:
    """Indices of the k classes with the lowest accuracy, worst first; ties go to the lower index, NaN is left out.

    >>> worst_classes([.5, 0., .9, 0.], k=3)
    array([1, 3, 0])
    """
    per_class = _fractions(per_class)
    present = int((~np.isnan(per_class)).sum())
    return np.argsort(per_class, kind="stable")[: whole_number(k, "k", 1, present)]  # argsort puts NaN last


def worst_k_accuracy(per_class: npt.ArrayLike, k: int) -> float:
    """Mean accuracy of the k worst classes, a fraction in [0, 1].

    With few images a class this is biased downward, because the worst classes are chosen and measured on the same
    images: see `worst_k_report`.

    Args:
        per_class: (C,) fractions in [0, 1], NaN = no images (left out).
        k: 1 to the number of classes that have images.

    >>> worst_k_accuracy([.5, 0., .9, .1], k=2)
    0.05
    """
    per_class = _fractions(per_class)
    return float(per_class[worst_classes(per_class, k)].mean())


def classes_at_zero(per_class: npt.ArrayLike) -> int:
    """Number of classes that have images and an accuracy of exactly 0.

    >>> classes_at_zero([0., float("nan"), .5])
    1
    """
    return int((_fractions(per_class) == 0).sum())


def harmonic_mean(per_class: npt.ArrayLike, floor: float = 0.0) -> float:
    """Harmonic mean of the per-class accuracies, in [0, 1]; 0 if any class is at 0.

    Args:
        per_class: (C,) fractions in [0, 1], NaN = no images (left out).
        floor: lower accuracies are first raised to this value, so that one class at 0 does not decide alone.

    >>> harmonic_mean([.5, 1.])
    0.6666666666666666
    >>> harmonic_mean([0., 1.])
    0.0
    """
    return float(scipy.stats.hmean(_floored(per_class, floor)))


def geometric_mean(per_class: npt.ArrayLike, floor: float = 0.0) -> float:
    """Geometric mean of the per-class accuracies, in [0, 1]; 0 if any class is at 0.

    Args:
        per_class: (C,) fractions in [0, 1], NaN = no images (left out).
        floor: lower accuracies are first raised to this value, so that one class at 0 does not decide alone.

    >>> round(geometric_mean([.25, 1.]), 6)
    0.5
    """
    return float(scipy.stats.gmean(_floored(per_class, floor)))


def _floored(per_class: npt.ArrayLike, floor: float) -> np.ndarray:
    """Accuracies of the classes that have images, raised to `floor` where they are lower."""
    values = _fractions(per_class)
    if not 0 <= real_number(floor, "floor") <= 1:
        raise InputError(f"Expected `floor` in [0, 1], got {floor}")
    return np.maximum(values[~np.isnan(values)], floor)


@dataclass(frozen=True)
class WorstKReport:
    """The meanings of "the accuracy of the k worst classes"; fractions in [0, 1], each a `Score`.

    Attributes:
        k: number of classes.
        naive: mean accuracy of the k classes with the lowest accuracy on these images. They are chosen and measured on
            the same images, so it is biased downward and has no interval.
        truly_worst: true accuracy of the k classes with the lowest true accuracies, whichever they are. It rests on a
            family of distributions (`clipnb._class_prior`). Below MIN_IMAGES images a class or MIN_TOTAL in all its
            value is NaN and its interval is `possible`.
        listed: true accuracy of the k classes in `classes`, which had the lowest accuracy on these images. It rests on
            the same family, and has no interval there.
        split_half: accuracy of k classes chosen on one half of the images and measured on the other. It is an honest
            estimate for classes chosen on half of the images, and above `truly_worst`, since fewer images choose less
            well. Its interval rests on the same family.
        possible: lowest and highest accuracy of the truly worst k that the data allow, whatever the family.
        fits: whether the counts are compatible with the family (posterior predictive check at 5 %).
        classes: (k,) indices of the listed classes, worst first.
        images_per_class: median number of images of the classes.
        num_left_out: number of classes with fewer than two images, which cannot be split.
    """

    k: int
    naive: Score
    truly_worst: Score
    listed: Score
    split_half: Score
    possible: tuple[float, float]
    fits: bool
    classes: npt.NDArray[np.int64]
    images_per_class: float
    num_left_out: int

    @property
    def honest(self) -> float:
        """Deprecated: `split_half.value`."""
        return _renamed("honest", self.split_half).value

    @property
    def honest_ci(self) -> tuple[float, float]:
        """Deprecated: the ends of `split_half`."""
        return _renamed("honest_ci", self.split_half)[1:]


def _renamed(name: str, score: Score) -> Score:
    warnings.warn(f"WorstKReport.{name} is now WorstKReport.split_half", DeprecationWarning, stacklevel=3)
    return score


def worst_k_report(
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int,
    k: int,
    splits: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> WorstKReport:
    """Accuracy of the k worst classes, in the four meanings of `WorstKReport`.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k: 1 to the number of classes with at least two images.
        splits: number of random halves that `split_half` averages over.
        seed: seed of the random halves and of the posterior sample.
        confidence: confidence of every interval, in (0, 1).

    Raises:
        InputError: shapes differ, an index is out of range, or fewer than k classes can be split.

    >>> labels = np.repeat(np.arange(30), 20)
    >>> predictions = np.where(labels < 3, 29, labels)
    >>> report = worst_k_report(predictions, labels, num_classes=30, k=3)
    >>> report.naive.value, report.classes, bool(report.truly_worst.high < 0.2)
    (0.0, array([0, 1, 2]), True)
    """
    return worst_k_reports(predictions, labels, num_classes, [k], splits, seed, confidence)[0]


def worst_k_reports(
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int,
    ks: Sequence[int],
    splits: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[WorstKReport]:
    """`worst_k_report` for several k; the model of the accuracies is fitted once.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        ks: each 1 to the number of classes with at least two images.
        splits: number of random halves that `split_half` averages over.
        seed: seed of the random halves and of the posterior sample.
        confidence: confidence of every interval, in (0, 1).

    Raises:
        InputError: as in `worst_k_report`, or `ks` is empty.

    >>> [report.k for report in worst_k_reports([0, 0, 1, 1], [0, 0, 1, 1], num_classes=2, ks=[1, 2])]
    [1, 2]
    """
    right, images = correct_and_total(predictions, labels, num_classes)
    return reports_of_counts(right, images, ks, splits, seed, confidence)


def reports_of_counts(
    right: npt.ArrayLike,
    images: npt.ArrayLike,
    ks: Sequence[int],
    splits: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[WorstKReport]:
    """`worst_k_reports` from counts, which is all that it needs of the images.

    Args:
        right: (C,) number of images of each class that are predicted right.
        images: (C,) number of images of each class.
        ks: numbers of worst classes.
        splits: as in `worst_k_report`.
        seed: as there.
        confidence: as there.

    Raises:
        InputError: shapes or counts are off, or too few classes can be split.

    >>> reports_of_counts([2, 0], [2, 2], ks=[1])[0].naive.value
    0.0
    """
    splits = whole_number(splits, "splits", 1, MAX_RESAMPLES)
    check_confidence(confidence)
    right, images = (counts.astype(np.int64) for counts in check_right(right, images))
    splittable = int((images >= 2).sum())
    ks = listed(ks, "ks", "numbers")
    if not ks:
        raise InputError("Expected at least one number of classes in `ks`, got none")
    for k in ks:
        if whole_number(k, "k", 1, max(1, splittable)) > splittable:
            raise InputError(f"Expected at least k = {k} classes with two or more images, got {splittable}")
    seed = whole_number(seed, "seed", 0)
    reports = _reports(right.tobytes(), images.tobytes(), tuple(ks), splits, seed, confidence)
    return [replace(report, classes=report.classes.copy()) for report in reports]


@lru_cache(maxsize=64)  # methods that are compared often agree on every class, and a model takes half a second
def _reports(
    right_of_class: bytes, images_of_class: bytes, ks: tuple[int, ...], splits: int, seed: int, confidence: float
) -> list[WorstKReport]:
    """`reports_of_counts` of valid arguments; counts as the bytes of an int64 array."""
    right, images = np.frombuffer(right_of_class, np.int64), np.frombuffer(images_of_class, np.int64)
    num_classes = len(images)
    usable = np.flatnonzero(images >= 2)
    present = np.flatnonzero(images)
    per_class = divide_or_nan(right, images)
    right = right[present]
    images = images[present]
    usable = np.searchsorted(present, usable)
    rng = generator(seed)
    sample = sample_accuracies(right, images, rng)
    fits = _fits(right, images, sample, rng)
    enough_images = np.median(images) >= MIN_IMAGES and images.sum() >= MIN_TOTAL
    may_be_equal = not _differ(right, images)
    reports = []
    for k in ks:
        classes = worst_classes(per_class, k)
        lowest = np.partition(sample, k - 1, axis=1)[:, :k].mean(axis=1)
        listed_sample = sample[:, np.searchsorted(present, classes)].mean(axis=1)
        bounds = possible_worst(right, images, k, confidence)
        low, high = percentile_interval(lowest, confidence)
        if may_be_equal:  # if all classes have one accuracy, the worst are as good as any
            high = max(high, proportion(int(right.sum()), int(images.sum()), confidence).high)
        listed_interval = percentile_interval(listed_sample, confidence) if enough_images else (NAN, NAN)
        reports.append(
            WorstKReport(
                k=k,
                naive=Score(worst_k_accuracy(per_class, k)),
                truly_worst=Score(float(lowest.mean()), low, high) if enough_images else Score(NAN, *bounds),
                listed=Score(float(listed_sample.mean()), *listed_interval),
                split_half=_split_half(right[usable], images[usable], sample[:, usable], k, splits, rng, confidence),
                possible=bounds,
                fits=fits,
                classes=classes,
                images_per_class=float(np.median(images)),
                num_left_out=num_classes - len(usable),
            )
        )
    return reports


def _split_half(
    right: np.ndarray,
    images: np.ndarray,
    sample: np.ndarray,
    k: int,
    splits: int,
    rng: np.random.Generator,
    confidence: float,
) -> Score:
    """Mean accuracy, on the second half of the images, of the k worst classes on the first half."""
    first = images // 2

    def chosen(right_first: np.ndarray) -> np.ndarray:
        # Two accuracies a/m != b/n differ by at least 1/(mn), so noise below that only breaks ties, at random.
        order = right_first / first + rng.random(right_first.shape) / (2 * first.max() ** 2)
        return np.argpartition(order, k - 1, axis=1)[:, :k]

    def measured(right: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        # The number of right images in a random half of a class is hypergeometric.
        right_first = rng.hypergeometric(right, images - right, first, size=size)
        rows = chosen(right_first)
        return (np.take_along_axis(right - right_first, rows, axis=1) / (images - first)[rows]).mean(axis=1)

    value = float(measured(right, (splits, len(images))).mean())
    if images.sum() < MIN_SPLIT:
        return Score(value)
    # The error of the score is simulated: accuracies and images are drawn from the model, and the score of these images
    # is compared with the true accuracy of the classes that half of them choose.
    replicates = rng.binomial(images, sample)
    error = np.zeros(len(sample))
    for _ in range(HALVES):
        error += measured(replicates, sample.shape) / HALVES
        error -= np.take_along_axis(sample, chosen(rng.binomial(first, sample)), axis=1).mean(axis=1) / HALVES
    low, high = percentile_interval(error, confidence)
    return Score(value, max(0.0, value - high), min(1.0, value - low))


def possible_worst(
    right: npt.ArrayLike, images: npt.ArrayLike, k: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Lowest and highest true accuracy of the k worst classes that the data allow, for any distribution of accuracies.

    A distribution of accuracies is allowed if the cumulative shares of classes by observed accuracy that it leads one
    to expect lie in the band of Dvoretzky, Kiefer, Wolfowitz and Massart around the observed shares. The mean of its
    lowest k of C is minimised and maximised by linear programming.

    Args:
        right: (C,) number of correct images of each class.
        images: (C,) number of images of each class, at least one.
        k: 1 to C.
        confidence: confidence of the band, in (0, 1).

    >>> low, high = possible_worst(np.zeros(100), np.full(100, 3), k=10)
    >>> low, high < 0.4
    (0.0, True)
    """
    right, images = check_right(right, images)
    k = whole_number(k, "k", 1, max(1, len(images)))
    if not len(images) or images.min() < 1 or images.max() > MAX_IMAGES:
        raise InputError(
            f"Expected `images` of at least one class, 1 to {MAX_IMAGES:,} each, got {len(images)} classes"
        )
    rates = right / images
    quantiles = np.quantile(rates, np.linspace(0, 1, 41), method="inverted_cdf")
    thresholds = np.unique([*quantiles[quantiles < 1], 1 - 1 / images.max()])  # 1 itself bounds nothing
    band = np.sqrt(np.log(2 / (1 - check_confidence(confidence))) / (2 * len(rates)))
    levels = np.sin(np.linspace(0, np.pi / 2, 81)) ** 2
    if images.max() > FINE:  # these levels are too far apart for accuracies that are known so well
        middles = (quantiles[1:] + quantiles[:-1]) / 2
        levels = np.unique([*levels, *quantiles, *middles])
    sizes, count = np.unique(images, return_counts=True)
    # Probability that the observed accuracy of a class at each level is at or below each threshold.
    expected = np.zeros((len(thresholds), len(levels)))
    for size, share in zip(sizes, count / len(images), strict=True):
        at_most = np.floor(thresholds * size + 1e-9)[:, None]
        expected += share * scipy.stats.binom.cdf(at_most, size, levels)
    observed = (rates[:, None] <= thresholds).mean(axis=0)
    limits = np.concatenate([expected, -expected])
    bounds = np.concatenate([observed + band, band - observed])
    # (T, G); the mean of the lowest k / C of a distribution is the maximum over t of t - E[shortfall_t].
    shortfall = np.maximum(levels[:, None] - levels, 0) / (k / len(rates))

    @cache
    def highest(t: int) -> float:
        total = np.ones((1, len(levels)))
        return levels[t] - scipy.optimize.linprog(shortfall[t], limits, bounds, total, [1.0]).fun

    # The largest term is searched among every fourth level and then around the best of these. A term is at most its
    # level, and grows at most as much as its level: so the search begins near the lowest k observed rates, goes up
    # until no later term can reach the best one, and then down while a level is at least the best term.
    start = int(np.searchsorted(levels, np.sort(rates)[:k].mean())) // 4 * 4
    best, value = start, highest(start)
    for t in range(start + 4, len(levels), 4):
        term = highest(t)
        if term > value:
            best, value = t, term
        elif term + levels[-1] - levels[t] < value:
            break
    for t in range(start - 4, -1, -4):
        if levels[t] < value:
            break
        if highest(t) >= value:
            best, value = t, highest(t)
    best = max(range(max(0, best - 3), min(len(levels), best + 4)), key=highest)
    # The truth may lie between two levels.
    high = min(1.0, highest(best) + levels[min(best + 1, len(levels) - 1)] - levels[best])
    # Minimising that maximum takes one more variable, which is at least every term.
    free = np.zeros((len(bounds), 1))
    solution = scipy.optimize.linprog(
        np.append(np.zeros(len(levels)), 1.0),
        A_ub=np.concatenate([np.hstack([limits, free]), np.hstack([-shortfall, -np.ones((len(levels), 1))])]),
        b_ub=np.concatenate([bounds, -levels]),
        A_eq=np.append(np.ones(len(levels)), 0.0)[None],
        b_eq=[1.0],
    )
    return float(max(solution.fun, 0.0)), float(high)


def _differ(right: np.ndarray, images: np.ndarray) -> bool:
    """Whether the classes differ by more than chance explains (chi-squared test of homogeneity at 5 %)."""
    rate = right.sum() / images.sum()
    if len(right) < 2 or rate in (0, 1):
        return False
    statistic = ((right - images * rate) ** 2 / (images * rate * (1 - rate))).sum()
    return bool(scipy.stats.chi2.sf(statistic, len(right) - 1) < 0.05)


def _fits(right: np.ndarray, images: np.ndarray, sample: np.ndarray, rng: np.random.Generator) -> bool:
    """Posterior predictive check: whether the observed accuracies are as near to the expected as replicates are."""
    grid = np.linspace(0, 1, 21)
    replicates = np.sort(rng.binomial(images, sample) / images, axis=1)
    shares = np.array([np.searchsorted(row, grid, side="right") for row in replicates]) / len(images)
    expected = shares.mean(axis=0)
    distance = np.abs(shares - expected).max(axis=1)
    observed = np.abs(((right / images)[:, None] <= grid).mean(axis=0) - expected).max()
    return bool((distance >= observed).mean() > 0.05)
