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
import numpy.typing as npt
import scipy

from clipnb._checks import class_indices, floats, one_of, real_number, require_attribute, whole_number
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


def sum_by_class(vectors: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """Sum of the vectors (N, D) of each class: (C, D) float64; target -1 is left out.

    >>> sum_by_class(np.eye(2), np.array([1, 1]), 2)
    array([[0., 0.],
           [1., 1.]])
    """
    sums = np.zeros((num_classes + 1, vectors.shape[1]))  # the last row takes the unknown
    for rows in block_slices(len(vectors), num_classes):
        add_by_class(sums, target[rows], vectors[rows])
    return sums[:-1]


def add_by_class(sums: np.ndarray, target: np.ndarray, vectors: np.ndarray) -> None:
    """Add vectors (B, D) to the rows of `sums` (C + 1, D) float64, in place, that `target` (B,) names; -1 is the last.

    >>> sums = np.zeros((2, 1))
    >>> add_by_class(sums, np.array([0, -1, 0]), np.ones((3, 1)))
    >>> sums
    array([[2.],
           [1.]])
    """
    tensor(sums).index_add_(0, tensor(target % len(sums)), tensor(vectors).double())


def means_of(sums: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean vectors (C', D) float32 of the C' classes that have images, from `sum_by_class`, and which classes they are.

    >>> means_of(np.array([[0., 0.], [1., 1.]]), np.array([1, 1]))
    (array([[0.5, 0.5]], dtype=float32), array([1]))
    """
    count = np.bincount(target[target >= 0], minlength=len(sums))
    present = np.flatnonzero(count)
    return (sums[present] / count[present, None]).astype(np.float32), present


def of_class_means(sums: np.ndarray, target: np.ndarray, classifier: np.ndarray) -> np.ndarray:
    """CMM with reduction "class": (C,) cosines, NaN for a class without images; target -1 is left out.

    The mean similarity of a class's images to t_j is the similarity of their mean vector, so C x D sums suffice
    (`sum_by_class`).

    >>> of_class_means(np.array([[1., 1.], [0., 0.]]), np.array([0, 0]), np.eye(2))
    array([ 0., nan])
    """
    means, present = means_of(sums, target)
    images, scorer = tensor(means), Scorer(classifier.astype(np.float32, copy=False))
    cmm = np.full(len(classifier), np.nan)

    def visit(rows: slice) -> None:
        cmm[present[rows]] = to_best_other(scorer(images[rows]).numpy(), present[rows])

    parallel_map(visit, block_slices(len(means), len(classifier)))
    return cmm


def to_best_other(similarity, target) -> np.ndarray:
    """Similarity of each row (B, C) to its target class (B,) minus that to the best other class: (B,); NaN where there is only one.

    >>> to_best_other(np.array([[.5, .3], [.5, .3]]), [0, 1]).round(3)
    array([ 0.2, -0.2])
    """
    rows = np.arange(len(similarity))
    others = similarity.copy()
    others[rows, target] = -np.inf
    return similarity[rows, target] - others.max(axis=1) if similarity.shape[1] > 1 else np.full(len(rows), np.nan)


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


def pseudo_labels(vectors, classifier) -> np.ndarray:
    """Predictions of a reference classifier, to stand in for labels: (N,) int64.

    >>> pseudo_labels(np.eye(2), np.eye(2))
    array([0, 1])
    """
    vectors, classifier = check_vectors(vectors, classifier)
    return np.concatenate([top_k(block, 1)[:, 0] for _, block in similarity_blocks(vectors, classifier)])


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
    vectors, classifier, labels = _targets(vectors, classifier, labels, reduction)
    if reduction == "class":
        return of_class_means(sum_by_class(vectors, labels, len(classifier)), labels, classifier)
    return mean_by_class(image_margins(vectors, classifier, labels)[0], labels, len(classifier))


def _targets(vectors, classifier, labels, reduction: str):
    """Check the arguments of a class-wise margin; without labels, predictions take their place."""
    one_of(reduction, "reduction", ("image", "class"))
    vectors, classifier = check_vectors(vectors, classifier)
    if labels is None:
        labels = pseudo_labels(vectors, classifier)
    return vectors, classifier, class_indices(labels, "labels", len(vectors), len(classifier), unknown=True)


def margin_intervals(
    vectors, classifier, labels=None, reduction: str = "image", confidence: float = 0.95
) -> np.ndarray:
    """Student's t interval of every class's matching margin: (C, 2), low and high.

    With reduction "class" the rival is the one that the class's mean similarities choose, and the interval is that of the images'
    margins against this rival.

    Args:
        vectors, classifier, labels, reduction: as in `class_wise_matching_margin`.
        confidence: in (0, 1).

    Returns:
        (C, 2) differences of cosines; NaN for a class of fewer than two images, about whose spread nothing is known.

    >>> margin_intervals([[1., 0.], [.6, .8], [0., 1.]], [[1., 0.], [0., 1.]], [0, 0, 1]).round(1)
    array([[-7.2,  8. ],
           [ nan,  nan]])
    """
    vectors, classifier, labels = _targets(vectors, classifier, labels, reduction)
    confidence = check_confidence(confidence)
    margins = image_margins(vectors, classifier, labels)[0] if reduction == "image" else None
    intervals = np.full((len(classifier), 2), np.nan)
    if len(classifier) < 2:  # a single class has no rival
        return intervals
    for c in np.flatnonzero(np.bincount(labels[labels >= 0], minlength=len(classifier)) >= 2):
        members = np.flatnonzero(labels == c)
        if reduction == "image":
            sample = margins[members]
        else:
            mean = vectors[members].mean(axis=0) @ classifier.T
            mean[c] = -np.inf
            sample = vectors[members] @ (classifier[c] - classifier[mean.argmax()])
        intervals[c] = mean_with_t(sample, confidence)[1:]
    return intervals


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
    cmm, worst = _truly_worst(cmm, per_class, k)
    return float(worst[worst_first(cmm)[:k]].mean())


def worst_auc(cmm, per_class, k: int) -> float:
    """Probability that one of the k truly worst classes has a lower score than one of the others, in [0, 1].

    The area under the ROC curve of "low score = among the k worst", as the Mann-Whitney statistic: ties count half,
    chance is 0.5, NaN scores rank lowest. Who is truly worst is settled as in `worst_found`; NaN where all are.

    >>> worst_auc([.1, .9, .2, .8], [0., 1., .5, .9], k=2), worst_auc([1, 1, 1], [0., .5, 1.], k=1)
    (1.0, 0.5)
    """
    cmm, worst = _truly_worst(cmm, per_class, k)
    few, many = int(worst.sum()), int((~worst).sum())
    if not many:
        return float("nan")
    rank = scipy.stats.rankdata(np.where(np.isnan(cmm), -np.inf, cmm))
    return float(1 - (rank[worst].sum() - few * (few + 1) / 2) / (few * many))


def _truly_worst(cmm, per_class, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the classes that have an accuracy, and which of those are at most as good as the k-th worst."""
    cmm, per_class = floats(cmm, "cmm", 1, finite=False), floats(per_class, "per_class", 1, finite=False)
    if cmm.shape != per_class.shape:
        raise InputError(f"Expected `per_class` of shape (C,) = {cmm.shape}, got {per_class.shape}")
    scored = np.flatnonzero(~np.isnan(per_class))
    k = whole_number(k, "k", 1, len(scored))
    return cmm[scored], per_class[scored] <= np.sort(per_class[scored])[k - 1]


def softmax_confidence(vectors, classifier, logit_scale: float = 100.0) -> np.ndarray:
    """Softmax probability of each image's prediction: (N,) fractions in [1/C, 1].

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        logit_scale: logit = `logit_scale` x cosine, > 0; 100 is where OpenAI's CLIP models end, and a model's own is
            `model.module.logit_scale.exp()`.

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

    Without a bias it is the softmax over the classes (`softmax_confidence`). With one, the model was trained with a sigmoid on
    each pair, and it is sigmoid(`logit_scale` x cosine + `logit_bias`), which need not sum to 1 over the classes (SigLIP,
    Zhai et al. 2023).

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


def nearest_text(classifier) -> tuple[np.ndarray, np.ndarray]:
    """Of each class, the other class whose text is most similar, and that cosine: (C,) int64, (C,) float.

    -1 and NaN where there is only one class.

    >>> nearest_text([[1., 0.], [.6, .8], [0., 1.]])
    (array([1, 2, 1]), array([0.6, 0.8, 0.8]))
    """
    classifier = check_classifier(classifier)
    nearest, cosine = np.full(len(classifier), -1), np.full(len(classifier), np.nan)
    if len(classifier) > 1:
        for rows, block in similarity_blocks(classifier, classifier):
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -np.inf
            nearest[rows] = block.argmax(axis=1)
            cosine[rows] = block.max(axis=1).astype(float).round(6)  # float32 knows no more
    return nearest, cosine


def baseline_scores(
    vectors, classifier, logit_scale: float = 100.0, logit_bias: float | None = None
) -> dict[str, np.ndarray]:
    """Label-free scores of classes that cost next to nothing and that a margin has to beat; low = suspicious.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        logit_scale, logit_bias: of the probability, as in `prediction_confidence`.

    Returns:
        Of (C,) each, "frequency" (images predicted as the class), "top-1 similarity" and "confidence" (mean cosine and mean
        probability of these images; NaN without any), "text only" (minus the cosine to the nearest other text).

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


def compare_scores(scores, per_class, k: int, resamples: int = 1000, seed: int = 0, confidence: float = 0.95):
    """How well each score tells which classes are bad: one table for margins and baselines.

    Args:
        scores: name -> (C,) score, low = suspicious, NaN = never predicted, which ranks lowest. All margins and
            baselines of a result: `{**result.cmm, **baseline_scores(vectors, classifier)}`.
        per_class: (C,) true accuracies, fractions in [0, 1]; NaN = no images, left out.
        k: how many worst classes are looked for.

    Returns:
        DataFrame, one row a score, in the order given, then "chance"; columns `rho` (Spearman with accuracy) and its
        interval `rho_low`, `rho_high`, `found` (`worst_found` at k) and `auc` (`worst_auc`).

    Raises:
        InputError: `scores` is empty, shapes differ, or k is out of range.

    >>> compare_scores({"margin": [.1, .9, .2, .8]}, [0., 1., .5, .9], k=2)[["rho", "found", "auc"]]
            rho  found  auc
    margin  1.0    1.0  1.0
    chance  0.0    0.5  0.5
    """
    import pandas as pd  # only tables need it

    per_class = floats(per_class, "per_class", 1, finite=False)
    if not len(require_attribute(scores, "scores", "items", "a dict of name and (C,) values")):
        raise InputError("Expected at least one score in `scores`, got none")
    rows = {}
    for name, score in scores.items():
        _truly_worst(score, per_class, k)  # checks, under the names that the caller knows
        rho, low, high = rank_correlation(score, per_class, "worst", resamples, seed, confidence)
        rows[name] = {
            "rho": rho,
            "rho_low": low,
            "rho_high": high,
            "found": worst_found(score, per_class, k),
            "auc": worst_auc(score, per_class, k),
        }
    rows["chance"] = {"rho": 0.0, "found": float(_truly_worst(score, per_class, k)[1].mean()), "auc": 0.5}
    return pd.DataFrame.from_dict(rows, orient="index")


def find_worst(vectors, classifier, k: int | None = None, reduction: str = "image") -> np.ndarray:
    """Classes that a classifier is likely to fail on, worst first, found without labels: (k,) class indices.

    By pseudo-CMM, never-predicted classes first; among these, which all have no margin, the class comes first that is
    farthest from winning an image: whose best s(x_i, t_c) - max_j s(x_i, t_j) over all images is lowest.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        k: how many; None: all C.
        reduction: of the margin, "image" or "class".

    >>> find_worst([[1., 0.]], [[1., 0.], [.6, .8], [0., 1.]])
    array([2, 1, 0])
    """
    vectors, classifier = check_vectors(vectors, classifier)
    k = len(classifier) if k is None else whole_number(k, "k", 1, len(classifier))
    cmm = class_wise_matching_margin(vectors, classifier, reduction=reduction)
    never = np.flatnonzero(np.isnan(cmm))
    # Below every margin, which are cosine differences and so at least -2.
    cmm[never] = nearest_images(vectors, classifier, never, 1)[1][:, 0] - 4
    return worst_first(cmm)[:k]


def nearest_images(vectors, classifier, classes, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `classes` the `count` images it is nearest to winning, and how far off: (K, count) rows and gaps <= 0."""
    count = min(count, len(vectors))
    place, gap = np.empty((len(classes), 0), dtype=np.int64), np.empty((len(classes), 0))
    for rows, block in similarity_blocks(vectors, classifier):
        new = (block[:, classes] - block.max(axis=1, keepdims=True)).T
        place = np.hstack([place, np.broadcast_to(np.arange(rows.start, rows.stop), new.shape)])
        gap = np.hstack([gap, new])
        best = np.argsort(-gap, axis=1, kind="stable")[:, :count]
        place, gap = np.take_along_axis(place, best, axis=1), np.take_along_axis(gap, best, axis=1)
    return place, gap
