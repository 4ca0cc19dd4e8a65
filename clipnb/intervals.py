"""Scores with their intervals, and the tests that compare two classifiers on the same images.

Every function returns a `Score`, a value with the ends of its interval. How often each interval holds the truth is simulated in
`benchmarks/coverage.py`, whose table is on the book's page of benchmarks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # loads scipy.stats, a second of work, when it is first used

from clipnb._checks import MAX_RESAMPLES, as_numpy, booleans, floats, generator, one_of, real_number, whole_number
from clipnb._format import score_text
from clipnb.errors import InputError

NAN = float("nan")
MAX_VALUE = 1e100  # the square of a larger number is infinite
FEW = 10  # where fewer are right or fewer are wrong, Wilson's interval holds a rate near 0 or 1 too seldom
LEAST_FREEDOM = (
    100  # with fewer degrees of freedom, a variance within classes says too little to narrow an interval by it
)
MAX_GAIN = 1.5  # how many times as many images the stratification by class may count for, at most


class Score(NamedTuple):
    """A number with its interval.

    `value` is in the unit of its metric (a fraction, a cosine, a count), NaN where it is not defined. `low` and `high` are the ends of the
    interval at the confidence that was asked for, 95 % by default; NaN where no interval can be given, and then the function that returns
    the score says why.

    >>> score = Score(0.699, 0.677, 0.719)
    >>> f"{score:.1%}"
    '69.9 % [67.7, 71.9]'
    >>> f"{Score(12, 9, 15):.0f}", f"{Score(0.5, NAN, NAN):.1%}"
    ('12 [9, 15]', '50.0 %')
    """

    value: float
    low: float = NAN
    high: float = NAN

    @property
    def has_interval(self) -> bool:
        """Whether the ends are numbers."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def __format__(self, spec: str) -> str:
        return score_text(self.value, self.low, self.high, spec)


def check_confidence(confidence: float) -> float:
    """Return `confidence` if it lies strictly between 0 and 1.

    >>> check_confidence(0.95)
    0.95
    """
    if not 0 < real_number(confidence, "confidence") < 1:
        raise InputError(f"Expected `confidence` strictly between 0 and 1, got {confidence}")
    return confidence


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), as a pair of fractions.

    For a proportion near 0 or 1 it holds the truth less often than it says; `proportion` does not.

    Args:
        successes: 0 to n.
        n: number of trials; (0.0, 1.0) is returned for n = 0.
        confidence: in (0, 1).

    >>> low, high = wilson_interval(0, 3)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.561)
    """
    n = whole_number(n, "n", 0)
    successes = whole_number(successes, "successes", 0, n)
    check_confidence(confidence)
    return _wilson(successes / n, n, confidence) if n else (0.0, 1.0)


def proportion(successes: int, n: int, confidence: float = 0.95) -> Score:
    """A share of images or of classes: Wilson's interval, or the exact one where fewer than ten succeed or fail.

    The exact interval is Clopper and Pearson's (1934). Together they hold the truth with a probability of at least 93.5 %, whatever
    the true share (`benchmarks/coverage.py`); Wilson's alone falls to 79 % for a single trial and to 86 % for 50.

    Args:
        successes: 0 to n.
        n: number of trials; NaN for n = 0.
        confidence: in (0, 1).

    >>> f"{proportion(0, 3):.1%}", f"{proportion(50, 100):.1%}"
    ('0.0 % [0.0, 70.8]', '50.0 % [40.4, 59.6]')
    """
    n = whole_number(n, "n", 0)
    successes = whole_number(successes, "successes", 0, n)
    return _share(successes / n, n, confidence) if n else Score(NAN)


def _share(value: float, n: float, confidence: float) -> Score:
    """Interval of a share measured on an effective number of trials `n`, which need not be whole (Korn and Graubard 1998)."""
    tail = (1 - check_confidence(confidence)) / 2
    right, wrong = value * n, (1 - value) * n
    if min(right, wrong) < FEW:
        low = scipy.stats.beta.ppf(tail, right, wrong + 1) if right > 0 else 0.0
        high = scipy.stats.beta.ppf(1 - tail, right + 1, wrong) if wrong > 0 else 1.0
        return Score(float(value), float(low), float(high))
    return Score(float(value), *_wilson(value, n, confidence))


def _wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    z = scipy.stats.norm.ppf(0.5 + confidence / 2)
    center = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    # At 0 and 1 the ends are exact, which rounding would miss by a little.
    return (0.0 if value == 0 else float(center - half)), (1.0 if value == 1 else float(center + half))


def check_right(right: npt.ArrayLike, images: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of right images and of images of C classes as float arrays (C,), with 0 <= right <= images.

    >>> check_right([1, 0], [2, 2])[0]
    array([1., 0.])
    """
    right, images = floats(right, "right", 1), floats(images, "images", 1)
    if right.shape != images.shape:
        raise InputError(f"Expected `right` and `images` of one shape (C,), got {right.shape} and {images.shape}")
    wrong = (right < 0) | (right > images)
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(f"Expected `right` between 0 and `images`, got {right[place]:g} of {images[place]:g}")
    return right, images


def mean_over_classes(right: npt.ArrayLike, images: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Mean per-class accuracy (macro average) from counts, with an interval.

    The interval is that of a share of as many independent images as have the mean's variance. The variance is estimated within
    the classes, which are fixed, and divides by n - 1; classes of one image are pooled. It counts for at most MAX_GAIN times the
    images, and for the images alone where the classes have fewer than LEAST_FREEDOM degrees of freedom together.

    Args:
        right: (C,) number of images of each class that are predicted right.
        images: (C,) number of images of each class; classes without images are left out.
        confidence: in (0, 1).

    Returns:
        Fractions in [0, 1]; NaN if no class has images.

    >>> f"{mean_over_classes([3, 0, 2], [3, 3, 3]):.1%}"
    '55.6 % [21.2, 86.3]'
    """
    right, images = check_right(right, images)
    present = images > 0
    right, images = right[present], images[present]
    if not len(images):
        return Score(NAN)
    rates = right / images
    value, weight = rates.mean(), 1 / len(images)
    single = images < 2
    variance = weight**2 * (rates * (1 - rates) / np.maximum(images - 1, 1))[~single].sum()
    if single.any():
        # Of unlike coins the number of heads varies less than of coins with their mean (Hoeffding 1956).
        pooled = rates[single].mean()
        variance += weight**2 * single.sum() * pooled * (1 - pooled)
    equal = 1 / (weight**2 / images).sum()  # the effective number of images if all classes had one accuracy
    most = equal * (MAX_GAIN if (images - 1).sum() >= LEAST_FREEDOM else 1)
    return _share(value, min(value * (1 - value) / variance, most) if variance > 0 else most, confidence)


def mean_with_t(values: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Mean of independent values with Student's t interval; no interval for fewer than two, or if all are equal.

    >>> f"{mean_with_t([1.0, 2.0, 3.0]):.2f}"
    '2.00 [-0.48, 4.48]'
    """
    values = floats(values, "values", 1)
    n = len(values)
    tail = (1 - check_confidence(confidence)) / 2
    if not n or np.abs(values).max() > MAX_VALUE:
        raise InputError(f"Expected `values` to hold at least one number, none beyond {MAX_VALUE:g}, got {n}")
    if n < 2 or not np.ptp(values):
        return Score(float(values.mean()))
    half = scipy.stats.t.ppf(1 - tail, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Score(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def percentile_interval(samples: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples (R,), NaNs left out.

    >>> percentile_interval(range(5), confidence=0.5)
    (1.0, 3.0)
    """
    tail = (1 - check_confidence(confidence)) / 2
    samples = floats(samples, "samples", 1, finite=False)
    if np.isinf(samples).any() or np.isnan(samples).all():
        raise InputError(
            f"Expected finite `samples` (NaN is left out), got {int(np.isfinite(samples).sum())} finite of {len(samples)}"
        )
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def clustered_accuracy(correct: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Accuracy over images that come in clusters (views of one drawing, frames of one film), with its interval.

    Images of one cluster tend to be right or wrong together, so an interval that takes them as independent is too narrow. This one
    is that of a share of as many independent images as have the variance between clusters (Korn and Graubard 1998).

    Args:
        correct: (N,) booleans.
        clusters: (N,) cluster of each image, any numbers.
        confidence: in (0, 1).

    Returns:
        Accuracy as fractions in [0, 1]; without an interval if there is one cluster only.

    Raises:
        InputError: shapes differ, there is no image, or `correct` holds anything but booleans.

    >>> f"{clustered_accuracy([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]):.0%}"
    '50 % [0, 100]'
    """
    correct, clusters = as_numpy(correct, "correct"), as_numpy(clusters, "clusters")
    if correct.ndim != 1 or not len(correct) or clusters.shape != correct.shape:
        raise InputError(
            f"Expected `correct` and `clusters` of one shape (N,), N >= 1, got {correct.shape} and {clusters.shape}"
        )
    tail = (1 - check_confidence(confidence)) / 2
    _, cluster = np.unique(clusters, return_inverse=True)
    size, right = np.bincount(cluster), np.bincount(cluster, weights=booleans(correct, "correct", correct.shape))
    count, value = len(size), float(right.sum() / size.sum())
    if count < 2:
        return Score(value)
    variance = count / (count - 1) * ((right - value * size) ** 2).sum() / size.sum() ** 2
    # All images of a cluster alike is the worst case; independent images are the best.
    effective = (
        np.clip(value * (1 - value) / variance, size.sum() ** 2 / (size**2).sum(), size.sum())
        if variance > 0
        else count
    )
    shrink = (
        scipy.stats.norm.ppf(1 - tail) / scipy.stats.t.ppf(1 - tail, count - 1)
    ) ** 2  # the variance itself is known from `count` clusters
    return _share(value, float(effective * shrink), confidence)


def paired_difference(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Accuracy of A minus accuracy of B on the same images, with the interval of Agresti and Min (2005).

    Half an image is added to each of the four cells of the 2 x 2 table, so that few disagreements do not mean no doubt.

    Args:
        correct_a, correct_b: (N,) booleans, image by image.
        confidence: in (0, 1).

    Returns:
        Difference in [-1, 1].

    Raises:
        InputError: shapes differ, or something other than booleans.

    >>> f"{paired_difference([1, 1, 1, 0], [1, 0, 0, 0]):.2f}"
    '0.50 [-0.17, 0.83]'
    """
    a, b = _same_images(correct_a, correct_b)
    return paired_counts(int((a & ~b).sum()), int((b & ~a).sum()), len(a), confidence)


def paired_counts(only_a: int, only_b: int, n: int, confidence: float = 0.95) -> Score:
    """`paired_difference` from counts: of n pairs, those in which only A, and only B, succeeds.

    >>> f"{paired_counts(2, 0, 4):.2f}"
    '0.50 [-0.17, 0.83]'
    """
    more, fewer, total = only_a + 0.5, only_b + 0.5, n + 2
    center = (more - fewer) / total
    z = scipy.stats.norm.ppf(0.5 + check_confidence(confidence) / 2)
    half = z * math.sqrt(((more + fewer) / total - center**2) / total)
    return Score((only_a - only_b) / n, max(-1.0, center - half), min(1.0, center + half))


def _same_images(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = as_numpy(correct_a, "correct_a"), as_numpy(correct_b, "correct_b")
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise InputError(f"Expected `correct_a` and `correct_b` of one shape (N,), N >= 1, got {a.shape} and {b.shape}")
    return booleans(a, "correct_a", a.shape), booleans(b, "correct_b", a.shape)


def mcnemar(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike) -> tuple[float, tuple[int, int]]:
    """McNemar's exact test of "A and B are right equally often", two-sided (McNemar 1947, exact binomial form).

    Only images on which exactly one of the two is right can tell them apart. If neither is better, each such image
    is a fair coin.

    Args:
        correct_a, correct_b: (N,) booleans, image by image.

    Returns:
        (p-value in [0, 1], (images that only A has right, images that only B has right)); p = 1 where the two agree
        on every image. How much better: `paired_difference`.

    Raises:
        InputError: shapes differ, or something other than booleans.

    >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0])
    (0.03125, (6, 0))
    """
    a, b = _same_images(correct_a, correct_b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return sign_test(only_a, only_b), (only_a, only_b)


def sign_test(only_a: int, only_b: int) -> float:
    """Two-sided p-value of that many heads and tails of a fair coin, exact for any number of them.

    >>> sign_test(6, 0), sign_test(0, 0), sign_test(10**6, 10**6)
    (0.03125, 1.0, 1.0)
    """
    # A fair coin's distribution is symmetric, so the two-sided p-value is twice the smaller tail.
    return float(min(1.0, 2 * scipy.stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def rank_correlation(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    nan: str = "drop",
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Score:
    """Spearman's rank correlation over classes with a bootstrap interval.

    Args:
        x, y: (C,) one value a class.
        nan: "drop" leaves a class out when x or y is NaN; "worst" ranks a NaN in x below every number
            (a class that is never predicted) and drops only NaNs in y.
        resamples, seed: of the bootstrap over classes.
        confidence: in (0, 1).

    Returns:
        rho in [-1, 1]; NaN when fewer than three classes are left or one side is constant, and no interval below ten classes.

    >>> rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]).value
    1.0
    """
    (x,), y = _comparable([x], ["x"], y, nan)
    picks = _picks(len(y), resamples, seed)
    return _correlation_score(_spearman(x[None], y[None]), _spearman(x[picks], y[picks]), len(y), confidence)


def rank_correlation_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    y: npt.ArrayLike,
    nan: str = "drop",
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Score:
    """Spearman's correlation of `a` with `y` minus that of `b` with `y`, with a paired bootstrap interval.

    Both are computed on the same classes and on the same resamples of them, so what they share cancels: the interval
    is narrower than two separate ones suggest.

    Args:
        a, b, y: (C,) one value a class.
        nan: as in `rank_correlation`, for `a` and `b`.
        resamples, seed, confidence: as in `rank_correlation`.

    Returns:
        Difference in [-2, 2]; NaN when fewer than three classes are left or one side is constant.

    >>> rank_correlation_difference([1, 2, 3, 4], [4, 3, 2, 1], [10, 20, 30, 40]).value
    2.0
    """
    (a, b), y = _comparable([a, b], ["a", "b"], y, nan)
    picks = _picks(len(y), resamples, seed)
    values = _spearman(a[None], y[None]) - _spearman(b[None], y[None])
    return _correlation_score(values, _spearman(a[picks], y[picks]) - _spearman(b[picks], y[picks]), len(y), confidence)


FEWEST_CLASSES = 10  # with fewer, resamples of the classes repeat a handful of ranks and the interval holds too seldom


def _picks(classes: int, resamples: int, seed: int) -> np.ndarray:
    resamples = whole_number(resamples, "resamples", 1, MAX_RESAMPLES)
    return generator(seed).integers(max(classes, 1), size=(resamples, classes))


def _correlation_score(value: np.ndarray, samples: np.ndarray, classes: int, confidence: float) -> Score:
    check_confidence(confidence)
    if classes < 3:
        return Score(NAN)
    if classes < FEWEST_CLASSES or not np.isfinite(samples).any():
        return Score(float(value[0]))
    return Score(float(value[0]), *percentile_interval(samples, confidence))


def _comparable(scores, names, y, nan: str):
    """Scores and `y` over the classes on which all have a value."""
    y = floats(y, "y", 1, finite=False).astype(float)
    scores = [floats(x, name, 1, finite=False).astype(float) for x, name in zip(scores, names, strict=True)]
    for x in scores:
        if x.shape != y.shape:
            raise InputError(f"Expected `y` of shape (C,) = {x.shape}, got {y.shape}")
    if one_of(nan, "nan", ("drop", "worst")) == "worst":
        scores = [np.where(np.isnan(x), -np.inf, x) for x in scores]
    keep = ~np.isnan([*scores, y]).any(axis=0)
    return [x[keep] for x in scores], y[keep]


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Row by row, ties at their mean rank; NaN where one side is constant."""
    if not x.shape[1]:
        return np.full(len(x), NAN)
    a, b = scipy.stats.rankdata(x, axis=1), scipy.stats.rankdata(y, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), NAN), where=scale > 0)
