"""The class-wise matching margin (CMM) of the worst-categories paper (arXiv 2310.03324), as we reconstruct it.

Confirmed by the abstract and a public review: CMM compares the similarity of images to their correct prompt with
their similarity to "the most susceptible one", finds the worst categories, and has a variant with pseudo-labels.
Reconstructed, because we could not read the equations: with unit-norm image vectors x_i, (pseudo-)labels y_i, class
vectors t_c and s = cosine,

    m_i = s(x_i, t_{y_i}) - max_{j != y_i} s(x_i, t_j)                       the margin of one image
    CMM_c = mean of m_i over y_i = c                                         reduction "image"
    CMM_c = S_cc - max_{j != c} S_cj,  S_cj = mean of s(x_i, t_j), y_i = c    reduction "class"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import scipy

from clipnb._arrays import count_by_class, divide_or_nan
from clipnb._checks import class_indices, floats, one_of, real_number, require_attribute, whole_number
from clipnb._tensors import HAS_TORCH
from clipnb.errors import InputError
from clipnb.intervals import check_confidence, mean_with_t, rank_correlation
from clipnb.similarity import (
    Scorer,
    block_slices,
    check_classifier,
    check_vectors,
    parallel_map,
    similarity_blocks,
    tensor,
    top_k,
)

if TYPE_CHECKING:
    import pandas as pd

Reduction = Literal["image", "class"]


def margins_from_top2(
    target: npt.ArrayLike, own: npt.ArrayLike, topk: np.ndarray, topk_similarity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Margins and rivals of images whose two most similar classes are known.

    Args:
        target: (N,) the class that each image's margin is for.
        own: (N,) similarity of each image to that class.
        topk: (N, >= 2) most similar classes, best first; with one column there is no rival.
        topk_similarity: (N, >= 2) similarities to the classes in `topk`.

    Returns:
        (margins (N,) float, rivals (N,) int64); NaN and -1 if there is only one class.

    >>> margins_from_top2([1], [.3], np.array([[0, 1]]), np.array([[.5, .3]]))
    (array([-0.2]), array([0]))
    """
    target = np.asarray(target)
    if topk.shape[1] < 2:
        return np.full(len(target), np.nan), np.full(len(target), -1)
    right = topk[:, 0] == target
    best_other = np.where(right, topk_similarity[:, 1], topk_similarity[:, 0])
    return np.asarray(own) - best_other, np.where(right, topk[:, 1], topk[:, 0])


def mean_by_class(values: npt.ArrayLike, target: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.float64]:
    """Mean of `values` (N,) over the images of each class: (C,), NaN without images; a target of -1 is left out.

    >>> mean_by_class([1., 3., 5.], [0, 0, 2], 3)
    array([ 2., nan,  5.])
    """
    target = np.asarray(target)
    known = target >= 0
    total = np.bincount(target[known], weights=np.asarray(values, dtype=float)[known], minlength=num_classes)
    return divide_or_nan(total, count_by_class(target, num_classes))


def sum_by_class(vectors: np.ndarray, target: np.ndarray, num_classes: int) -> npt.NDArray[np.float64]:
    """Sum of the vectors (N, D) of each class: (C, D) float64; target -1 is left out.

    >>> sum_by_class(np.eye(2), np.array([1, 1]), 2)
    array([[0., 0.],
           [1., 1.]])
    """
    sums = np.zeros((num_classes + 1, vectors.shape[1]))  # the last row takes the images of unknown class
    for rows in block_slices(len(vectors), num_classes):
        add_by_class(sums, target[rows], vectors[rows])
    return sums[:-1]


def add_by_class(sums: np.ndarray, target: np.ndarray, vectors: np.ndarray) -> None:
    """Add each of the vectors (B, D) to its target row of `sums` (C + 1, D) float64, in place; -1 is the last row.

    >>> sums = np.zeros((2, 1))
    >>> add_by_class(sums, np.array([0, -1, 0]), np.ones((3, 1)))
    >>> sums
    array([[2.],
           [1.]])
    """
    if HAS_TORCH:  # several times as fast as NumPy
        tensor(sums).index_add_(0, tensor(target % len(sums)), tensor(vectors).double())
    else:
        np.add.at(sums, target, vectors)


def class_means(sums: np.ndarray, target: np.ndarray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Mean vectors (C', D) float32 of the C' classes that have images, from `sum_by_class`, and their class indices.

    >>> class_means(np.array([[0., 0.], [1., 1.]]), np.array([1, 1]))
    (array([[0.5, 0.5]], dtype=float32), array([1]))
    """
    count = count_by_class(target, len(sums))
    present = np.flatnonzero(count)
    return (sums[present] / count[present, None]).astype(np.float32), present


def class_margin_of_means(
    sums: np.ndarray, target: np.ndarray, classifier: np.ndarray, offset: np.ndarray | None = None
) -> npt.NDArray[np.float64]:
    """CMM with reduction "class": (C,) cosines, NaN for a class without images; a target of -1 is left out.

    The mean similarity of a class's images to t_j is the similarity of their mean vector, so C x D sums suffice
    (`sum_by_class`).

    >>> class_margin_of_means(np.array([[1., 1.], [0., 0.]]), np.array([0, 0]), np.eye(2))
    array([ 0., nan])
    """
    means, present = class_means(sums, target)
    images = tensor(means)
    scorer = Scorer(classifier.astype(np.float32, copy=False), offset=offset)
    cmm = np.full(len(classifier), np.nan)

    def visit(rows: slice) -> None:
        cmm[present[rows]] = margin_to_best_other(scorer(images[rows]).numpy(), present[rows])

    parallel_map(visit, block_slices(len(means), len(classifier)))
    return cmm


def margin_to_best_other(similarity: np.ndarray, target: npt.ArrayLike) -> np.ndarray:
    """Similarity of each row (B, C) to its target class (B,) minus that to the best other class: (B,); NaN if C = 1.

    >>> margin_to_best_other(np.array([[.5, .3], [.5, .3]]), [0, 1]).round(3)
    array([ 0.2, -0.2])
    """
    rows = np.arange(len(similarity))
    if similarity.shape[1] < 2:
        return np.full(len(rows), np.nan)
    target = np.asarray(target)
    others = similarity.copy()
    others[rows, target] = -np.inf
    return similarity[rows, target] - others.max(axis=1)


def image_margins(
    vectors: npt.ArrayLike, classifier: npt.ArrayLike, labels: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Margin of each image and the rival class it is measured against.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices; for None, and for an image with -1, the prediction is used (pseudo-label).

    Returns:
        (margins (N,) differences of cosines in [-2, 2], rivals (N,) class indices). A pseudo-labelled margin is
        never negative.

    >>> image_margins([[1., 0.], [.6, .8]], [[1., 0.], [0., 1.]], [0, 0])[0].round(3)
    array([ 1. , -0.2])
    """
    vectors, classifier = check_vectors(vectors, classifier)
    target = np.full(len(vectors), -1) if labels is None else labels
    target = class_indices(target, "labels", len(vectors), len(classifier), unknown=True).copy()
    margins = np.empty(len(vectors))
    rivals = np.empty(len(vectors), dtype=np.int64)
    for rows, block in similarity_blocks(vectors, classifier):
        best = top_k(block, min(2, len(classifier)))
        target[rows] = np.where(target[rows] >= 0, target[rows], best[:, 0])
        own = np.take_along_axis(block, target[rows, None], axis=1)[:, 0]
        margins[rows], rivals[rows] = margins_from_top2(
            target[rows], own, best, np.take_along_axis(block, best, axis=1)
        )
    return margins, rivals


def pseudo_labels(vectors: npt.ArrayLike, classifier: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Predictions of a classifier, to be used in place of labels: (N,) int64.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.

    >>> pseudo_labels(np.eye(2), np.eye(2))
    array([0, 1])
    """
    vectors, classifier = check_vectors(vectors, classifier)
    return np.concatenate([top_k(block, 1)[:, 0] for _, block in similarity_blocks(vectors, classifier)])


def class_wise_matching_margin(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    reduction: Reduction = "image",
) -> npt.NDArray[np.float64]:
    """Class-wise matching margin of every class (reconstructed from arXiv 2310.03324; see the module's text).

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 is left out; None: each image's prediction is its pseudo-label.
        reduction: "image" (mean of the images' margins) or "class" (margin of the class's mean similarities).

    Returns:
        (C,) differences of cosines in [-2, 2]; NaN for a class without (pseudo-)labelled images, which ranks as
        worst (`worst_first`).

    Raises:
        InputError: shapes differ, values are not finite, or an option is unknown.

    >>> class_wise_matching_margin([[1., 0.], [.6, .8]], [[1., 0.], [0., 1.]], [0, 0]).round(3)
    array([0.4, nan])
    """
    vectors, classifier, labels = _targets(vectors, classifier, labels, reduction)
    if reduction == "class":
        return class_margin_of_means(sum_by_class(vectors, labels, len(classifier)), labels, classifier)
    return mean_by_class(image_margins(vectors, classifier, labels)[0], labels, len(classifier))


def _targets(
    vectors: npt.ArrayLike, classifier: npt.ArrayLike, labels: npt.ArrayLike | None, reduction: Reduction
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check the arguments of a class-wise margin; predictions take the place of missing labels."""
    one_of(reduction, "reduction", ("image", "class"))
    vectors, classifier = check_vectors(vectors, classifier)
    if labels is None:
        labels = pseudo_labels(vectors, classifier)
    return vectors, classifier, class_indices(labels, "labels", len(vectors), len(classifier), unknown=True)


def margin_intervals(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    reduction: Reduction = "image",
    confidence: float = 0.95,
) -> npt.NDArray[np.float64]:
    """Student's t interval of every class's matching margin: (C, 2), low and high.

    With reduction "class", the rival is the class that the mean similarities choose, and the interval is that of the
    images' margins against this rival.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 is left out; None: each image's prediction is its pseudo-label.
        reduction: "image" or "class", as in `class_wise_matching_margin`.
        confidence: in (0, 1).

    Returns:
        (C, 2) differences of cosines; NaN for a class of fewer than two images, whose spread is unknown.

    >>> margin_intervals([[1., 0.], [.6, .8], [0., 1.]], [[1., 0.], [0., 1.]], [0, 0, 1]).round(1)
    array([[-7.2,  8. ],
           [ nan,  nan]])
    """
    vectors, classifier, labels = _targets(vectors, classifier, labels, reduction)
    confidence = check_confidence(confidence)
    margins = image_margins(vectors, classifier, labels)[0] if reduction == "image" else np.empty(0)
    intervals = np.full((len(classifier), 2), np.nan)
    if len(classifier) < 2:  # a single class has no rival
        return intervals
    for c in np.flatnonzero(count_by_class(labels, len(classifier)) >= 2):
        members = np.flatnonzero(labels == c)
        if reduction == "image":
            sample = margins[members]
        else:
            mean = vectors[members].mean(axis=0) @ classifier.T
            mean[c] = -np.inf
            sample = vectors[members] @ (classifier[c] - classifier[mean.argmax()])
        intervals[c] = mean_with_t(sample, confidence)[1:]
    return intervals


def worst_first(cmm: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Class indices from worst to best margin: (C,); NaN (never predicted) comes first, ties go to the lower index.

    >>> worst_first([.2, float("nan"), -.1])
    array([1, 2, 0])
    """
    cmm = floats(cmm, "cmm", 1, finite=False)
    return np.argsort(np.where(np.isnan(cmm), -np.inf, cmm), kind="stable")


def worst_found(cmm: npt.ArrayLike, per_class: npt.ArrayLike, k: int) -> float:
    """Share of the k truly worst classes that are among the k worst by margin (precision at k), in [0, 1].

    Classes as bad as the k-th worst count as truly worst too.

    >>> worst_found([.1, .9, .2, .8], [0., 1., .5, .9], k=2)
    1.0
    """
    cmm, worst = _truly_worst(cmm, per_class, k)
    return float(worst[worst_first(cmm)[:k]].mean())


def worst_auc(cmm: npt.ArrayLike, per_class: npt.ArrayLike, k: int) -> float:
    """Probability that one of the k truly worst classes has a lower score than one of the others, in [0, 1].

    The area under the ROC curve of "low score = among the k worst", computed as the Mann-Whitney statistic: ties count
    half, chance is 0.5, NaN scores rank lowest. The truly worst classes are those of `worst_found`; NaN if all are.

    >>> worst_auc([.1, .9, .2, .8], [0., 1., .5, .9], k=2), worst_auc([1, 1, 1], [0., .5, 1.], k=1)
    (1.0, 0.5)
    """
    cmm, worst = _truly_worst(cmm, per_class, k)
    if worst.all():
        return float("nan")
    cmm = np.where(np.isnan(cmm), -np.inf, cmm)
    pairs = worst.sum() * (~worst).sum()
    return float(scipy.stats.mannwhitneyu(cmm[~worst], cmm[worst], method="asymptotic").statistic / pairs)


def _truly_worst(cmm: npt.ArrayLike, per_class: npt.ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the classes that have an accuracy, and which of these classes are no better than the k-th worst."""
    cmm = floats(cmm, "cmm", 1, finite=False)
    per_class = floats(per_class, "per_class", 1, finite=False)
    if cmm.shape != per_class.shape:
        raise InputError(f"Expected `per_class` of shape (C,) = {cmm.shape}, got {per_class.shape}")
    scored = np.flatnonzero(~np.isnan(per_class))
    k = whole_number(k, "k", 1, len(scored))
    return cmm[scored], per_class[scored] <= np.sort(per_class[scored])[k - 1]


def softmax_confidence(
    vectors: npt.ArrayLike, classifier: npt.ArrayLike, logit_scale: float = 100.0
) -> npt.NDArray[np.float64]:
    """Softmax probability of each image's prediction: (N,) fractions in [1/C, 1].

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        logit_scale: > 0; the logit is `logit_scale` x cosine. 100 is the value of OpenAI's trained CLIP models; a
            model's own value is `model.module.logit_scale.exp()`.

    >>> softmax_confidence([[1., 0.]], [[1., 0.], [0., 1.]], logit_scale=1).round(3)
    array([0.731])
    """
    if not 0 < real_number(logit_scale, "logit_scale") <= 1e6:
        raise InputError(f"Expected `logit_scale` > 0, got {logit_scale}")
    vectors, classifier = check_vectors(vectors, classifier)
    return np.concatenate(
        [
            1 / np.exp(logit_scale * (block - block.max(axis=1, keepdims=True))).sum(axis=1, dtype=float)
            for _, block in similarity_blocks(vectors, classifier)
        ]
    )


def prediction_confidence(
    vectors: npt.ArrayLike, classifier: npt.ArrayLike, logit_scale: float = 100.0, logit_bias: float | None = None
) -> npt.NDArray[np.float64]:
    """Probability that the model states for each image's prediction: (N,) fractions in [0, 1].

    Without a bias it is the softmax over the classes (`softmax_confidence`). With one, the model was trained with a
    sigmoid on each pair, and it is sigmoid(`logit_scale` x cosine + `logit_bias`), which need not sum to 1 over the
    classes (SigLIP, Zhai et al. 2023).

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        logit_scale: > 0, the model's own (`model.logit_scale`).
        logit_bias: the model's own (`model.logit_bias`); None: softmax.

    Raises:
        InputError: shapes differ, vectors are not of unit norm, or the scale or the bias is out of range.

    >>> prediction_confidence([[1., 0.]], [[1., 0.], [0., 1.]], logit_scale=10, logit_bias=-10).round(3)
    array([0.5])
    """
    if logit_bias is None:
        return softmax_confidence(vectors, classifier, logit_scale)
    if not abs(real_number(logit_bias, "logit_bias")) <= 1e6:
        raise InputError(f"Expected `logit_bias` between -1e6 and 1e6, got {logit_bias}")
    if not 0 < real_number(logit_scale, "logit_scale") <= 1e6:
        raise InputError(f"Expected `logit_scale` > 0, got {logit_scale}")
    vectors, classifier = check_vectors(vectors, classifier)
    best = np.concatenate([block.max(axis=1) for _, block in similarity_blocks(vectors, classifier)])
    return scipy.special.expit(logit_scale * best.astype(float) + logit_bias)


def nearest_text(classifier: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each class, the other class whose text is most similar, and that cosine: (C,) int64, (C,) float.

    -1 and NaN if there is only one class.

    >>> nearest_text([[1., 0.], [.6, .8], [0., 1.]])
    (array([1, 2, 1]), array([0.6, 0.8, 0.8]))
    """
    classifier = check_classifier(classifier)
    nearest = np.full(len(classifier), -1)
    cosine = np.full(len(classifier), np.nan)
    if len(classifier) > 1:
        for rows, block in similarity_blocks(classifier, classifier):
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -np.inf
            nearest[rows] = block.argmax(axis=1)
            cosine[rows] = block.max(axis=1).astype(float).round(6)  # the precision of float32
    return nearest, cosine


def baseline_scores(
    vectors: npt.ArrayLike, classifier: npt.ArrayLike, logit_scale: float = 100.0, logit_bias: float | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Cheap label-free scores of classes, the baselines of a margin; low = suspicious.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        logit_scale: logit = `logit_scale` x cosine, as in `prediction_confidence`.
        logit_bias: of a model that was trained with a sigmoid, as in `prediction_confidence`.

    Returns:
        (C,) each: "frequency" (number of images predicted as the class), "top-1 similarity" and "confidence" (mean
        cosine and mean probability of these images; NaN without any), "text only" (minus the cosine to the
        nearest other text).

    >>> scores = baseline_scores([[1., 0.], [.8, .6]], [[1., 0.], [0., 1.]])
    >>> scores["frequency"], scores["top-1 similarity"].round(3)
    (array([2., 0.]), array([0.9, nan]))
    """
    vectors, classifier = check_vectors(vectors, classifier)
    best = [(block.argmax(axis=1), block.max(axis=1)) for _, block in similarity_blocks(vectors, classifier)]
    predictions, top = (np.concatenate(part) for part in zip(*best))
    return {
        "frequency": np.bincount(predictions, minlength=len(classifier)).astype(float),
        "top-1 similarity": mean_by_class(top, predictions, len(classifier)),
        "confidence": mean_by_class(
            prediction_confidence(vectors, classifier, logit_scale, logit_bias), predictions, len(classifier)
        ),
        "text only": -nearest_text(classifier)[1],
    }


def compare_scores(
    scores: Mapping[str, npt.ArrayLike],
    per_class: npt.ArrayLike,
    k: int,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How well each score finds the classes with the lowest accuracy: one table for margins and baselines.

    Args:
        scores: name -> (C,) score; low = suspicious, NaN = never predicted, which ranks lowest. All margins and
            baselines of a result are `{**result.cmm, **baseline_scores(vectors, classifier)}`.
        per_class: (C,) true accuracies, fractions in [0, 1]; NaN = no images, left out.
        k: number of worst classes to find.
        resamples: number of bootstrap samples of the classes.
        seed: seed of the bootstrap.
        confidence: in (0, 1).

    Returns:
        DataFrame, one row for each score, in the order given, then "chance"; columns `rho` (Spearman with accuracy) and
        its interval `rho_low`, `rho_high`, `found` (`worst_found` at k) and `auc` (`worst_auc`).

    Raises:
        InputError: `scores` is empty, shapes differ, or k is out of range.

    >>> compare_scores({"margin": [.1, .9, .2, .8]}, [0., 1., .5, .9], k=2)[["rho", "found", "auc"]]
            rho  found  auc
    margin  1.0    1.0  1.0
    chance  0.0    0.5  0.5
    """
    import pandas as pd  # slow to import, and only tables need it

    per_class = floats(per_class, "per_class", 1, finite=False)
    if not len(require_attribute(scores, "scores", "items", "a dict of name and (C,) values")):
        raise InputError("Expected at least one score in `scores`, got none")
    rows = {}
    chance = float("nan")
    for name, score in scores.items():
        _, worst = _truly_worst(score, per_class, k)  # checks the arguments before `rank_correlation` renames them
        chance = float(worst.mean())
        rho, low, high = rank_correlation(score, per_class, "worst", resamples, seed, confidence)
        rows[name] = {
            "rho": rho,
            "rho_low": low,
            "rho_high": high,
            "found": worst_found(score, per_class, k),
            "auc": worst_auc(score, per_class, k),
        }
    rows["chance"] = {"rho": 0.0, "found": chance, "auc": 0.5}
    return pd.DataFrame.from_dict(rows, orient="index")


def find_worst(
    vectors: npt.ArrayLike, classifier: npt.ArrayLike, k: int | None = None, reduction: Reduction = "image"
) -> npt.NDArray[np.int64]:
    """Classes that a classifier is likely to fail on, worst first, found without labels: (k,) class indices.

    Classes are ranked by pseudo-CMM, never-predicted classes first. Among these, which have no margin, the class comes
    first that is farthest from winning an image: whose best s(x_i, t_c) - max_j s(x_i, t_j) over all images is lowest.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        k: number of classes; None: all C.
        reduction: of the margin, "image" or "class".

    >>> find_worst([[1., 0.]], [[1., 0.], [.6, .8], [0., 1.]])
    array([2, 1, 0])
    """
    vectors, classifier = check_vectors(vectors, classifier)
    k = len(classifier) if k is None else whole_number(k, "k", 1, len(classifier))
    cmm = class_wise_matching_margin(vectors, classifier, reduction=reduction)
    never = np.flatnonzero(np.isnan(cmm))
    # Margins are cosine differences, at least -2; subtracting 4 puts these classes below every margin.
    cmm[never] = nearest_images(vectors, classifier, never, 1)[1][:, 0] - 4
    return worst_first(cmm)[:k]


def nearest_images(
    vectors: np.ndarray, classifier: np.ndarray, classes: np.ndarray, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each of K classes, the images that it is nearest to winning: (K, count) rows of `vectors` and gaps <= 0.

    The gap of an image is its similarity to the class minus its highest similarity.
    """
    count = min(count, len(vectors))
    nearest = np.empty((len(classes), 0), dtype=np.int64)
    gap = np.empty((len(classes), 0))
    for rows, block in similarity_blocks(vectors, classifier):
        new = (block[:, classes] - block.max(axis=1, keepdims=True)).T
        nearest = np.hstack([nearest, np.broadcast_to(np.arange(rows.start, rows.stop), new.shape)])
        gap = np.hstack([gap, new])
        best = np.argsort(-gap, axis=1, kind="stable")[:, :count]
        nearest = np.take_along_axis(nearest, best, axis=1)
        gap = np.take_along_axis(gap, best, axis=1)
    return nearest, gap
