"""Metrics of zero-shot classification and retrieval: arrays in, numbers out, each with its definition.

Ties go to the lower class index, labels of -1 ("unknown") are left out, and a class without images is NaN, never 0.
"""

from __future__ import annotations

import numpy as np
import scipy  # which loads scipy.stats, a second of work, when it is first used

from clipnb.errors import MOST_RESAMPLES, InputError, as_numpy, booleans, class_indices, floats, generator, one_of, real, whole_number


MOST_CLASSES = 2**15  # of a confusion matrix, which takes 8 GB then


def _paired(predictions, labels, num_classes=None):
    predictions = class_indices(predictions, "predictions", num_classes=num_classes)
    labels = class_indices(labels, "labels", len(predictions), num_classes, unknown=True)
    known = labels >= 0
    return predictions[known], labels[known]


def accuracy(predictions, labels) -> float:
    """Share of images whose prediction equals the label (micro average), a fraction in [0, 1].

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.

    Returns:
        The fraction, or NaN when no image is labelled.

    Raises:
        InputError: shapes differ, or an index is negative (other than -1 in `labels`).

    >>> accuracy([0, 1, 1], [0, 1, 2])
    0.6666666666666666
    """
    predictions, labels = _paired(predictions, labels)
    return float((predictions == labels).mean()) if len(labels) else float("nan")


def label_rank(similarity, labels) -> np.ndarray:
    """Position of each image's label in its ranking, 0 = best; (N,) int64, ties go to the lower class index.

    >>> label_rank([[.1, .9, .5]], [2])
    array([1])
    """
    similarity = floats(similarity, "similarity", 2)
    labels = class_indices(labels, "labels", len(similarity), similarity.shape[1])
    own = np.take_along_axis(similarity, labels[:, None], axis=1)
    before = np.arange(similarity.shape[1]) < labels[:, None]
    return ((similarity > own) | ((similarity == own) & before)).sum(axis=1)


def recall_at_k(similarity, labels, k: int) -> float:
    """Share of images whose label is among the k most similar classes, a fraction in [0, 1] ("top-k accuracy").

    This is not `retrieval_recall_at_k`: here every image has exactly one right answer.

    Args:
        similarity: (N, C) scores, higher is better.
        labels: (N,) class indices; -1 is left out.
        k: 1 to C.

    Raises:
        InputError: shapes differ, scores are not finite, or k is out of range.

    >>> recall_at_k([[.1, .9, .5], [.3, .2, .1]], [2, 2], k=2)
    0.5
    """
    similarity = floats(similarity, "similarity", 2)
    k = whole_number(k, "k", 1, similarity.shape[1])
    labels = class_indices(labels, "labels", len(similarity), similarity.shape[1], unknown=True)
    known = labels >= 0
    return float((label_rank(similarity[known], labels[known]) < k).mean()) if known.any() else float("nan")


def retrieval_recall_at_k(similarity, relevant, k: int) -> float:
    """Share of all relevant items that are found in the top k, averaged over queries (macro), in [0, 1].

    Args:
        similarity: (Q, N) scores of N items for Q queries.
        relevant: (Q, N) booleans; a query without a relevant item is left out.
        k: 1 to N.

    Raises:
        InputError: shapes differ, scores are not finite, or k is out of range.

    Four dogs in the gallery, two among the first three:

    >>> retrieval_recall_at_k([[.9, .8, .7, .6, .5]], [[1, 0, 1, 1, 1]], k=3)
    0.5
    """
    similarity = floats(similarity, "similarity", 2)
    relevant = booleans(relevant, "relevant", similarity.shape)
    k = whole_number(k, "k", 1, similarity.shape[1])
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    asked = relevant.any(axis=1)
    if not asked.any():
        return float("nan")
    found = np.take_along_axis(relevant, best, axis=1).sum(axis=1)
    return float((found[asked] / relevant[asked].sum(axis=1)).mean())


def confusion_matrix(predictions, labels, num_classes: int) -> np.ndarray:
    """Counts of (actual, predicted) pairs: (C, C) int64, row = actual class, column = predicted class.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        num_classes: C >= 1.

    Raises:
        InputError: shapes differ or an index is outside [0, C).

    >>> confusion_matrix([0, 1, 1], [0, 0, 1], num_classes=2)
    array([[1, 1],
           [0, 1]])
    """
    num_classes = whole_number(num_classes, "num_classes", 1, MOST_CLASSES)
    predictions, labels = _paired(predictions, labels, num_classes)
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int64, copy=False)


def right_by_class(predictions, labels, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(images predicted right, images) of each class, (C,) int64 each: diagonal and row sums of `confusion_matrix`, without the matrix.

    >>> right_by_class([0, 1, 1], [0, 0, 1], num_classes=2)
    (array([1, 1]), array([2, 1]))
    """
    num_classes = whole_number(num_classes, "num_classes", 1, MOST_CLASSES)
    predictions, labels = _paired(predictions, labels, num_classes)
    return np.bincount(labels[predictions == labels], minlength=num_classes), np.bincount(labels, minlength=num_classes)


def check_counts(confusion) -> np.ndarray:
    """Return a confusion matrix if it is square, (C, C), and holds counts >= 0.

    >>> check_counts([[8, 2], [0, 0]]).shape
    (2, 2)
    """
    confusion = as_numpy(confusion, "confusion")
    if confusion.ndim != 2 or confusion.dtype.kind != "i":  # those stay: a copy in floats takes as much again
        confusion = floats(confusion, "confusion", 2)
    if confusion.shape[0] != confusion.shape[1]:
        raise InputError(f"Expected `confusion` to be square, got shape {confusion.shape}")
    if confusion.min(initial=0) < 0:
        raise InputError(f"Expected `confusion` to hold counts >= 0, got {confusion.min():g}")
    return confusion


def _share(part, whole) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def per_class_accuracy(confusion) -> np.ndarray:
    """Accuracy (= recall) of each class: (C,) fractions in [0, 1]; NaN where a class has no images, never 0.

    >>> per_class_accuracy([[8, 2], [0, 0]])
    array([0.8, nan])
    """
    confusion = check_counts(confusion)
    return _share(np.diag(confusion), confusion.sum(axis=1))


def per_class_precision(confusion) -> np.ndarray:
    """Precision of each class: of the images predicted as c, the share that are c; NaN where c is never predicted.

    >>> per_class_precision([[8, 2], [2, 2]])
    array([0.8, 0.5])
    """
    confusion = check_counts(confusion)
    return _share(np.diag(confusion), confusion.sum(axis=0))


def mean_per_class_accuracy(confusion) -> float:
    """Mean of the per-class accuracies over classes that have images (macro average), in [0, 1].

    >>> mean_per_class_accuracy([[98, 0], [2, 0]])
    0.5
    """
    per_class = per_class_accuracy(confusion)
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def precision_recall_curve(scores, positives) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at every threshold, laid out as scikit-learn does.

    Args:
        scores: (N,) higher = more likely positive.
        positives: (N,) booleans, at least one true.

    Returns:
        (precision, recall, thresholds): thresholds ascending, (T,); precision and recall (T + 1,), ending in the
        conventional point (1, 0).

    Raises:
        InputError: shapes differ, scores are not finite, or nothing is positive.

    >>> precision, recall, thresholds = precision_recall_curve([.9, .8, .3], [True, False, True])
    >>> precision
    array([0.66666667, 0.5       , 1.        , 1.        ])
    >>> recall
    array([1. , 0.5, 0.5, 0. ])
    """
    scores = floats(scores, "scores", 1)
    positives = booleans(positives, "positives", scores.shape)
    if not positives.any():
        raise InputError("Expected at least one positive in `positives`, got none: recall is undefined")
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_positives = np.cumsum(positives[order])[last_of_tie]
    precision = true_positives / (last_of_tie + 1)
    recall = true_positives / positives.sum()
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), scores[order][last_of_tie][::-1]


def average_precision(scores, positives) -> float:
    """Area under the precision-recall steps, sum of (R_n - R_{n-1}) P_n, in [0, 1]; chance = share of positives.

    >>> round(average_precision([.9, .8, .3], [True, False, True]), 3)
    0.833
    """
    precision, recall, _ = precision_recall_curve(scores, positives)
    return float(-np.sum(np.diff(recall) * precision[:-1]))


def calibration_bins(confidence, correct, bins: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence against accuracy, in `bins` bins of equal width over [0, 1]; the last one takes in 1.

    Args:
        confidence: (N,) probability of the prediction, in [0, 1] (`margin.softmax_confidence`).
        correct: (N,) booleans.

    Returns:
        (mean confidence (B,), accuracy (B,), number of images (B,) int64); NaN in the first two for an empty bin.

    Raises:
        InputError: shapes differ, or a confidence leaves [0, 1].

    >>> calibration_bins([.2, .7, .9], [False, True, False], bins=2)
    (array([0.2, 0.8]), array([0. , 0.5]), array([1, 2]))
    """
    confidence = floats(confidence, "confidence", 1).astype(float)
    correct = booleans(correct, "correct", confidence.shape)
    bins = whole_number(bins, "bins", 1, 10**6)
    if len(confidence) and not 0 <= confidence.min() <= confidence.max() <= 1:
        raise InputError(f"Expected `confidence` in [0, 1], got {confidence.min():g} to {confidence.max():g}")
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    images = np.bincount(place, minlength=bins)
    return (_share(np.bincount(place, weights=confidence, minlength=bins), images),
            _share(np.bincount(place, weights=correct, minlength=bins), images), images)


def expected_calibration_error(confidence, correct, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by images (Naeini 2015), in [0, 1].

    It depends on `bins`, and on few images noise alone makes it positive. NaN without images.

    >>> round(expected_calibration_error([.2, .7, .9], [False, True, False], bins=2), 3)
    0.267
    """
    mean, accurate, images = calibration_bins(confidence, correct, bins)
    return float(np.nansum(np.abs(mean - accurate) * images) / images.sum()) if images.any() else float("nan")


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), inside [0, 1]; (0, 1) when n = 0.

    >>> low, high = wilson_interval(0, 3)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.561)
    """
    n = whole_number(n, "n", 0)
    successes = whole_number(successes, "successes", 0, n)
    confidence = check_confidence(confidence)
    if n == 0:
        return 0.0, 1.0
    z = scipy.stats.norm.ppf(0.5 + confidence / 2)
    p, z2n = successes / n, z * z / n
    centre = (p + z2n / 2) / (1 + z2n)
    half = z * np.sqrt(p * (1 - p) / n + z2n / (4 * n)) / (1 + z2n)
    return float(max(0.0, min(p, centre - half))), float(min(1.0, max(p, centre + half)))  # p itself despite rounding


def check_confidence(confidence: float) -> float:
    """Return `confidence` if it lies strictly between 0 and 1.

    >>> check_confidence(0.95)
    0.95
    """
    if not 0 < real(confidence, "confidence") < 1:
        raise InputError(f"Expected `confidence` strictly between 0 and 1, got {confidence}")
    return confidence


def percentile_interval(samples, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap `samples` (R,), NaNs left out.

    >>> percentile_interval(range(5), confidence=0.5)
    (1.0, 3.0)
    """
    tail = (1 - check_confidence(confidence)) / 2
    samples = floats(samples, "samples", 1, finite=False)
    if np.isinf(samples).any() or np.isnan(samples).all():
        raise InputError(f"Expected finite `samples` (NaN is left out), got {int(np.isfinite(samples).sum())} finite of {len(samples)}")
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def clustered_accuracy(correct, clusters, resamples: int = 2000, seed: int = 0,
                       confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Accuracy over images that come in clusters (views of one picture, frames of one film), with its interval.

    Images of one cluster tend to be right or wrong together, so Wilson's interval, which takes them as
    independent, is too narrow. Here whole clusters are resampled (cluster bootstrap).

    Args:
        correct: (N,) booleans.
        clusters: (N,) cluster of each image, any hashable numbers.

    Returns:
        (accuracy in [0, 1], (low, high)).

    >>> clustered_accuracy([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1])
    (0.5, (0.0, 1.0))
    """
    correct, clusters = as_numpy(correct, "correct"), as_numpy(clusters, "clusters")
    if correct.ndim != 1 or not len(correct) or clusters.shape != correct.shape:
        raise InputError(f"Expected `correct` and `clusters` of one shape (N,), N >= 1, got {correct.shape} and {clusters.shape}")
    _, cluster = np.unique(clusters, return_inverse=True)
    size, right = np.bincount(cluster), np.bincount(cluster, weights=booleans(correct, "correct", correct.shape))
    draws = generator(seed).multinomial(len(size), np.full(len(size), 1 / len(size)), size=whole_number(resamples, "resamples", 1, MOST_RESAMPLES))
    return float(right.sum() / size.sum()), percentile_interval((draws @ right) / (draws @ size), confidence)


def paired_difference(correct_a, correct_b, resamples: int = 2000, seed: int = 0,
                      confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Accuracy of A minus accuracy of B on the same images, with a paired bootstrap interval.

    Args:
        correct_a, correct_b: (N,) booleans, image by image.

    Returns:
        (difference in [-1, 1], (low, high)).

    >>> paired_difference([1, 1, 1, 0], [1, 0, 0, 0])[0]
    0.5
    """
    a, b = _same_images(correct_a, correct_b)
    difference = a.astype(float) - b
    # The difference takes three values only, so a resample of the images is one multinomial draw.
    counts = np.array([(difference < 0).sum(), (difference == 0).sum(), (difference > 0).sum()])
    draws = generator(seed).multinomial(len(a), counts / len(a), size=whole_number(resamples, "resamples", 1, MOST_RESAMPLES))
    return float(difference.mean()), percentile_interval((draws[:, 2] - draws[:, 0]) / len(a), confidence)


def _same_images(correct_a, correct_b) -> tuple[np.ndarray, np.ndarray]:
    a, b = as_numpy(correct_a, "correct_a"), as_numpy(correct_b, "correct_b")
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise InputError(f"Expected `correct_a` and `correct_b` of one shape (N,), N >= 1, got {a.shape} and {b.shape}")
    return booleans(a, "correct_a", a.shape), booleans(b, "correct_b", a.shape)


def mcnemar(correct_a, correct_b) -> tuple[float, tuple[int, int]]:
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
    p = scipy.stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return float(p), (only_a, only_b)


def rank_correlation(x, y, nan: str = "drop", resamples: int = 1000, seed: int = 0,
                     confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Spearman's rank correlation over classes with a bootstrap interval.

    Args:
        x, y: (C,) one value a class.
        nan: "drop" leaves a class out when x or y is NaN; "worst" ranks a NaN in x below every number
            (a class that nobody is predicted as) and drops only NaNs in y.

    Returns:
        (rho in [-1, 1], (low, high)); NaN when fewer than three classes are left or one side is constant.

    >>> rank_correlation([1, 2, 3, 4], [10, 20, 30, 40])[0]
    1.0
    """
    (x,), y = _comparable([x], ["x"], y, nan)
    if len(x) < 3:
        return float("nan"), (float("nan"), float("nan"))
    picks = generator(seed).integers(len(x), size=(whole_number(resamples, "resamples", 1, MOST_RESAMPLES), len(x)))
    return float(_spearman(x[None], y[None])[0]), _interval_or_nan(_spearman(x[picks], y[picks]), confidence)


def rank_correlation_difference(a, b, y, nan: str = "drop", resamples: int = 1000, seed: int = 0,
                                confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Spearman's correlation of `a` with `y` minus that of `b` with `y`, with a paired bootstrap interval.

    Both are computed on the same classes and on the same resamples of them, so what they share cancels: the interval
    is narrower than two separate ones suggest.

    Args:
        a, b, y: (C,) one value a class.
        nan: as in `rank_correlation`, for `a` and `b`.

    Returns:
        (difference in [-2, 2], (low, high)); NaN when fewer than three classes are left or one side is constant.

    >>> rank_correlation_difference([1, 2, 3, 4], [4, 3, 2, 1], [10, 20, 30, 40])[0]
    2.0
    """
    (a, b), y = _comparable([a, b], ["a", "b"], y, nan)
    if len(y) < 3:
        return float("nan"), (float("nan"), float("nan"))
    picks = generator(seed).integers(len(y), size=(whole_number(resamples, "resamples", 1, MOST_RESAMPLES), len(y)))
    samples = _spearman(a[picks], y[picks]) - _spearman(b[picks], y[picks])
    return float((_spearman(a[None], y[None]) - _spearman(b[None], y[None]))[0]), _interval_or_nan(samples, confidence)


def _comparable(scores, names, y, nan: str):
    """Scores and `y` over the classes on which all have a value."""
    y = floats(y, "y", 1, finite=False).astype(float)
    scores = [floats(x, name, 1, finite=False).astype(float) for x, name in zip(scores, names)]
    for x in scores:
        if x.shape != y.shape:
            raise InputError(f"Expected `y` of shape (C,) = {x.shape}, got {y.shape}")
    if one_of(nan, "nan", ("drop", "worst")) == "worst":
        scores = [np.where(np.isnan(x), -np.inf, x) for x in scores]
    keep = ~np.isnan([*scores, y]).any(axis=0)
    return [x[keep] for x in scores], y[keep]


def _interval_or_nan(samples, confidence: float) -> tuple[float, float]:
    return percentile_interval(samples, confidence) if np.isfinite(samples).any() else (float("nan"), float("nan"))


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Row by row, ties at their mean rank; NaN where one side is constant."""
    return _row_correlation(scipy.stats.rankdata(x, axis=1), scipy.stats.rankdata(y, axis=1))


def _row_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), np.nan), where=scale > 0)
