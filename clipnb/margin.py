"""The class-wise matching margin (CMM) of the worst-categories paper (arXiv 2310.03324), as we reconstruct it.

Confirmed by the abstract and a public review: CMM compares the similarity of images to their correct prompt with
their similarity to "the most susceptible one", finds the worst categories, and has a variant with pseudo-labels.
Reconstructed, because the equations could not be read: with unit-norm image vectors x_i, (pseudo-)labels y_i, class
vectors t_c and s = cosine,

    m_i = s(x_i, t_{y_i}) - max_{j != y_i} s(x_i, t_j)                       the margin of one image
    CMM_c = mean of m_i over y_i = c                                         reduction "image"
    CMM_c = S_cc - max_{j != c} S_cj,  S_cj = mean of s(x_i, t_j), y_i = c    reduction "class"
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from clipnb.errors import InputError, class_indices, floats, one_of, whole_number
from clipnb.similarity import check_vectors, similarity_blocks, top_k


def from_top_two(target, own, topk, topk_similarity) -> tuple[np.ndarray, np.ndarray]:
    """Margins and rivals of images whose best two classes are known.

    Args:
        target: (N,) the class each image is compared for.
        own: (N,) similarity to that class.
        topk, topk_similarity: (N, >= 2) best classes and their similarities, best first (one column: no rival).

    Returns:
        (margins (N,) float, rivals (N,) int64); NaN and -1 where there is only one class.

    >>> from_top_two([1], [.3], np.array([[0, 1]]), np.array([[.5, .3]]))
    (array([-0.2]), array([0]))
    """
    target = np.asarray(target)
    if topk.shape[1] < 2:
        return np.full(len(target), np.nan), np.full(len(target), -1)
    right = topk[:, 0] == target
    best_other = np.where(right, topk_similarity[:, 1], topk_similarity[:, 0])
    return own - best_other, np.where(right, topk[:, 1], topk[:, 0])


def mean_by_class(values, target, num_classes: int) -> np.ndarray:
    """Mean of `values` (N,) over the images of each class: (C,), NaN for a class without images; target -1 is left out.

    >>> mean_by_class([1., 3., 5.], [0, 0, 2], 3)
    array([ 2., nan,  5.])
    """
    target, values = np.asarray(target), np.asarray(values, dtype=float)
    known = target >= 0
    count = np.bincount(target[known], minlength=num_classes)
    total = np.bincount(target[known], weights=values[known], minlength=num_classes)
    return np.divide(total, count, out=np.full(num_classes, np.nan), where=count > 0)


def of_class_means(vectors, classifier, target) -> np.ndarray:
    """CMM with reduction "class": (C,) cosines, NaN for a class without images; target -1 is left out.

    The mean similarity of a class's images to t_j is the similarity of their mean vector, so C x D sums suffice.

    >>> of_class_means(np.eye(2), np.eye(2), [0, 0])
    array([ 0., nan])
    """
    target, num_classes = np.asarray(target), len(classifier)
    known = target >= 0
    members = csr_array((np.ones(known.sum(), vectors.dtype), (target[known], np.flatnonzero(known))),
                        shape=(num_classes, len(vectors)))
    sums = members @ vectors
    count = np.bincount(target[known], minlength=num_classes)
    present = np.flatnonzero(count)
    cmm = np.full(num_classes, np.nan)
    if num_classes < 2:
        return cmm
    for rows, mean_similarity in similarity_blocks(sums[present] / count[present, None], classifier):
        best = top_k(mean_similarity, 2)
        own = mean_similarity[np.arange(len(best)), present[rows]]
        cmm[present[rows]], _ = from_top_two(present[rows], own, best, np.take_along_axis(mean_similarity, best, axis=1))
    return cmm


def image_margins(vectors, classifier, labels=None) -> tuple[np.ndarray, np.ndarray]:
    """Margin of each image and the rival class it is measured against.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices; None, or -1 for an image: its prediction stands in (pseudo-label).

    Returns:
        (margins (N,) differences of cosines in [-2, 2], rivals (N,) class indices). A pseudo-labelled margin is
        never negative.

    >>> image_margins([[1., 0.], [.6, .8]], [[1., 0.], [0., 1.]], [0, 0])[0].round(3)
    array([ 1. , -0.2])
    """
    vectors, classifier = check_vectors(vectors, classifier)
    target = np.full(len(vectors), -1) if labels is None else labels
    target = class_indices(target, "labels", len(vectors), len(classifier), unknown=True).copy()
    margins, rivals = np.empty(len(vectors)), np.empty(len(vectors), dtype=np.int64)
    for rows, block in similarity_blocks(vectors, classifier):
        best = top_k(block, min(2, len(classifier)))
        target[rows] = np.where(target[rows] >= 0, target[rows], best[:, 0])
        own = np.take_along_axis(block, target[rows, None], axis=1)[:, 0]
        margins[rows], rivals[rows] = from_top_two(target[rows], own, best, np.take_along_axis(block, best, axis=1))
    return margins, rivals


def class_wise_matching_margin(vectors, classifier, labels=None, reduction: str = "image") -> np.ndarray:
    """Class-wise matching margin of every class (reconstructed from arXiv 2310.03324; see the module's text).

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 left out; None: every image's prediction is its pseudo-label.
        reduction: "image" (mean of the images' margins) or "class" (margin of the class's mean similarities).

    Returns:
        (C,) differences of cosines in [-2, 2]; NaN for a class without (pseudo-)labelled images, which ranks as
        worst (`worst_first`).

    Raises:
        InputError: shapes differ, values are not finite, or an option is unknown.

    >>> class_wise_matching_margin([[1., 0.], [.6, .8]], [[1., 0.], [0., 1.]], [0, 0]).round(3)
    array([0.4, nan])
    """
    one_of(reduction, "reduction", ("image", "class"))
    vectors, classifier = check_vectors(vectors, classifier)
    if labels is None:
        labels = np.concatenate([top_k(block, 1)[:, 0] for _, block in similarity_blocks(vectors, classifier)])
    labels = class_indices(labels, "labels", len(vectors), len(classifier), unknown=True)
    if reduction == "class":
        return of_class_means(vectors, classifier, labels)
    return mean_by_class(image_margins(vectors, classifier, labels)[0], labels, len(classifier))


def worst_first(cmm) -> np.ndarray:
    """Class indices from worst to best margin: (C,); NaN (nobody is predicted as it) first, ties to the lower index.

    >>> worst_first([.2, float("nan"), -.1])
    array([1, 2, 0])
    """
    cmm = floats(cmm, "cmm", 1, finite=False)
    return np.argsort(np.where(np.isnan(cmm), -np.inf, cmm), kind="stable")


def worst_found(cmm, per_class, k: int) -> float:
    """Share of the k truly worst classes that are among the k worst by margin (precision at k), in [0, 1].

    Classes as bad as the k-th worst count as truly worst too, since nothing tells them apart.

    >>> worst_found([.1, .9, .2, .8], [0., 1., .5, .9], k=2)
    1.0
    """
    cmm, per_class = floats(cmm, "cmm", 1, finite=False), floats(per_class, "per_class", 1, finite=False)
    if cmm.shape != per_class.shape:
        raise InputError(f"Expected `per_class` of shape (C,) = {cmm.shape}, got {per_class.shape}")
    scored = np.flatnonzero(~np.isnan(per_class))
    k = whole_number(k, "k", 1, len(scored))
    limit = np.sort(per_class[scored])[k - 1]
    return float((per_class[scored][worst_first(cmm[scored])[:k]] <= limit).mean())
