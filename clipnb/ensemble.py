"""Weighted prompt ensembles: weights for prompts, what scores with them, and methods compared on the same images.

Every weighting is a `method` of `prompt_weights`; weights score through `weighted_classifier` (one weight a prompt, or a prompt
and class) or `evaluate_per_image` (a prompt and image).

The paper's CPE (arXiv 2310.03324) is "cmm". Confirmed: the class-wise matching margin estimates how well a prompt will do, and
a weighted ensemble highlights the efficient prompts, without labels. Reconstructed: the score of a prompt is the mean
(pseudo-)margin it gives to the worst classes (or to all, or to one class), and weights are softmax(score / temperature).
"""

from __future__ import annotations

import numpy as np

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
from clipnb._class_bias import BIAS_METHODS, carprt_scores, class_bias, evaluate_offset_on_halves
from clipnb._moved import redirect
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, check_depths, evaluate_prompts, evaluate_unchecked
from clipnb.margin import nearest_images, pseudo_labels, worst_first
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

METHODS = ("uniform", "zpe", "autoclip", "cmm", "carprt", "greedy")
LIFT_BYTES = 256 * 2**20  # of weighted image vectors that `evaluate_per_image` holds at a time


def softmax_weights(scores, temperature: float, top_m: int | None = None) -> np.ndarray:
    """Softmax of scores / temperature over the first axis, so that weights sum to 1; NaN scores give equal weights.

    Args:
        scores: (P,) or (P, C), higher is better. A column with a NaN (a class nobody is predicted as) is uniform.
        temperature: > 0; the smaller, the more the best prompt takes; infinity: equal weights.
        top_m: only the m best prompts (of each column; ties go to the lower index) get weight; None: all.

    >>> softmax_weights([1., 2.], temperature=0.1).round(3)
    array([0., 1.])
    >>> softmax_weights([1., 2., 3., 0.], temperature=float("inf"), top_m=2)
    array([0. , 0.5, 0.5, 0. ])
    """
    scores = as_numpy(scores, "scores")
    scores = floats(scores, "scores", 2 if scores.ndim == 2 else 1, finite=False).astype(float)
    if not scores.size or np.isinf(scores).any():
        raise InputError(
            f"Expected finite `scores` of at least one prompt (NaN: equal weights), got {int(np.isfinite(scores).sum())} finite of {scores.size}"
        )
    if not real_number(temperature, "temperature") > 0:
        raise InputError(f"Expected `temperature` > 0, got {temperature}")
    scores = np.where(np.isnan(scores).any(axis=0), 0.0, scores)
    weights = np.exp((scores - scores.max(axis=0)) / temperature)
    if top_m is not None:
        rank = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0)
        weights[rank >= whole_number(top_m, "top_m", 1)] = 0
    return weights / weights.sum(axis=0)


def prompt_margins(vectors, bank, labels=None, reduction: str = "image") -> np.ndarray:
    """Class-wise matching margin that each prompt gives to each class: (P, C) cosine differences, NaN as in CMM.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors, from `clipnb.prompt_vectors`.
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


def zpe_scores(vectors, bank, reference=None) -> np.ndarray:
    """Zero-shot prompt ensembling's score of each prompt (arXiv 2302.06235): (P,) cosines, higher is better.

    The mean over images of the highest similarity, after each text's mean similarity is taken off: half of it measured on
    `reference`, images like those of the training, half on the images themselves. A text that everything is similar to would
    win otherwise.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors.
        reference: (M, D) unit-norm image vectors; None: the images themselves take both halves.

    >>> zpe_scores(np.eye(2), np.stack([np.eye(2), np.full((2, 2), .5 ** .5)])).round(3)
    array([0.5, 0. ])
    """
    bank = check_bank(bank).astype(float)
    vectors = check_vectors(vectors, bank[0])[0].astype(float)
    mean = vectors.mean(axis=0)
    if reference is not None:
        mean = (mean + check_vectors(reference, bank[0], name="reference")[0].mean(axis=0, dtype=float)) / 2
    usual = tensor(bank @ mean)
    scorers, images = [Scorer(prompt) for prompt in bank], tensor(vectors)

    def best(rows: slice) -> list[float]:
        return [float((scorer(images[rows]) - usual[p]).amax(dim=1).sum()) for p, scorer in enumerate(scorers)]

    return np.sum(parallel_map(best, block_slices(len(vectors), bank.shape[1])), axis=0) / len(vectors)


def autoclip_weights(vectors, bank, entropy: float = 0.85) -> np.ndarray:
    """Weights of the prompts for each image by itself, as AutoCLIP tunes them (arXiv 2309.16414): (N, P), rows sum to 1.

    From equal weights, one step up the gradient of logsumexp over classes of the weighted similarities; the step is as long
    as brings the weights' entropy down to `entropy` of its maximum. The gradient orders prompts by their mean similarity to
    the image, classes weighted by their softmax under equal weights.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors.
        entropy: share of the entropy of equal weights, in (0, 1]; 0.85 is the authors' choice. Where several prompts tie for
            the best, weights come as near to it as they can.

    >>> autoclip_weights(np.eye(2)[:1], np.stack([np.eye(2), -np.eye(2)]), entropy=0.5).round(2)
    array([[0.89, 0.11]])
    """
    if not 0 < real_number(entropy, "entropy") <= 1:
        raise InputError(f"Expected `entropy` in (0, 1], got {entropy}")
    bank = check_bank(bank).astype(float)
    vectors = check_vectors(vectors, bank[0])[0].astype(float)
    images, uniform, scorers = tensor(vectors), Scorer(bank.mean(axis=0)), [Scorer(prompt) for prompt in bank]
    gradient = np.empty((len(vectors), len(bank)))

    def visit(rows: slice) -> None:
        probability = uniform(images[rows]).softmax(dim=1)
        for p, scorer in enumerate(scorers):
            gradient[rows, p] = (probability * scorer(images[rows])).sum(dim=1).numpy()

    parallel_map(visit, block_slices(len(vectors), bank.shape[1]))
    return _with_entropy(gradient, entropy)


def _with_entropy(scores: np.ndarray, share: float) -> np.ndarray:
    """Softmax of each row times a factor that makes its entropy `share` of the largest possible; by bisection."""
    spread = np.ptp(scores, axis=1, keepdims=True)
    scores = np.divide(scores - scores.max(axis=1, keepdims=True), spread, out=np.zeros_like(scores), where=spread > 0)
    low, high = np.zeros((len(scores), 1)), np.full((len(scores), 1), 1e6)
    for _ in range(80):
        factor = (low + high) / 2
        weights = np.exp(factor * scores)
        weights /= weights.sum(axis=1, keepdims=True)
        found = -np.sum(weights * np.log(np.maximum(weights, 1e-300)), axis=1, keepdims=True)
        flat = found > share * np.log(scores.shape[1])
        low, high = np.where(flat, factor, low), np.where(flat, high, factor)
    return weights


def _greedy_weights(vectors, bank: np.ndarray, labels) -> np.ndarray:
    """Forward selection with replacement (Caruana 2004): add the prompt that lifts accuracy most, while one does."""
    if labels is None or not (np.asarray(labels) >= 0).any():
        raise InputError("Expected `labels` with method 'greedy', got none: it is the reference that sees labels")
    counts, reached = np.zeros(len(bank)), -1.0
    while counts.sum() < 2 * len(bank):
        found = evaluate_prompts(vectors, unit_norm(np.einsum("p,pcd->cd", counts, bank) + bank), labels)
        best = np.lexsort((-np.nanmean(found.cmm["image"], axis=1), -found.accuracy))[0]  # ties: the larger margin
        if not found.accuracy[best] > reached:
            break
        reached = found.accuracy[best]
        counts[best] += 1
    return counts / counts.sum()


def prompt_weights(
    vectors,
    bank,
    labels=None,
    method: str = "cmm",
    temperature: float = 0.01,
    worst_k: int | None = None,
    per_class: bool = False,
    reduction: str = "image",
    top_m: int | None = None,
    reference=None,
    entropy: float = 0.85,
) -> np.ndarray:
    """Weight of each prompt in an ensemble, without training and, but for "greedy", without labels.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors, from `clipnb.prompt_vectors`.
        labels: (N,) class indices, -1 left out, for "cmm" and "greedy"; None: pseudo-labels by the uniform ensemble.
        method: "uniform" (every prompt 1 / P), "zpe" (softmax of `zpe_scores`), "autoclip" (`autoclip_weights`, for
            each image), "cmm" (softmax of the mean margin), "carprt" (softmax of `carprt_scores`, for each class), or "greedy" (forward selection by accuracy on `labels`: what
            weights could reach if they saw labels, no method to use).
        temperature: of the softmax of "zpe", "cmm" and "carprt", in units of cosine.
        worst_k: of "cmm": average the margin over the k worst classes (by the prompts' mean margin; fewer if fewer have
            images) instead of all.
        per_class: of "cmm" and "uniform": one set of weights for each class, from that class's own margins.
        reduction: of the margin, "image" or "class".
        top_m: of "zpe", "cmm" and "carprt": weight for the m best prompts only.
        reference: of "zpe": (M, D) images like those of the training.
        entropy: of "autoclip".

    Returns:
        (P,) weights that sum to 1; (P, C) with `per_class` and with "carprt", each column summing to 1; (N, P) with
        "autoclip", each row.

    Raises:
        InputError: shapes differ or an option is unknown or out of range.

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
    # A class nobody is predicted as has no margin under any prompt, so it cannot tell prompts apart.
    seen = np.flatnonzero(np.isfinite(margins).all(axis=0))
    if not len(seen):
        raise InputError(
            "Expected margins for at least one class, got NaN for all: no image has a label, or there is one class"
        )
    if worst_k is not None:
        seen = seen[worst_first(margins[:, seen].mean(axis=0))[: whole_number(worst_k, "worst_k", 1)]]
    return softmax_weights(margins[:, seen].mean(axis=1), temperature, top_m)


def weighted_classifier(bank, weights) -> np.ndarray:
    """Class vectors as the weighted, renormalised mean over prompts: (C, D) float32, rows of unit norm.

    Args:
        bank: (P, C, D) unit-norm text vectors.
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
    weights = _check_weights(weights)
    return unit_norm(np.einsum("pc,pcd->cd", np.broadcast_to(weights.reshape(len(bank), -1), bank.shape[:2]), bank))


def _check_weights(weights: np.ndarray) -> np.ndarray:
    if weights.dtype.kind not in "fiub" or not (weights >= 0).all():
        raise InputError("Expected `weights` >= 0, got a negative or NaN weight")
    if (weights > 1e9).any():
        raise InputError(f"Expected `weights` up to 1e9, got {weights.max():g}")
    return weights.astype(np.float32)


def evaluate_per_image(vectors, bank, weights, labels=None, ks=(1, 5)) -> EvaluationResult:
    """`evaluate` where every image weights the prompts in its own way: similarity to class c is sum_p w_ip s(x_i, t_pc).

    That sum is one inner product of the concatenated w_ip x_i with the concatenated t_pc, so blocks of images go through
    `evaluate` in P x D dimensions. (As in AutoCLIP, the weighted mean is not renormalised.)

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors; or P classifiers, of which each image takes one (a weight of 1).
        weights: (N, P), non-negative, for example `autoclip_weights(vectors, bank)`.
        labels, ks: as for `evaluate`.

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
    step = max(1, LIFT_BYTES // (4 * texts.shape[1]))

    def part(rows: slice) -> EvaluationResult:
        lifted = (weights[rows, :, None] * vectors[rows, None, :]).reshape(-1, texts.shape[1])
        return evaluate_unchecked(lifted, texts, labels[rows], ks)  # these rows are not of unit norm

    return EvaluationResult.merge(part(slice(start, start + step)) for start in range(0, len(vectors), step))


def evaluate_on_halves(vectors, fit, labels=None, ks=(1, 5), seed: int = 0) -> EvaluationResult:
    """`evaluate` where each half of the images is scored by what was fitted on the other half.

    No image takes part in setting what scores it, and yet every image is scored: the control for weights that are
    computed on the test images.

    Args:
        vectors: (N, D) unit-norm image vectors, N >= 2.
        fit: (rows) -> (C, D) classifier fitted on the images `vectors[rows]`.
        labels, ks: as for `evaluate`.

    >>> evaluate_on_halves(np.eye(2), lambda rows: np.eye(2), [0, 1]).accuracy
    1.0
    """
    vectors = floats(vectors, "vectors", 2)
    if len(vectors) < 2:
        raise InputError(f"Expected at least two images to halve, got {len(vectors)}")
    require_attribute(fit, "fit", "__call__", "a function of rows")
    half = generator(seed).permutation(len(vectors)) % 2
    classifiers = np.stack([fit(np.flatnonzero(half == 1)), fit(np.flatnonzero(half == 0))])
    return evaluate_per_image(vectors, classifiers, np.eye(2)[half], labels, ks)


def description_classifier(
    classifier, descriptions, vectors=None, labels=None, temperature: float = 0.01, name_weight: float = 0.5
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Enrich some classes of a classifier with descriptions, weighted by the margin that each one gives to its class.

    Description d of class c is scored by the mean over images with y_i = c of s(x_i, d) - max_{j != c} s(x_i, t_j):
    the class-wise matching margin with d in place of t_c. The class vector becomes
    name_weight * t_c + (1 - name_weight) * (weighted mean of the descriptions), renormalised.

    Without labels it takes two rounds, because the classes that need descriptions are those that `classifier` hardly
    predicts: the first weights descriptions equally, and what it predicts are the pseudo-labels of the second. A class that
    is still never predicted takes the N / C images (at least one) that it is nearest to winning.

    Args:
        classifier: (C, D) unit-norm class vectors t_c.
        descriptions: {class index: (P_c, D) unit-norm vectors}; other classes keep their vector.
        vectors: (N, D) unit-norm image vectors to compute margins on; None: equal weights.
        labels: (N,) class indices, -1 left out; a class without images then gets equal weights. None: pseudo-labels, as
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
    descriptions = {
        c: _check_descriptions(c, texts, classifier)
        for c, texts in require_attribute(
            descriptions, "descriptions", "items", "a dict of class index and (P_c, D) vectors"
        ).items()
    }
    weights = {c: np.full(len(texts), 1 / len(texts)) for c, texts in descriptions.items()}
    first = _enriched(classifier, descriptions, weights, name_weight)
    if vectors is None or not descriptions or len(classifier) < 2:
        return first, weights
    vectors, _ = check_vectors(vectors, classifier)
    for c, mine in _members(vectors, first, list(descriptions), labels).items():
        others = np.delete(vectors[mine] @ classifier.T, c, axis=1).max(axis=1, keepdims=True)
        weights[c] = softmax_weights((vectors[mine] @ descriptions[c].T - others).mean(axis=0), temperature)
    return _enriched(classifier, descriptions, weights, name_weight), weights


def _check_descriptions(c: int, texts, classifier: np.ndarray) -> np.ndarray:
    if isinstance(c, str) or not 0 <= c < len(classifier):
        raise InputError(f"Expected class indices in `descriptions` between 0 and {len(classifier) - 1}, got {c}")
    texts = floats(texts, f"descriptions[{c}]", 2)
    if not len(texts) or texts.shape[1] != classifier.shape[1]:
        raise InputError(
            f"Expected `descriptions[{c}]` of shape (P_c >= 1, D = {classifier.shape[1]}), got {texts.shape}"
        )
    return unit_rows(texts, f"descriptions[{c}]")


def _enriched(classifier: np.ndarray, descriptions, weights, name_weight: float) -> np.ndarray:
    new = classifier.copy()
    for c, texts in descriptions.items():
        mean = unit_norm((weights[c].astype(np.float32) @ texts)[None])[0]
        new[c] = name_weight * classifier[c] + (1 - name_weight) * mean
    return unit_norm(new)


def _members(vectors, classifier, classes: list[int], labels) -> dict[int, np.ndarray]:
    """Images of each class, by label or by prediction; without labels, a never-predicted class takes those nearest to it."""
    given = labels is not None
    labels = class_indices(
        labels if given else pseudo_labels(vectors, classifier), "labels", len(vectors), len(classifier), unknown=True
    )
    members = {c: np.flatnonzero(labels == c) for c in classes}
    absent = [c for c in classes if not len(members[c])]
    nearest = [] if given else nearest_images(vectors, classifier, absent, max(1, len(vectors) // len(classifier)))[0]
    members |= dict(zip(absent, nearest))
    return {c: rows for c, rows in members.items() if len(rows)}


_MOVED = {"compare": "clipnb.paired", "paired_differences": "clipnb.paired", "find_worst": "clipnb.margin"}
__getattr__ = redirect(__name__, _MOVED)
