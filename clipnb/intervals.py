"""Scores with their intervals, and the tests that compare two classifiers on the same images.

Every function returns a `Score`, a value with the ends of its interval. How often each interval covers the true value
is simulated in `benchmarks/coverage.py`; its table is on the book's benchmarks page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats takes a second to load, so it is loaded when it is first used

from clipnb._arrays import divide_or_nan
from clipnb._checks import MAX_RESAMPLES, as_numpy, booleans, floats, generator, one_of, real_number, whole_number
from clipnb._format import score_text
from clipnb.errors import InputError

NAN = float("nan")
MAX_VALUE = 1e100  # the square of a larger number could overflow
FEW = 10  # with fewer successes or fewer failures, Wilson's interval covers the true value too seldom
MIN_DEGREES_OF_FREEDOM = 100  # with fewer, the variance within classes is too uncertain to narrow an interval by it
MAX_GAIN = 1.5  # the largest factor by which stratification by class may raise the effective number of images
MIN_CLASSES = 10  # with fewer classes, resamples repeat a handful of ranks and the interval covers too seldom


class Score(NamedTuple):
    """A number with its interval.

    `value` is in the unit of its metric (a fraction, a cosine, a count), NaN where it is not defined. `low` and `high`
    are the ends of the interval at the requested confidence, 95 % by default; NaN where no interval can be given, for
    reasons that the function which returns the score documents.

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

    For a proportion near 0 or 1 its coverage is below its confidence; that of `proportion` is not.

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

    The exact interval is Clopper and Pearson's (1934). Together they cover the true share with a probability of at
    least 93.5 %, whatever it is (`benchmarks/coverage.py`); the coverage of Wilson's interval alone falls to 79 % for a
    single trial and to 86 % for 50.

    Args:
        successes: 0 to n.
        n: number of trials; NaN for n = 0.
        confidence: in (0, 1).

    >>> f"{proportion(0, 3):.1%}", f"{proportion(50, 100):.1%}"
    ('0.0 % [0.0, 70.8]', '50.0 % [40.4, 59.6]')
    """
    n = whole_number(n, "n", 0)
    successes = whole_number(successes, "successes", 0, n)
    return _effective_proportion(successes / n, n, confidence) if n else Score(NAN)


def _effective_proportion(value: float, n: float, confidence: float) -> Score:
    """A share measured on an effective number of trials `n`, which need not be whole (Korn and Graubard 1998)."""
    tail = (1 - check_confidence(confidence)) / 2
    right = value * n
    wrong = (1 - value) * n
    if min(right, wrong) < FEW - 1e-6:  # the tolerance keeps 10 successes from counting as 9.999...
        low = scipy.stats.beta.ppf(tail, right, wrong + 1) if right > 0 else 0.0
        high = scipy.stats.beta.ppf(1 - tail, right + 1, wrong) if wrong > 0 else 1.0
        return Score(float(value), float(low), float(high))
    return Score(float(value), *_wilson(value, n, confidence))


def _wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    # SciPy's `binomtest(...).proportion_ci` is the same interval for whole numbers; an effective number is not whole.
    z = scipy.stats.norm.ppf(0.5 + confidence / 2)
    center = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    # At a proportion of 0 or 1 one end is exactly 0 or 1, which the formula misses by rounding.
    low = 0.0 if value == 0 else float(center - half)
    high = 1.0 if value == 1 else float(center + half)
    return low, high


def check_right(right: npt.ArrayLike, images: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of correct images and of images of C classes as float arrays (C,), with 0 <= right <= images.

    >>> check_right([1, 0], [2, 2])[0]
    array([1., 0.])
    """
    right = floats(right, "right", 1)
    images = floats(images, "images", 1)
    if right.shape != images.shape:
        raise InputError(f"Expected `right` and `images` of one shape (C,), got {right.shape} and {images.shape}")
    wrong = (right < 0) | (right > images)
    if wrong.any():
        position = int(wrong.argmax())
        raise InputError(f"Expected `right` between 0 and `images`, got {right[position]:g} of {images[position]:g}")
    return right, images


def area_under_roc(scores: npt.ArrayLike, positives: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Probability that a positive has a higher score than a negative (AUROC), in [0, 1]; ties count half; chance = 0.5.

    The interval is Newcombe's method 5 (2006, part 2), which inverts the variance of Hanley and McNeil (1982), so that
    it is not empty at 0 or 1.

    Args:
        scores: (N,) higher = more likely positive.
        positives: (N,) booleans; at least one of each kind.
        confidence: in (0, 1).

    Raises:
        InputError: shapes differ, a score is not finite, or all are positives or none is.

    >>> f"{area_under_roc([.9, .8, .3, .5], [True, True, False, True]):.2f}"
    '1.00 [0.32, 1.00]'
    """
    scores = floats(scores, "scores", 1)
    positives = booleans(positives, "positives", scores.shape)
    z = scipy.stats.norm.ppf(0.5 + check_confidence(confidence) / 2)
    m, n = int(positives.sum()), int((~positives).sum())
    if not m or not n:
        raise InputError(f"Expected `positives` to hold both kinds, got {m} positives and {n} negatives")
    value = float((scipy.stats.rankdata(scores)[positives].sum() / m - (m + 1) / 2) / n)

    def too_far(area: float) -> float:  # beyond z standard errors, were `area` the true one
        pairs = 1 + ((m + n) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - value) ** 2 - z**2 * area * (1 - area) * pairs / (m * n)

    edge = 1e-9  # at 0 and 1 the variance is 0, which would be taken for the end of the interval
    low = scipy.optimize.brentq(too_far, 0, min(value, 1 - edge)) if value > 0 else 0.0
    high = scipy.optimize.brentq(too_far, max(value, edge), 1) if value < 1 else 1.0
    return Score(value, float(low), float(high))


def mean_over_classes(right: npt.ArrayLike, images: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Mean per-class accuracy (macro average) from counts, with an interval.

    The interval is that of a share of as many independent images as give the mean's variance. The variance is estimated
    within the classes, which are fixed, with n - 1 as divisor; classes of one image are pooled. The effective number of
    images is at most MAX_GAIN times what it would be with one accuracy for all classes, and at most that number where
    the classes have fewer than MIN_DEGREES_OF_FREEDOM degrees of freedom together.

    Args:
        right: (C,) number of images of each class that are predicted correctly.
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
    value = rates.mean()
    weight = 1 / len(images)
    single = images < 2
    variance = weight**2 * (rates * (1 - rates) / np.maximum(images - 1, 1))[~single].sum()
    if single.any():
        # The number of heads of unlike coins varies less than that of coins with their mean probability (Hoeffding
        # 1956).
        pooled = rates[single].mean()
        variance += weight**2 * single.sum() * pooled * (1 - pooled)
    equal = 1 / (weight**2 / images).sum()  # the effective number of images if all classes had one accuracy
    limit = equal * (MAX_GAIN if (images - 1).sum() >= MIN_DEGREES_OF_FREEDOM else 1)
    effective = min(value * (1 - value) / variance, limit) if variance > 0 else limit
    return _effective_proportion(value, effective, confidence)


def mean_with_t(values: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Mean of independent values with Student's t interval; no interval for fewer than two, or if all are equal.

    >>> f"{mean_with_t([1.0, 2.0, 3.0]):.2f}"
    '2.00 [-0.48, 4.48]'
    """
    values = floats(values, "values", 1).astype(float)
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
        finite = int(np.isfinite(samples).sum())
        raise InputError(f"Expected finite `samples` (NaN is left out), got {finite} finite of {len(samples)}")
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def clustered_accuracy(correct: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Accuracy over images that come in clusters (views of one drawing, frames of one film), with its interval.

    Images of one cluster tend to be right or wrong together, so an interval that treats them as independent is too
    narrow. This one is that of a share of as many independent images as give the variance between clusters (Korn and
    Graubard 1998).

    Args:
        correct: (N,) booleans.
        clusters: (N,) the number of each image's cluster; any numbers.
        confidence: in (0, 1).

    Returns:
        Accuracy as fractions in [0, 1]; without an interval if there is one cluster only.

    Raises:
        InputError: shapes differ, there is no image, or `correct` holds values other than booleans.

    >>> f"{clustered_accuracy([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]):.0%}"
    '50 % [0, 100]'
    """
    correct = as_numpy(correct, "correct")
    clusters = as_numpy(clusters, "clusters")
    if correct.ndim != 1 or not len(correct) or clusters.shape != correct.shape:
        raise InputError(
            f"Expected `correct` and `clusters` of one shape (N,), N >= 1, got {correct.shape} and {clusters.shape}"
        )
    tail = (1 - check_confidence(confidence)) / 2
    _, cluster = np.unique(clusters, return_inverse=True)
    size = np.bincount(cluster)
    right = np.bincount(cluster, weights=booleans(correct, "correct", correct.shape))
    count = len(size)
    value = float(right.sum() / size.sum())
    if count < 2:
        return Score(value)
    variance = count / (count - 1) * ((right - value * size) ** 2).sum() / size.sum() ** 2
    effective = float(count)
    if variance > 0:
        # The worst case is that all images of a cluster are alike, the best that they are independent.
        effective = np.clip(value * (1 - value) / variance, size.sum() ** 2 / (size**2).sum(), size.sum())
    # The variance itself is only known from `count` clusters, so t quantiles take the place of normal ones.
    shrink = (scipy.stats.norm.ppf(1 - tail) / scipy.stats.t.ppf(1 - tail, count - 1)) ** 2
    return _effective_proportion(value, float(effective * shrink), confidence)


def paired_difference(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike, confidence: float = 0.95) -> Score:
    """Accuracy of A minus accuracy of B on the same images, with the interval of Agresti and Min (2005).

    Half an image is added to each of the four cells of the 2 x 2 table, so that few disagreements still leave an
    interval.

    Args:
        correct_a: (N,) booleans, whether A is right on each image.
        correct_b: (N,) booleans, whether B is right on each image.
        confidence: in (0, 1).

    Returns:
        Difference in [-1, 1].

    Raises:
        InputError: shapes differ, or an array holds values other than booleans.

    >>> f"{paired_difference([1, 1, 1, 0], [1, 0, 0, 0]):.2f}"
    '0.50 [-0.17, 0.83]'
    """
    a, b = _same_images(correct_a, correct_b)
    return paired_counts(int((a & ~b).sum()), int((b & ~a).sum()), len(a), confidence)


def paired_counts(only_a: int, only_b: int, n: int, confidence: float = 0.95) -> Score:
    """`paired_difference` from counts: the number of n pairs in which only A succeeds, and in which only B does.

    >>> f"{paired_counts(2, 0, 4):.2f}"
    '0.50 [-0.17, 0.83]'
    """
    more = only_a + 0.5
    fewer = only_b + 0.5
    total = n + 2
    center = (more - fewer) / total
    z = scipy.stats.norm.ppf(0.5 + check_confidence(confidence) / 2)
    half = z * math.sqrt(((more + fewer) / total - center**2) / total)
    return Score((only_a - only_b) / n, max(-1.0, center - half), min(1.0, center + half))


def _same_images(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a = as_numpy(correct_a, "correct_a")
    b = as_numpy(correct_b, "correct_b")
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise InputError(f"Expected `correct_a` and `correct_b` of one shape (N,), N >= 1, got {a.shape} and {b.shape}")
    return booleans(a, "correct_a", a.shape), booleans(b, "correct_b", a.shape)


def mcnemar(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike) -> tuple[float, tuple[int, int]]:
    """McNemar's exact test of "A and B are right equally often", two-sided (McNemar 1947, exact binomial form).

    Only images on which exactly one of the two is right distinguish them. If neither is better, each such image is a
    fair coin toss.

    Args:
        correct_a: (N,) booleans, whether A is right on each image.
        correct_b: (N,) booleans, whether B is right on each image.

    Returns:
        (p-value in [0, 1], (images that only A has right, images that only B has right)); p = 1 where the two agree
        on every image. `paired_difference` estimates the size of the difference.

    Raises:
        InputError: shapes differ, or an array holds values other than booleans.

    >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0])
    (0.03125, (6, 0))
    """
    a, b = _same_images(correct_a, correct_b)
    only_a = int((a & ~b).sum())
    only_b = int((b & ~a).sum())
    return sign_test(only_a, only_b), (only_a, only_b)


def sign_test(only_a: int, only_b: int) -> float:
    """Two-sided p-value of `only_a` heads and `only_b` tails of a fair coin, exact for any counts.

    >>> sign_test(6, 0), sign_test(0, 0), sign_test(10**6, 10**6)
    (0.03125, 1.0, 1.0)
    """
    # A fair coin's distribution is symmetric, so the two-sided p-value is twice the smaller tail.
    return float(min(1.0, 2 * scipy.stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def rank_correlation(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    nan: Literal["drop", "worst"] = "drop",
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Score:
    """Spearman's rank correlation over classes with a bootstrap interval.

    Args:
        x: (C,) one value for each class.
        y: (C,) one value for each class.
        nan: "drop" leaves a class out when x or y is NaN; "worst" ranks a NaN in x below every number
            (a class that is never predicted) and drops only NaNs in y.
        resamples: number of bootstrap samples of the classes.
        seed: seed of the bootstrap.
        confidence: in (0, 1).

    Returns:
        rho in [-1, 1]; NaN when fewer than three classes are left or one side is constant. Below ten classes it has no
        interval.

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
    nan: Literal["drop", "worst"] = "drop",
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Score:
    """Spearman's correlation of `a` with `y` minus that of `b` with `y`, with a paired bootstrap interval.

    Both are computed on the same classes and the same resamples of them, so errors that they share cancel: the interval
    is narrower than two separate ones suggest.

    Args:
        a: (C,) one value for each class.
        b: (C,) one value for each class.
        y: (C,) one value for each class.
        nan: as in `rank_correlation`, for `a` and `b`.
        resamples: number of bootstrap samples of the classes.
        seed: seed of the bootstrap.
        confidence: in (0, 1).

    Returns:
        Difference in [-2, 2]; NaN when fewer than three classes are left or one side is constant.

    >>> rank_correlation_difference([1, 2, 3, 4], [4, 3, 2, 1], [10, 20, 30, 40]).value
    2.0
    """
    (a, b), y = _comparable([a, b], ["a", "b"], y, nan)
    picks = _picks(len(y), resamples, seed)
    value = _spearman(a[None], y[None]) - _spearman(b[None], y[None])
    samples = _spearman(a[picks], y[picks]) - _spearman(b[picks], y[picks])
    return _correlation_score(value, samples, len(y), confidence)


def _picks(classes: int, resamples: int, seed: int) -> np.ndarray:
    """(R, C) indices of the classes of each bootstrap sample."""
    resamples = whole_number(resamples, "resamples", 1, MAX_RESAMPLES)
    return generator(seed).integers(max(classes, 1), size=(resamples, classes))


def _correlation_score(value: np.ndarray, samples: np.ndarray, classes: int, confidence: float) -> Score:
    check_confidence(confidence)
    if classes < 3:
        return Score(NAN)
    if classes < MIN_CLASSES or not np.isfinite(samples).any():
        return Score(float(value[0]))
    return Score(float(value[0]), *percentile_interval(samples, confidence))


def _comparable(
    scores: Sequence[npt.ArrayLike], names: Sequence[str], y: npt.ArrayLike, nan: str
) -> tuple[list[np.ndarray], np.ndarray]:
    """The scores and `y`, restricted to the classes on which all have a value."""
    y = floats(y, "y", 1, finite=False).astype(float)
    arrays = [floats(x, name, 1, finite=False).astype(float) for x, name in zip(scores, names, strict=True)]
    for x in arrays:
        if x.shape != y.shape:
            raise InputError(f"Expected `y` of shape (C,) = {x.shape}, got {y.shape}")
    if one_of(nan, "nan", ("drop", "worst")) == "worst":
        arrays = [np.where(np.isnan(x), -np.inf, x) for x in arrays]
    keep = ~np.isnan([*arrays, y]).any(axis=0)
    return [x[keep] for x in arrays], y[keep]


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the rows of x and y; ties have their mean rank; NaN where one side is constant."""
    if not x.shape[1]:
        return np.full(len(x), NAN)
    a, b = (scipy.stats.rankdata(values, axis=1) for values in (x, y))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    return divide_or_nan((a * b).sum(axis=1), np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))
