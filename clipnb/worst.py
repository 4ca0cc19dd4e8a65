"""The tail of the per-class accuracies: worst-k, harmonic and geometric mean, and what selection does to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from clipnb._class_prior import sample_accuracies
from clipnb.errors import MOST_RESAMPLES, InputError, as_numpy, class_indices, floats, generator, real, whole_number
from clipnb.intervals import NAN, Score, check_confidence, paired_counts, percentile_interval, proportion, sign_test
from clipnb.metrics import right_by_class

FEW_IMAGES = 10  # images a class; with fewer, the range that the data allow stands in place of an estimate of the worst classes
HALVES = 8  # random halves for each draw of the accuracies

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
    """What "the accuracy of the k worst classes" can mean; fractions in [0, 1], each a `Score`.

    Attributes:
        k: how many classes.
        naive: mean accuracy of the k classes that did worst on these images. They are chosen and measured on the same images, so it
            reads too low, and no interval holds it to a truth.
        truly_worst: true accuracy of the classes that are truly the k worst, whichever they are. Rests on a family of distributions
            (`clipnb._class_prior`). Below FEW_IMAGES images a class its value is NaN and its interval is `possible`.
        listed: true accuracy of the k classes in `classes`, which did worst on these images. Rests on the same family; without an
            interval below FEW_IMAGES images a class.
        split_half: accuracy of k classes chosen on one half of the images, measured on the other: unbiased for what it says, and
            above `truly_worst`, since half of the images choose less well. Its interval rests on the same family.
        possible: lowest and highest accuracy of the truly worst k that the data allow, whatever the family.
        fits: whether the counts look like the family's (posterior predictive check at 5 %).
        classes: (k,) indices of the listed classes, worst first.
        images_per_class: median number of images of the classes.
        num_left_out: classes with fewer than two images, which cannot be split.
    """

    k: int
    naive: Score
    truly_worst: Score
    listed: Score
    split_half: Score
    possible: tuple[float, float]
    fits: bool
    classes: np.ndarray
    images_per_class: float
    num_left_out: int


def worst_k_report(
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int,
    k: int,
    splits: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> WorstKReport:
    """Accuracy of the k worst classes, in the four meanings of `WorstKReport`.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        num_classes: C.
        k: 1 to the number of classes with at least two images.
        splits: random halves that `split_half` averages over.
        seed: of the random halves and of the posterior sample.
        confidence: of every interval, in (0, 1).

    Raises:
        InputError: shapes or indices are off, or too few classes can be split.

    >>> labels = np.repeat(np.arange(30), 20)
    >>> predictions = np.where(labels < 3, 29, labels)
    >>> report = worst_k_report(predictions, labels, num_classes=30, k=3)
    >>> report.naive.value, report.classes, bool(report.truly_worst.high < 0.2)
    (0.0, array([0, 1, 2]), True)
    """
    splits = whole_number(splits, "splits", 1, MOST_RESAMPLES)
    check_confidence(confidence)
    right, images = right_by_class(predictions, labels, num_classes)
    usable = np.flatnonzero(images >= 2)
    k = whole_number(k, "k", 1, max(1, len(usable)))
    if k > len(usable):
        raise InputError(f"Expected at least k = {k} classes with two or more images, got {len(usable)}")
    per_class = np.divide(right, images, out=np.full(len(images), np.nan), where=images > 0)
    rng = generator(seed)
    classes = worst_classes(per_class, k)
    present = np.flatnonzero(images)
    sample = sample_accuracies(right[present], images[present], rng)
    lowest = np.partition(sample, k - 1, axis=1)[:, :k].mean(axis=1)
    listed = sample[:, np.searchsorted(present, classes)].mean(axis=1)
    bounds = possible_worst(right[present], images[present], k, confidence)
    many = float(np.median(images[present])) >= FEW_IMAGES
    low, high = percentile_interval(lowest, confidence)
    if not _differ(right[present], images[present]):  # the classes may all be equal; then the worst are as good as any
        high = max(high, proportion(int(right.sum()), int(images.sum()), confidence).high)
    in_sample = np.searchsorted(present, usable)
    return WorstKReport(
        k=k,
        naive=Score(worst_k_accuracy(per_class, k)),
        truly_worst=Score(float(lowest.mean()), low, high) if many else Score(NAN, *bounds),
        listed=Score(float(listed.mean()), *(percentile_interval(listed, confidence) if many else (NAN, NAN))),
        split_half=_split_half(right[usable], images[usable], sample[:, in_sample], k, splits, rng, confidence),
        possible=bounds,
        fits=_fits(right[present], images[present], sample, rng),
        classes=classes,
        images_per_class=float(np.median(images[present])),
        num_left_out=int((images < 2).sum()),
    )


def _split_half(right, images, sample, k: int, splits: int, rng, confidence: float) -> Score:
    """Mean accuracy, on the second half of the images, of the k worst classes on the first half."""
    first = images // 2

    def chosen(right_first: np.ndarray) -> np.ndarray:
        # Two accuracies a/m != b/n differ by at least 1/(mn): noise below that breaks ties at random, nothing else.
        order = right_first / first + rng.random(right_first.shape) / (2 * first.max() ** 2)
        return np.argpartition(order, k - 1, axis=1)[:, :k]

    # The number of right images in a random half of a class is hypergeometric.
    right_first = rng.hypergeometric(right, images - right, first, size=(splits, len(images)))
    rows = chosen(right_first)
    measured = np.take_along_axis(right - right_first, rows, axis=1) / (images - first)[rows]
    # For each draw of the accuracies, the mean over some random halves of what choosing on them leads to.
    target = np.mean(
        [np.take_along_axis(sample, chosen(rng.binomial(first, sample)), axis=1).mean(axis=1) for _ in range(HALVES)], axis=0
    )
    return Score(float(measured.mean()), *percentile_interval(target, confidence))


def possible_worst(right: npt.ArrayLike, images: npt.ArrayLike, k: int, confidence: float = 0.95) -> tuple[float, float]:
    """Lowest and highest true accuracy of the k worst classes that the data allow, whatever the distribution of the accuracies.

    Every distribution of accuracies is allowed whose expected cumulative shares of classes by observed accuracy lie in the band of
    Dvoretzky, Kiefer, Wolfowitz and Massart around the observed ones. The mean of its lowest k of C is minimised and maximised by
    linear programming.

    Args:
        right, images: (C,) numbers of right images and of images, each class with at least one image.
        k: 1 to C.
        confidence: of the band, in (0, 1).

    >>> low, high = possible_worst(np.zeros(100), np.full(100, 3), k=10)
    >>> low, high < 0.4
    (0.0, True)
    """
    right, images = np.asarray(right), np.asarray(images)
    rates = right / images
    thresholds = np.unique(np.quantile(rates, np.linspace(0, 1, 41), method="inverted_cdf"))[:-1]
    band = np.sqrt(np.log(2 / (1 - check_confidence(confidence))) / (2 * len(rates)))
    levels = np.sin(np.linspace(0, np.pi / 2, 81)) ** 2
    sizes, count = np.unique(images, return_counts=True)
    expected = np.zeros((len(thresholds), len(levels)))  # chance that a class of such an accuracy is seen at or below a threshold
    for size, share in zip(sizes, count / len(images), strict=True):
        at_most = np.floor(thresholds * size + 1e-9)[:, None]
        expected += share * stats.binom.cdf(at_most, size, levels)
    seen = (rates[:, None] <= thresholds).mean(axis=0)
    within = {"A_ub": np.concatenate([expected, -expected]), "b_ub": np.concatenate([seen + band, band - seen])}
    part = k / len(rates)
    shortfall = np.maximum(levels[:, None] - levels, 0) / part  # (T, G): the mean of the lowest part is max_t of t - E[shortfall_t]
    whole = {"A_eq": np.ones((1, len(levels))), "b_eq": [1.0]}
    high = max(t - found.fun for t, cost in zip(levels[::4], shortfall[::4], strict=True)
               if (found := optimize.linprog(cost, **within, **whole)).success)
    # Minimising that maximum takes one more variable, which is at least every term.
    free = np.zeros((len(within["b_ub"]), 1))
    found = optimize.linprog(
        np.append(np.zeros(len(levels)), 1.0),
        A_ub=np.concatenate([np.hstack([within["A_ub"], free]), np.hstack([-shortfall, -np.ones((len(levels), 1))])]),
        b_ub=np.concatenate([within["b_ub"], -levels]),
        A_eq=np.append(np.ones(len(levels)), 0.0)[None],
        b_eq=[1.0],
    )
    return float(max(found.fun, 0.0)), float(high)


def _differ(right: np.ndarray, images: np.ndarray) -> bool:
    """Whether the classes differ by more than their images by chance do (chi-squared test of homogeneity at 5 %)."""
    rate = right.sum() / images.sum()
    if len(right) < 2 or rate in (0, 1):
        return False
    statistic = ((right - images * rate) ** 2 / (images * rate * (1 - rate))).sum()
    return bool(stats.chi2.sf(statistic, len(right) - 1) < 0.05)


def _fits(right: np.ndarray, images: np.ndarray, sample: np.ndarray, rng: np.random.Generator) -> bool:
    """Posterior predictive check: is the distribution of observed accuracies as far from the expected one as replicates are?"""
    grid = np.linspace(0, 1, 41)
    replicates = (rng.binomial(images, sample) / images)[:, :, None] <= grid
    shares = replicates.mean(axis=1)
    expected = shares.mean(axis=0)
    distance = np.abs(shares - expected).max(axis=1)
    observed = np.abs(((right / images)[:, None] <= grid).mean(axis=0) - expected).max()
    return bool((distance >= observed).mean() > 0.05)


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
    half = stats.norm.ppf(0.5 + check_confidence(confidence) / 2) * np.sqrt(((a + b) / n_plus - difference**2) / n_plus)
    return float(n * (difference - half)), float(n * (difference + half))
