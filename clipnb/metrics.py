"""Metrics of zero-shot classification and retrieval: arrays in, numbers out, each with its definition.

Ties go to the lower class index, labels of -1 ("unknown") are left out, and a class without images is NaN, never 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clipnb._arrays import divide_or_nan
from clipnb._checks import as_numpy, booleans, class_indices, floats, whole_number
from clipnb._moved import redirect
from clipnb.errors import InputError

MAX_CLASSES = 2**15  # a larger confusion matrix would need more than 8 GB


def _labelled(
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, labels and weights of the images that have a label."""
    predictions = class_indices(predictions, "predictions", num_classes=num_classes)
    labels = class_indices(labels, "labels", len(predictions), num_classes, unknown=True)
    weights = _weights(sample_weight, len(labels))
    known = labels >= 0
    return predictions[known], labels[known], weights[known]


def _weights(sample_weight: npt.ArrayLike | None, length: int) -> np.ndarray:
    """Return (N,) weights >= 0, 1 each by default."""
    if sample_weight is None:
        return np.ones(length)
    weights = floats(sample_weight, "sample_weight", 1)
    if len(weights) != length:
        raise InputError(f"Expected `sample_weight` of shape (N,) = ({length},), got {weights.shape}")
    if weights.min(initial=0) < 0:
        raise InputError(f"Expected `sample_weight` >= 0, got {weights.min():g}")
    return weights.astype(float)


def accuracy(predictions: npt.ArrayLike, labels: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
    """Share of images whose prediction equals the label (micro average), a fraction in [0, 1].

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        sample_weight: (N,) weights >= 0 of the images; None means 1 each.

    Returns:
        The fraction, or NaN when no image is labelled (or all weights are 0).

    Raises:
        InputError: shapes differ, or an index is negative (other than -1 in `labels`).

    >>> accuracy([0, 1, 1], [0, 1, 2])
    0.6666666666666666
    """
    predictions, labels, weights = _labelled(predictions, labels, sample_weight=sample_weight)
    return float(weights[predictions == labels].sum() / weights.sum()) if weights.any() else float("nan")


def label_rank(similarity: npt.ArrayLike, labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Position of each image's label in its ranking, 0 = best; (N,) int64, ties go to the lower class index.

    >>> label_rank([[.1, .9, .5]], [2])
    array([1])
    """
    similarity = floats(similarity, "similarity", 2)
    labels = class_indices(labels, "labels", len(similarity), similarity.shape[1])
    own = np.take_along_axis(similarity, labels[:, None], axis=1)
    before = np.arange(similarity.shape[1]) < labels[:, None]
    return ((similarity > own) | ((similarity == own) & before)).sum(axis=1)


def recall_at_k(
    similarity: npt.ArrayLike, labels: npt.ArrayLike, k: int, sample_weight: npt.ArrayLike | None = None
) -> float:
    """Share of images whose label is among the k most similar classes, a fraction in [0, 1] ("top-k accuracy").

    This is not `retrieval_recall_at_k`: here every image has exactly one correct class.

    Args:
        similarity: (N, C) scores, higher is better.
        labels: (N,) class indices; -1 is left out.
        k: 1 to C.
        sample_weight: (N,) weights >= 0 of the images; None means 1 each.

    Raises:
        InputError: shapes differ, scores are not finite, or k is out of range.

    >>> recall_at_k([[.1, .9, .5], [.3, .2, .1]], [2, 2], k=2)
    0.5
    """
    similarity = floats(similarity, "similarity", 2)
    k = whole_number(k, "k", 1, similarity.shape[1])
    labels = class_indices(labels, "labels", len(similarity), similarity.shape[1], unknown=True)
    known = labels >= 0
    weights = _weights(sample_weight, len(labels))[known]
    hits = label_rank(similarity[known], labels[known]) < k
    return float(weights[hits].sum() / weights.sum()) if weights.any() else float("nan")


def retrieval_recall_at_k(similarity: npt.ArrayLike, relevant: npt.ArrayLike, k: int) -> float:
    """Share of all relevant items that are in the top k, averaged over queries (macro), in [0, 1].

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
    hits, total = _hits_in_top_k(similarity, relevant, k)
    return float((hits / total).mean()) if len(total) else float("nan")


def hit_at_k(similarity: npt.ArrayLike, relevant: npt.ArrayLike, k: int) -> float:
    """Share of queries with at least one relevant item in the top k, in [0, 1].

    CLIP papers call it R@K on Flickr30k and COCO, where each image has five captions. `retrieval_recall_at_k` is the
    share of the relevant items instead, which can be at most 20 % there at k = 1.

    Args:
        similarity: (Q, N) scores of N items for Q queries.
        relevant: (Q, N) booleans; a query without a relevant item is left out.
        k: 1 to N.

    Raises:
        InputError: shapes differ, scores are not finite, or k is out of range.

    >>> hit_at_k([[.9, .8, .7, .6, .5]], [[1, 0, 1, 1, 1]], k=1)
    1.0
    """
    hits, _ = _hits_in_top_k(similarity, relevant, k)
    return float((hits > 0).mean()) if len(hits) else float("nan")


def _hits_in_top_k(similarity: npt.ArrayLike, relevant: npt.ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of relevant items in the top k, and in all, for each query that has relevant items."""
    similarity = floats(similarity, "similarity", 2)
    relevant = booleans(relevant, "relevant", similarity.shape)
    k = whole_number(k, "k", 1, similarity.shape[1])
    queries = relevant.any(axis=1)
    best = np.argsort(-similarity[queries], axis=1, kind="stable")[:, :k]
    relevant = relevant[queries]
    return np.take_along_axis(relevant, best, axis=1).sum(axis=1), relevant.sum(axis=1)


def confusion_matrix(
    predictions: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int, sample_weight: npt.ArrayLike | None = None
) -> npt.NDArray[Any]:
    """Counts of (actual, predicted) pairs: (C, C) int64, row = actual class, column = predicted class.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        num_classes: C >= 1.
        sample_weight: (N,) weights >= 0 of the images; the matrix then holds their sums, float64.

    Raises:
        InputError: shapes differ or an index is outside [0, C).

    >>> confusion_matrix([0, 1, 1], [0, 0, 1], num_classes=2)
    array([[1, 1],
           [0, 1]])
    """
    num_classes = whole_number(num_classes, "num_classes", 1, MAX_CLASSES)
    predictions, labels, weights = _labelled(predictions, labels, num_classes, sample_weight)
    cells = labels * num_classes + predictions
    if sample_weight is not None:
        return np.bincount(cells, weights, num_classes**2).reshape(num_classes, num_classes)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64, copy=False)


def correct_and_total(
    predictions: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Number of correctly predicted images and of images of each class, (C,) int64 each.

    They are the diagonal and the row sums of `confusion_matrix`, computed without the matrix.

    >>> correct_and_total([0, 1, 1], [0, 0, 1], num_classes=2)
    (array([1, 1]), array([2, 1]))
    """
    num_classes = whole_number(num_classes, "num_classes", 1, MAX_CLASSES)
    predictions, labels, _ = _labelled(predictions, labels, num_classes)
    return np.bincount(labels[predictions == labels], minlength=num_classes), np.bincount(labels, minlength=num_classes)


def check_counts(confusion: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return a confusion matrix if it is square, (C, C), and holds counts >= 0.

    >>> check_counts([[8, 2], [0, 0]]).shape
    (2, 2)
    """
    confusion = as_numpy(confusion, "confusion")
    if confusion.ndim != 2 or confusion.dtype.kind != "i":  # integer counts are used as they are, without a float copy
        confusion = floats(confusion, "confusion", 2)
    if confusion.shape[0] != confusion.shape[1]:
        raise InputError(f"Expected `confusion` to be square, got shape {confusion.shape}")
    if confusion.min(initial=0) < 0:
        raise InputError(f"Expected `confusion` to hold counts >= 0, got {confusion.min():g}")
    return confusion


def per_class_accuracy(confusion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Accuracy (= recall) of each class: (C,) fractions in [0, 1]; NaN, not 0, for a class without images.

    >>> per_class_accuracy([[8, 2], [0, 0]])
    array([0.8, nan])
    """
    confusion = check_counts(confusion)
    return divide_or_nan(np.diag(confusion), confusion.sum(axis=1))


def per_class_precision(confusion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Precision of each class: the share of the images predicted as c that are c; NaN where c is never predicted.

    >>> per_class_precision([[8, 2], [2, 2]])
    array([0.8, 0.5])
    """
    confusion = check_counts(confusion)
    return divide_or_nan(np.diag(confusion), confusion.sum(axis=0))


def mean_per_class_accuracy(confusion: npt.ArrayLike) -> float:
    """Mean of the per-class accuracies over classes that have images (macro average, "balanced accuracy"), in [0, 1].

    >>> mean_per_class_accuracy([[98, 0], [2, 0]])
    0.5
    """
    per_class = per_class_accuracy(confusion)
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def per_class_f1(confusion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """F1 of each class, the harmonic mean of its precision and recall: (C,) fractions in [0, 1]; NaN without images.

    A class that has images and is never predicted has an F1 of 0.

    >>> per_class_f1([[8, 2], [2, 2]])
    array([0.8, 0.5])
    """
    confusion = check_counts(confusion)
    images = confusion.sum(axis=1)
    f1 = divide_or_nan(2 * np.diag(confusion), images + confusion.sum(axis=0))
    return np.where(images > 0, f1, np.nan)


def mean_per_class_f1(confusion: npt.ArrayLike) -> float:
    """Mean of `per_class_f1` over classes that have images ("macro F1"), in [0, 1]; NaN if no class has images.

    >>> mean_per_class_f1([[8, 2], [2, 2]])
    0.65
    """
    f1 = per_class_f1(confusion)
    return float(np.nanmean(f1)) if np.isfinite(f1).any() else float("nan")


def precision_recall_curve(
    scores: npt.ArrayLike, positives: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[Any]]:
    """Precision and recall at every threshold, in the layout of scikit-learn.

    Args:
        scores: (N,) higher = more likely positive.
        positives: (N,) booleans, at least one true.

    Returns:
        (precision, recall, thresholds): thresholds ascending, (T,); precision and recall (T + 1,), ending in the
        conventional point (1, 0).

    Raises:
        InputError: shapes differ, scores are not finite, or no item is positive.

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


def average_precision(scores: npt.ArrayLike, positives: npt.ArrayLike) -> float:
    """Area under the precision-recall steps, sum of (R_n - R_{n-1}) P_n, in [0, 1]; chance = share of positives.

    >>> round(average_precision([.9, .8, .3], [True, False, True]), 3)
    0.833
    """
    precision, recall, _ = precision_recall_curve(scores, positives)
    return float(-np.sum(np.diff(recall) * precision[:-1]))


def per_class_average_precision(scores: npt.ArrayLike, positives: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Average precision of each class of a multi-label set: (C,) fractions in [0, 1]; NaN without positives.

    Args:
        scores: (N, C) higher = more likely that the class is in the image.
        positives: (N, C) booleans, which classes are in the image; any number of them.

    Raises:
        InputError: shapes differ, or scores are not finite.

    >>> per_class_average_precision([[.9, .1], [.8, .7], [.3, .2]], [[1, 0], [0, 0], [1, 0]]).round(3)
    array([0.833,   nan])
    """
    scores = floats(scores, "scores", 2)
    positives = booleans(positives, "positives", scores.shape)
    if not scores.shape[1]:
        raise InputError("Expected at least one class in `scores`, got none")
    columns = zip(scores.T, positives.T)
    return np.array([average_precision(s, p) if p.any() else np.nan for s, p in columns])


def mean_average_precision(scores: npt.ArrayLike, positives: npt.ArrayLike) -> float:
    """Mean of `per_class_average_precision` over classes with positives ("mAP" of VOC and COCO), in [0, 1].

    Equal to CLIP_benchmark's `mean_average_precision` where scores do not tie and every class has a positive; there a
    class without one counts as 0. It is not the mAP of object detection. NaN if no class has a positive.

    Args:
        scores: (N, C) higher = more likely that the class is in the image.
        positives: (N, C) booleans, which classes are in the image.

    Raises:
        InputError: shapes differ, or scores are not finite.

    >>> round(mean_average_precision([[.9, .1], [.8, .7], [.3, .2]], [[1, 0], [0, 1], [1, 0]]), 3)
    0.917
    """
    precision = per_class_average_precision(scores, positives)
    return float(np.nanmean(precision)) if np.isfinite(precision).any() else float("nan")


def calibration_bins(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Mean confidence and accuracy in `bins` bins of equal width over [0, 1].

    Bin b holds the confidences from b / B up to, but not including, (b + 1) / B; the last bin also holds 1.

    Args:
        confidence: (N,) probability of the prediction, in [0, 1] (`margin.softmax_confidence`).
        correct: (N,) booleans, whether the prediction is correct.
        bins: B, the number of bins.

    Returns:
        (mean confidence (B,), accuracy (B,), number of images (B,) int64); NaN in the first two for an empty bin.

    Raises:
        InputError: shapes differ, or a confidence is outside [0, 1].

    >>> calibration_bins([.2, .7, .9], [False, True, False], bins=2)
    (array([0.2, 0.8]), array([0. , 0.5]), array([1, 2]))
    """
    confidence = floats(confidence, "confidence", 1).astype(float)
    correct = booleans(correct, "correct", confidence.shape)
    bins = whole_number(bins, "bins", 1, 10**6)
    if len(confidence) and not 0 <= confidence.min() <= confidence.max() <= 1:
        raise InputError(f"Expected `confidence` in [0, 1], got {confidence.min():g} to {confidence.max():g}")
    # Confidences are compared with the edges themselves: `confidence * bins` rounds j / B to just below j for some j,
    # B.
    bin_of_image = np.searchsorted(np.arange(1, bins) / bins, confidence, side="right")
    images = np.bincount(bin_of_image, minlength=bins)
    return (
        divide_or_nan(np.bincount(bin_of_image, weights=confidence, minlength=bins), images),
        divide_or_nan(np.bincount(bin_of_image, weights=correct, minlength=bins), images),
        images,
    )


def expected_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by images (Naeini 2015), in [0, 1].

    It depends on `bins`, and with few images noise alone makes it positive. NaN without images.

    >>> round(expected_calibration_error([.2, .7, .9], [False, True, False], bins=2), 3)
    0.267
    """
    mean_confidence, accuracies, images = calibration_bins(confidence, correct, bins)
    if not images.any():
        return float("nan")
    return float(np.nansum(np.abs(mean_confidence - accuracies) * images) / images.sum())


def risk_coverage_curve(
    confidence: npt.ArrayLike, right: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Share of images answered, and share of wrong answers among them, at every threshold of the confidence.

    A threshold accepts every image whose confidence is at least as high, so images of equal confidence are accepted
    together. One minus the risk is the precision of `precision_recall_curve(confidence, right)` (El-Yaniv and Wiener
    2010, selective classification).

    Args:
        confidence: (N,) higher = surer; any scale.
        right: (N,) booleans, whether the prediction is right.

    Returns:
        (coverage, risk, thresholds), (T,) each, thresholds descending: coverage ascends to 1, and the last risk is the
        error of all images. Fractions in [0, 1].

    Raises:
        InputError: shapes differ, a confidence is not finite, or there is no image.

    >>> coverage, risk, thresholds = risk_coverage_curve([.9, .8, .8, .3], [True, True, False, False])
    >>> coverage, risk
    (array([0.25, 0.75, 1.  ]), array([0.        , 0.33333333, 0.5       ]))
    """
    confidence, last, wrong = _wrong_by_confidence(confidence, right)
    accepted = last + 1
    return accepted / len(confidence), wrong[last] / accepted, confidence[last]


def area_under_risk_coverage(confidence: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Mean risk over all numbers of accepted images (AURC), in [0, 1]; lower is better.

    It is the mean over n = 1, ..., N of the share of wrong answers among the n surest images (Geifman, Uziel and
    El-Yaniv 2019, section 2). Where images have equal confidence, each order of them is equally likely, and the value
    is the mean over the orders. A confidence that tells nothing gives the error rate of all images.

    Args:
        confidence: (N,) higher = surer; any scale.
        right: (N,) booleans, whether the prediction is right.

    Raises:
        InputError: shapes differ, a confidence is not finite, or there is no image.

    >>> area_under_risk_coverage([.9, .8, .3], [True, True, False])
    0.1111111111111111
    >>> area_under_risk_coverage([.5, .5], [True, False])
    0.5
    """
    confidence, last, wrong = _wrong_by_confidence(confidence, right)
    accepted = np.arange(1, len(confidence) + 1)
    # Within a group of ties, the expected number of wrong answers grows in a straight line.
    expected = np.interp(accepted, np.append(0, last + 1), np.append(0, wrong[last]))
    return float((expected / accepted).mean())


def _wrong_by_confidence(confidence: npt.ArrayLike, right: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences in descending order, the last place of each group of ties, and the wrong answers up to each place."""
    confidence = floats(confidence, "confidence", 1)
    right = booleans(right, "right", confidence.shape)
    if not len(confidence):
        raise InputError("Expected at least one image in `confidence`, got none")
    order = np.argsort(-confidence, kind="stable")
    confidence = confidence[order]
    last = np.append(np.flatnonzero(np.diff(confidence)), len(confidence) - 1)
    return confidence, last, np.cumsum(~right[order])


_MOVED = [
    "wilson_interval",
    "percentile_interval",
    "clustered_accuracy",
    "paired_difference",
    "mcnemar",
    "rank_correlation",
    "rank_correlation_difference",
]
__getattr__ = redirect(__name__, dict.fromkeys(_MOVED, "clipnb.intervals"))
