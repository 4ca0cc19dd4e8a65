"""Weighted prompt ensembles: weights of prompts, and classifiers and results with these weights.

A prompt bank holds the text vectors of P prompts for C classes, (P, C, D); the argument is called `bank`. Every
weighting is a `method` of `prompt_weights`; weights are used by `weighted_classifier` (one weight for each prompt, or
each prompt and class) or `evaluate_per_image` (each prompt and image).

The paper's CPE (arXiv 2310.03324) is "cmm". Confirmed: the class-wise matching margin estimates the quality of a
prompt, and a weighted ensemble raises the weight of good prompts, without labels. Reconstructed: the score of a prompt
is the mean (pseudo-)margin that it gives to the worst classes (or to all, or to one class), and weights are
softmax(score / temperature).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from clipnb._checks import (
    as_numpy,
    class_indices,
    floats,
    generator,
    one_of,
    real_number,
    require_attribute,
    whole_number,
)
from clipnb._class_bias import carprt_scores
from clipnb._class_bias import class_bias as class_bias
from clipnb._class_bias import evaluate_offset_on_halves as evaluate_offset_on_halves
from clipnb._moved import redirect
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, check_depths, evaluate_prompts, evaluate_unchecked
from clipnb.margin import Reduction, nearest_images, pseudo_labels, worst_first
from clipnb.similarity import (
    Scorer,
    block_slices,
    check_bank,
    check_classifier,
    check_vectors,
    parallel_map,
    tensor,
    unit_norm,
    unit_rows,
)

Method = Literal["uniform", "zpe", "autoclip", "cmm", "carprt", "greedy"]
METHODS: tuple[Method, ...] = ("uniform", "zpe", "autoclip", "cmm", "carprt", "greedy")
WEIGHTED_BYTES = 256 * 2**20  # the weighted image vectors that `evaluate_per_image` holds at a time


def softmax_weights(scores: npt.ArrayLike, temperature: float, top_m: int | None = None) -> npt.NDArray[np.float64]:
    """Softmax of scores / temperature over the first axis, so that weights sum to 1; NaN scores give equal weights.

    Args:
        scores: (P,) or (P, C), higher is better. A column with a NaN (a class that is never predicted) is uniform.
        temperature: > 0; the smaller it is, the higher the weight of the best prompt; infinity gives equal weights.
        top_m: only the m best prompts (of each column; ties go to the lower index) get weight; None: all.

    >>> softmax_weights([1., 2.], temperature=0.1).round(3)
    array([0., 1.])
    >>> softmax_weights([1., 2., 3., 0.], temperature=float("inf"), top_m=2)
    array([0. , 0.5, 0.5, 0. ])
    """
    scores = as_numpy(scores, "scores")
    scores = floats(scores, "scores", 2 if scores.ndim == 2 else 1, finite=False).astype(float)
    if not scores.size or np.isinf(scores).any():
        finite = int(np.isfinite(scores).sum())
        raise InputError(
            "Expected finite `scores` of at least one prompt (NaN gives equal weights), "
            f"got {finite} finite of {scores.size}"
        )
    if not real_number(temperature, "temperature") > 0:
        raise InputError(f"Expected `temperature` > 0, got {temperature}")
    scores = np.where(np.isnan(scores).any(axis=0), 0.0, scores)
    weights = np.exp((scores - scores.max(axis=0)) / temperature)
    if top_m is not None:
        rank = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0)
        weights[rank >= whole_number(top_m, "top_m", 1)] = 0
    return weights / weights.sum(axis=0)


def prompt_margins(
    vectors: npt.ArrayLike, bank: npt.ArrayLike, labels: npt.ArrayLike | None = None, reduction: Reduction = "image"
) -> npt.NDArray[np.float64]:
    """Class-wise matching margin that each prompt gives to each class: (P, C) cosine differences, NaN as in CMM.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: the prompt bank, (P, C, D) unit-norm text vectors from `clipnb.prompt_vectors`.
        labels: (N,) class indices; None: pseudo-labels by the uniform ensemble, the same for every prompt.
        reduction: "image" or "class".

    >>> prompt_margins(np.eye(2), np.stack([np.eye(2), np.eye(2)[::-1]]), [0, 1])
    array([[ 1.,  1.],
           [-1., -1.]])
    """
    bank = check_bank(bank)
    if labels is None:
        labels = pseudo_labels(vectors, weighted_classifier(bank, np.full(len(bank), 1 / len(bank))))
    return evaluate_prompts(vectors, bank, labels).cmm[one_of(reduction, "reduction", ("image", "class"))]


def zpe_scores(
    vectors: npt.ArrayLike, bank: npt.ArrayLike, reference: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """Score of each prompt by zero-shot prompt ensembling (arXiv 2302.06235): (P,) cosines, higher is better.

    The mean over images of the highest similarity, after subtracting each text's mean similarity: the mean of that to
    `reference`, images like those of the training, and that to the images themselves. Without this, texts that are
    similar to all images would win.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: the prompt bank, (P, C, D) unit-norm text vectors.
        reference: (M, D) unit-norm image vectors; None: the images themselves take its place.

    >>> zpe_scores(np.eye(2), np.stack([np.eye(2), np.full((2, 2), .5 ** .5)])).round(3)
    array([0.5, 0. ])
    """
    bank = check_bank(bank).astype(float)
    vectors = check_vectors(vectors, bank[0])[0].astype(float)
    mean = vectors.mean(axis=0)
    if reference is not None:
        mean = (mean + check_vectors(reference, bank[0], name="reference")[0].mean(axis=0, dtype=float)) / 2
    usual = tensor(bank @ mean)
    scorers = [Scorer(prompt) for prompt in bank]
    images = tensor(vectors)

    def best(rows: slice) -> list[float]:
        return [float((scorer(images[rows]) - usual[p]).amax(dim=1).sum()) for p, scorer in enumerate(scorers)]

    return np.sum(parallel_map(best, block_slices(len(vectors), bank.shape[1])), axis=0) / len(vectors)


def autoclip_weights(vectors: npt.ArrayLike, bank: npt.ArrayLike, entropy: float = 0.85) -> npt.NDArray[np.float64]:
    """Weights of the prompts for each single image, as AutoCLIP tunes them (arXiv 2309.16414): (N, P), rows sum to 1.

    The weights take one step from equal weights along the gradient of the logsumexp over classes of the weighted
    similarities; the step size is the one at which the entropy of the weights is `entropy` times its maximum. The
    gradient ranks prompts by their mean similarity to the image, where classes are weighted by their softmax under
    equal weights.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: the prompt bank, (P, C, D) unit-norm text vectors.
        entropy: share of the entropy of equal weights, in (0, 1]; 0.85 is the authors' choice. Where several prompts
            tie for the best, weights come as near to it as possible.

    >>> autoclip_weights(np.eye(2)[:1], np.stack([np.eye(2), -np.eye(2)]), entropy=0.5).round(2)
    array([[0.89, 0.11]])
    """
    if not 0 < real_number(entropy, "entropy") <= 1:
        raise InputError(f"Expected `entropy` in (0, 1], got {entropy}")
    bank = check_bank(bank).astype(float)
    vectors = check_vectors(vectors, bank[0])[0].astype(float)
    images = tensor(vectors)
    uniform = Scorer(bank.mean(axis=0))
    scorers = [Scorer(prompt) for prompt in bank]
    gradient = np.empty((len(vectors), len(bank)))

    def visit(rows: slice) -> None:
        probability = uniform(images[rows]).softmax(dim=1)
        for p, scorer in enumerate(scorers):
            gradient[rows, p] = (probability * scorer(images[rows])).sum(dim=1).numpy()

    parallel_map(visit, block_slices(len(vectors), bank.shape[1]))
    return _with_entropy(gradient, entropy)


def _with_entropy(scores: np.ndarray, share: float) -> np.ndarray:
    """Softmax of each row times a factor at which its entropy is `share` of the maximum, found by bisection."""
    spread = np.ptp(scores, axis=1, keepdims=True)
    scores = np.divide(scores - scores.max(axis=1, keepdims=True), spread, out=np.zeros_like(scores), where=spread > 0)
    low = np.zeros((len(scores), 1))
    high = np.full((len(scores), 1), 1e6)
    weights = np.full(scores.shape, 1 / scores.shape[1])
    for _ in range(80):
        factor = (low + high) / 2
        weights = np.exp(factor * scores)
        weights /= weights.sum(axis=1, keepdims=True)
        entropy = -np.sum(weights * np.log(np.maximum(weights, 1e-300)), axis=1, keepdims=True)
        flat = entropy > share * np.log(scores.shape[1])
        low, high = np.where(flat, factor, low), np.where(flat, high, factor)
    return weights


def _greedy_weights(vectors: npt.ArrayLike, bank: np.ndarray, labels: npt.ArrayLike | None) -> np.ndarray:
    """Forward selection with replacement (Caruana 2004): the best prompt is added as long as it raises the accuracy."""
    if labels is None or not (np.asarray(labels) >= 0).any():
        raise InputError("Expected `labels` with method 'greedy', got none: it is the reference that uses labels")
    counts = np.zeros(len(bank))
    reached = -1.0
    while counts.sum() < 2 * len(bank):
        results = evaluate_prompts(vectors, unit_norm(np.einsum("p,pcd->cd", counts, bank) + bank), labels)
        # Ties go to the larger margin.
        best = np.lexsort((-np.nanmean(results.cmm["image"], axis=1), -results.accuracy))[0]
        if not results.accuracy[best] > reached:
            break
        reached = results.accuracy[best]
        counts[best] += 1
    return counts / counts.sum()


def prompt_weights(
    vectors: npt.ArrayLike,
    bank: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    method: Method = "cmm",
    temperature: float = 0.01,
    worst_k: int | None = None,
    per_class: bool = False,
    reduction: Reduction = "image",
    top_m: int | None = None,
    reference: npt.ArrayLike | None = None,
    entropy: float = 0.85,
) -> npt.NDArray[np.float64]:
    """Weight of each prompt in an ensemble, without training and, except for "greedy", without labels.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: the prompt bank, (P, C, D) unit-norm text vectors from `clipnb.prompt_vectors`.
        labels: (N,) class indices, -1 is left out, for "cmm" and "greedy"; None: pseudo-labels by the uniform ensemble.
        method: "uniform" (1 / P for every prompt), "zpe" (softmax of `zpe_scores`), "autoclip" (`autoclip_weights`, for
            each image), "cmm" (softmax of the mean margin), "carprt" (softmax of `carprt_scores`), or "greedy" (forward
            selection by accuracy on `labels`: a reference for what weights could reach with labels, not a method to
            use).
        temperature: of the softmax of "zpe", "cmm" and "carprt", in units of cosine.
        worst_k: for "cmm": average the margin over the k worst classes (by the prompts' mean margin; fewer if fewer
            have images) instead of all.
        per_class: for "cmm" and "uniform": separate weights for each class, from that class's own margins.
        reduction: of the margin, "image" or "class".
        top_m: for "zpe", "cmm" and "carprt": only the m best prompts get weight.
        reference: for "zpe": (M, D) vectors of images like those of the training.
        entropy: for "autoclip": share of the entropy of equal weights.

    Returns:
        (P,) weights that sum to 1; (P, C) with `per_class` and with "carprt", each column summing to 1; (N, P) with
        "autoclip", each row.

    Raises:
        InputError: shapes differ, or an option is unknown or out of range.

    >>> bank = np.stack([np.eye(2), np.eye(2)[::-1]])  # the second prompt names the wrong class
    >>> prompt_weights(np.eye(2), bank, [0, 1], temperature=0.1).round(3)
    array([1., 0.])
    """
    bank = check_bank(bank)
    if one_of(method, "method", METHODS) not in ("uniform", "cmm") and per_class:
        raise InputError(f"Expected `per_class` with method 'cmm' only, got it with {method!r}")
    if method == "uniform":
        return np.full((bank.shape[0], bank.shape[1]) if per_class else bank.shape[0], 1 / len(bank))
    if method == "zpe":
        return softmax_weights(zpe_scores(vectors, bank, reference), temperature, top_m)
    if method == "autoclip":
        return autoclip_weights(vectors, bank, entropy)
    if method == "carprt":
        return softmax_weights(carprt_scores(vectors, bank), temperature, top_m)
    if method == "greedy":
        return _greedy_weights(vectors, bank, labels)
    margins = prompt_margins(vectors, bank, labels, reduction)
    if per_class:
        return softmax_weights(margins, temperature, top_m)
    # A class that is never predicted has no margin under any prompt, so it cannot distinguish prompts.
    classes = np.flatnonzero(np.isfinite(margins).all(axis=0))
    if not len(classes):
        raise InputError(
            "Expected margins for at least one class, got NaN for all: no image has a label, or there is one class"
        )
    if worst_k is not None:
        classes = classes[worst_first(margins[:, classes].mean(axis=0))[: whole_number(worst_k, "worst_k", 1)]]
    return softmax_weights(margins[:, classes].mean(axis=1), temperature, top_m)


def weighted_classifier(bank: npt.ArrayLike, weights: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Class vectors as the weighted, renormalised mean over prompts: (C, D) float32, rows of unit norm.

    Args:
        bank: the prompt bank, (P, C, D) unit-norm text vectors.
        weights: (P,) or (P, C), non-negative, not all zero for a class.

    >>> weighted_classifier(np.stack([np.eye(2), np.eye(2)[::-1]]), [1, 0])
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    bank = check_bank(bank)
    weights = as_numpy(weights, "weights")
    if weights.shape not in ((len(bank),), bank.shape[:2]):
        raise InputError(
            f"Expected `weights` of shape (P,) = ({len(bank)},) or (P, C) = {bank.shape[:2]}, got {weights.shape}"
        )
    weights = np.broadcast_to(_check_weights(weights).reshape(len(bank), -1), bank.shape[:2])
    return unit_norm(np.einsum("pc,pcd->cd", weights, bank)).astype(np.float32, copy=False)


def _check_weights(weights: np.ndarray) -> np.ndarray:
    """Return weights as float32 if they are non-negative and at most 1e9."""
    if weights.dtype.kind not in "fiub" or not (weights >= 0).all():
        raise InputError("Expected `weights` >= 0, got a negative or NaN weight")
    if (weights > 1e9).any():
        raise InputError(f"Expected `weights` up to 1e9, got {weights.max():g}")
    return weights.astype(np.float32)


def evaluate_per_image(
    vectors: npt.ArrayLike,
    bank: npt.ArrayLike,
    weights: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    ks: Iterable[int] = (1, 5),
) -> EvaluationResult:
    """`evaluate` with separate prompt weights for each image: similarity to class c is sum_p w_ip s(x_i, t_pc).

    That sum is one inner product of the concatenated w_ip x_i with the concatenated t_pc, so blocks of images go
    through `evaluate` in P x D dimensions. (As in AutoCLIP, the weighted mean is not renormalised.)

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: the prompt bank, (P, C, D) unit-norm text vectors; or P classifiers, of which each image uses one (weight
            1).
        weights: (N, P), non-negative, for example `autoclip_weights(vectors, bank)`.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.

    >>> bank = np.stack([np.eye(2), np.eye(2)[::-1]])
    >>> evaluate_per_image(np.eye(2), bank, [[1, 0], [0, 1]], [0, 0]).accuracy
    1.0
    """
    bank = check_bank(bank)
    vectors, _ = check_vectors(vectors, bank[0])
    weights = floats(weights, "weights", 2)
    if weights.shape != (len(vectors), len(bank)):
        raise InputError(f"Expected `weights` of shape (N, P) = {(len(vectors), len(bank))}, got {weights.shape}")
    weights = _check_weights(weights)
    labels = class_indices(
        np.full(len(vectors), -1) if labels is None else labels, "labels", len(vectors), bank.shape[1], unknown=True
    )
    ks = check_depths(ks)
    texts = np.ascontiguousarray(bank.transpose(1, 0, 2)).reshape(bank.shape[1], -1)
    step = max(1, WEIGHTED_BYTES // (4 * texts.shape[1]))

    def part(rows: slice) -> EvaluationResult:
        weighted = (weights[rows, :, None] * vectors[rows, None, :]).reshape(-1, texts.shape[1])
        return evaluate_unchecked(weighted, texts, labels[rows], ks)  # these rows do not have unit norm

    return EvaluationResult.merge(part(slice(start, start + step)) for start in range(0, len(vectors), step))


def evaluate_on_halves(
    vectors: npt.ArrayLike,
    fit: Callable[[np.ndarray], npt.ArrayLike],
    labels: npt.ArrayLike | None = None,
    ks: Iterable[int] = (1, 5),
    seed: int = 0,
) -> EvaluationResult:
    """`evaluate` where each half of the images is scored by a classifier that was fitted on the other half.

    No image helps to fit the classifier that scores it, and yet every image is scored: the control for weights that are
    computed on the test images.

    Args:
        vectors: (N, D) unit-norm image vectors, N >= 2.
        fit: function of (M,) row indices that returns a (C, D) classifier fitted on the images `vectors[rows]`.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        seed: seed of the random halves.

    >>> evaluate_on_halves(np.eye(2), lambda rows: np.eye(2), [0, 1]).accuracy
    1.0
    """
    vectors = floats(vectors, "vectors", 2)
    if len(vectors) < 2:
        raise InputError(f"Expected at least two images to halve, got {len(vectors)}")
    half = generator(seed).permutation(len(vectors)) % 2
    classifiers = np.stack([fit(np.flatnonzero(half == 1)), fit(np.flatnonzero(half == 0))])
    return evaluate_per_image(vectors, classifiers, np.eye(2)[half], labels, ks)


def description_classifier(
    classifier: npt.ArrayLike,
    descriptions: Mapping[int, npt.ArrayLike],
    vectors: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    temperature: float = 0.01,
    name_weight: float = 0.5,
) -> tuple[npt.NDArray[np.float32], dict[int, npt.NDArray[np.float64]]]:
    """Enrich some classes of a classifier with descriptions, weighted by the margin that each gives to its class.

    Description d of class c is scored by the mean over images with y_i = c of s(x_i, d) - max_{j != c} s(x_i, t_j):
    the class-wise matching margin with d in place of t_c. The class vector becomes
    name_weight * t_c + (1 - name_weight) * (weighted mean of the descriptions), renormalised.

    Without labels there are two rounds, because the classes that need descriptions are those that `classifier` hardly
    predicts: the first round weights descriptions equally, and its predictions are the pseudo-labels of the second. A
    class that is still never predicted uses the N / C images (at least one) that it is nearest to winning.

    Args:
        classifier: (C, D) unit-norm class vectors t_c.
        descriptions: {class index: (P_c, D) unit-norm vectors}; other classes keep their vector.
        vectors: (N, D) unit-norm image vectors to compute margins on; None: equal weights.
        labels: (N,) class indices, -1 is left out; a class without images gets equal weights. None: pseudo-labels, as
            above.
        temperature: of the softmax over a class's descriptions.
        name_weight: share of the old class vector, in [0, 1].

    Returns:
        (new classifier (C, D) float32, {class index: (P_c,) weights}).

    >>> new, weights = description_classifier(np.eye(2), {0: np.eye(2)}, np.eye(2), [0, 1], temperature=0.1)
    >>> weights[0].round(3)
    array([1., 0.])
    """
    classifier = check_classifier(classifier)
    if not 0 <= real_number(name_weight, "name_weight") <= 1:
        raise InputError(f"Expected `name_weight` in [0, 1], got {name_weight}")
    items = require_attribute(
        descriptions, "descriptions", "items", "a dict of class index and (P_c, D) vectors"
    ).items()
    texts = {c: _check_descriptions(c, value, classifier) for c, value in items}
    weights = {c: np.full(len(value), 1 / len(value)) for c, value in texts.items()}
    first = _enriched(classifier, texts, weights, name_weight)
    if vectors is None or not texts or len(classifier) < 2:
        return first, weights
    vectors, _ = check_vectors(vectors, classifier)
    for c, rows in _members(vectors, first, list(texts), labels).items():
        others = np.delete(vectors[rows] @ classifier.T, c, axis=1).max(axis=1, keepdims=True)
        weights[c] = softmax_weights((vectors[rows] @ texts[c].T - others).mean(axis=0), temperature)
    return _enriched(classifier, texts, weights, name_weight), weights


def _check_descriptions(c: int, texts: npt.ArrayLike, classifier: np.ndarray) -> np.ndarray:
    """Return the description vectors of class c as (P_c, D) float32 of unit norm."""
    if isinstance(c, str) or not 0 <= c < len(classifier):
        raise InputError(f"Expected class indices in `descriptions` between 0 and {len(classifier) - 1}, got {c}")
    texts = floats(texts, f"descriptions[{c}]", 2)
    if not len(texts) or texts.shape[1] != classifier.shape[1]:
        raise InputError(
            f"Expected `descriptions[{c}]` of shape (P_c >= 1, D = {classifier.shape[1]}), got {texts.shape}"
        )
    return unit_rows(texts, f"descriptions[{c}]")


def _enriched(
    classifier: np.ndarray, descriptions: dict[int, np.ndarray], weights: dict[int, np.ndarray], name_weight: float
) -> np.ndarray:
    """The classifier with each described class mixed with the weighted mean of its descriptions."""
    result = classifier.copy()
    for c, texts in descriptions.items():
        mean = unit_norm((weights[c].astype(np.float32) @ texts)[None])[0]
        result[c] = name_weight * classifier[c] + (1 - name_weight) * mean
    return unit_norm(result)


def _members(
    vectors: np.ndarray, classifier: np.ndarray, classes: list[int], labels: npt.ArrayLike | None
) -> dict[int, np.ndarray]:
    """Images of each class, by label or by prediction.

    Without labels, a class that is never predicted gets the images that it is nearest to winning.
    """
    target = pseudo_labels(vectors, classifier) if labels is None else labels
    target = class_indices(target, "labels", len(vectors), len(classifier), unknown=True)
    members = {c: np.flatnonzero(target == c) for c in classes}
    if labels is None:
        absent = [c for c in classes if not len(members[c])]
        count = max(1, len(vectors) // len(classifier))
        members |= dict(zip(absent, nearest_images(vectors, classifier, np.array(absent, dtype=int), count)[0]))
    return {c: rows for c, rows in members.items() if len(rows)}


_MOVED = {"compare": "clipnb.paired", "paired_differences": "clipnb.paired", "find_worst": "clipnb.margin"}
__getattr__ = redirect(__name__, _MOVED)
