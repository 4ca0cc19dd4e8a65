"""Weighted prompt ensembles (the paper's CPE, arXiv 2310.03324, as we reconstruct it): weights, then a classifier.

Confirmed: the class-wise matching margin estimates how well a prompt will do, and a weighted ensemble highlights the
efficient prompts, without labels. Reconstructed: the score of a prompt is the mean (pseudo-)margin it gives to the
worst classes (or to all, or to one class), and weights are softmax(score / temperature) over the prompts.
"""

from __future__ import annotations

import numpy as np

from clipnb.errors import InputError, class_indices, floats, one_of, whole_number
from clipnb.margin import pseudo_labels, worst_first
from clipnb.similarity import check_bank, check_vectors, unit_norm
from clipnb.zeroshot import evaluate_prompts

METHODS = ("uniform", "cmm")


def softmax_weights(scores, temperature: float) -> np.ndarray:
    """Softmax of scores / temperature over the first axis, so that weights sum to 1; NaN scores give equal weights.

    Args:
        scores: (P,) or (P, C), higher is better. A column with a NaN (a class nobody is predicted as) is uniform.
        temperature: > 0; the smaller, the more the best prompt takes.

    >>> softmax_weights([1., 2.], temperature=0.1).round(3)
    array([0., 1.])
    """
    scores = np.asarray(scores, dtype=float)
    if not temperature > 0:
        raise InputError(f"Expected `temperature` > 0, got {temperature}")
    scores = np.where(np.isnan(scores).any(axis=0), 0.0, scores)
    weights = np.exp((scores - scores.max(axis=0)) / temperature)
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


def prompt_weights(vectors, bank, labels=None, method: str = "cmm", temperature: float = 0.01,
                   worst_k: int | None = None, per_class: bool = False, reduction: str = "image") -> np.ndarray:
    """Weight of each prompt in an ensemble, without training.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors, from `clipnb.prompt_vectors`.
        labels: (N,) class indices, -1 left out; None: pseudo-labels by the uniform ensemble.
        method: "uniform" (every prompt 1 / P) or "cmm" (softmax of the mean margin).
        temperature: of the softmax, in units of cosine.
        worst_k: average the margin over the k worst classes (by the prompts' mean margin; fewer if fewer have
            images) instead of all.
        per_class: one set of weights for each class, from that class's own margins.
        reduction: of the margin, "image" or "class".

    Returns:
        (P,) weights that sum to 1; (P, C) with `per_class`, each column summing to 1.

    Raises:
        InputError: shapes differ or an option is unknown or out of range.

    >>> bank = np.stack([np.eye(2), np.eye(2)[::-1]])  # the second prompt names the wrong class
    >>> prompt_weights(np.eye(2), bank, [0, 1], temperature=0.1).round(3)
    array([1., 0.])
    """
    bank = check_bank(bank)
    shape = (bank.shape[0], bank.shape[1]) if per_class else (bank.shape[0],)
    if one_of(method, "method", METHODS) == "uniform":
        return np.full(shape, 1 / len(bank))
    margins = prompt_margins(vectors, bank, labels, reduction)
    if per_class:
        return softmax_weights(margins, temperature)
    # A class nobody is predicted as has no margin under any prompt, so it cannot tell prompts apart.
    seen = np.flatnonzero(np.isfinite(margins).all(axis=0))
    if not len(seen):
        raise InputError("Expected margins for at least one class, got NaN for all: no image has a label, or there is one class")
    if worst_k is not None:
        seen = seen[worst_first(margins[:, seen].mean(axis=0))[: whole_number(worst_k, "worst_k", 1)]]
    return softmax_weights(margins[:, seen].mean(axis=1), temperature)


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
    weights = np.asarray(weights, dtype=np.float32)
    if weights.shape not in ((len(bank),), bank.shape[:2]):
        raise InputError(f"Expected `weights` of shape (P,) = ({len(bank)},) or (P, C) = {bank.shape[:2]}, "
                         f"got {weights.shape}")
    if not (weights >= 0).all():
        raise InputError("Expected `weights` >= 0, got a negative or NaN weight")
    return unit_norm(np.einsum("pc,pcd->cd", np.broadcast_to(weights.reshape(len(bank), -1), bank.shape[:2]), bank))


def description_classifier(classifier, descriptions, vectors=None, labels=None, temperature: float = 0.01,
                           name_weight: float = 0.5) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Enrich some classes of a classifier with descriptions, weighted by the margin that each one gives to its class.

    Description d of class c is scored by the mean over images with y_i = c of s(x_i, d) - max_{j != c} s(x_i, t_j):
    the class-wise matching margin with d in place of t_c. The class vector becomes
    name_weight * t_c + (1 - name_weight) * (weighted mean of the descriptions), renormalised.

    Args:
        classifier: (C, D) unit-norm class vectors t_c.
        descriptions: {class index: (P_c, D) unit-norm vectors}; other classes keep their vector.
        vectors: (N, D) unit-norm image vectors to compute margins on; None: equal weights.
        labels: (N,) class indices; None: pseudo-labels by `classifier`. A class without images gets equal weights.
        temperature: of the softmax over a class's descriptions.
        name_weight: share of the old class vector, in [0, 1].

    Returns:
        (new classifier (C, D) float32, {class index: (P_c,) weights}).

    >>> new, weights = description_classifier(np.eye(2), {0: np.eye(2)}, np.eye(2), [0, 1], temperature=0.1)
    >>> weights[0].round(3)
    array([1., 0.])
    """
    classifier = floats(classifier, "classifier", 2).astype(np.float32)
    if not 0 <= name_weight <= 1:
        raise InputError(f"Expected `name_weight` in [0, 1], got {name_weight}")
    if vectors is not None:
        vectors, _ = check_vectors(vectors, classifier)
        labels = pseudo_labels(vectors, classifier) if labels is None else labels
        labels = class_indices(labels, "labels", len(vectors), len(classifier), unknown=True)
    new, weights = classifier.copy(), {}
    for c, prompts in descriptions.items():
        if not 0 <= c < len(classifier):
            raise InputError(f"Expected class indices in `descriptions` between 0 and {len(classifier) - 1}, got {c}")
        prompts = floats(prompts, f"descriptions[{c}]", 2).astype(np.float32)
        if not len(prompts) or prompts.shape[1] != classifier.shape[1]:
            raise InputError(f"Expected `descriptions[{c}]` of shape (P_c >= 1, D = {classifier.shape[1]}), "
                             f"got {prompts.shape}")
        mine = vectors[labels == c] if vectors is not None else np.empty((0, classifier.shape[1]), np.float32)
        if len(mine) and len(classifier) > 1:
            others = mine @ np.delete(classifier, c, axis=0).T
            weights[c] = softmax_weights((mine @ prompts.T - others.max(axis=1, keepdims=True)).mean(axis=0), temperature)
        else:
            weights[c] = np.full(len(prompts), 1 / len(prompts))
        enriched = unit_norm((weights[c].astype(np.float32) @ prompts)[None])[0]
        new[c] = name_weight * classifier[c] + (1 - name_weight) * enriched
    return unit_norm(new), weights
