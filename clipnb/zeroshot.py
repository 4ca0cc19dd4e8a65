"""Class vectors, similarities in blocks, and `evaluate`: every number about a classifier in one pass over the images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from clipnb import margin, metrics, worst
from clipnb.encode import encode_texts
from clipnb.errors import InputError, class_indices, whole_number
from clipnb.prompts import check_classnames, check_templates
from clipnb.similarity import check_vectors, similarity_blocks, top_k, unit_norm

def prompt_vectors(model, classnames, templates) -> np.ndarray:
    """Text vectors of every template filled with every classname: (P, C, D) float32, unit norm.

    Args:
        model: from `clipnb.load_model`.
        classnames: C names.
        templates: P strings, each with one slot "{}".

    >>> from clipnb import load_model
    >>> prompt_vectors(load_model(), ["dog", "cat"], ["{}", "a drawing of a {}."]).shape
    (2, 2, 256)
    """
    classnames, templates = check_classnames(classnames), check_templates(templates)
    texts = [template.replace("{}", name) for template in templates for name in classnames]
    return encode_texts(model, texts).reshape(len(templates), len(classnames), -1)


def zero_shot_classifier(model, classnames, templates=("{}",)) -> np.ndarray:
    """One unit-norm class vector per classname: the renormalised mean of its prompts' vectors (CLIP, section 3.1.4).

    Args:
        model: from `clipnb.load_model`.
        classnames: C names.
        templates: strings with one slot "{}"; the default is the bare name.

    Returns:
        (C, D) float32, rows of unit norm, in the order of `classnames`.

    >>> from clipnb import load_model
    >>> zero_shot_classifier(load_model(), ["dog", "cat"], ["a drawing of a {}."]).shape
    (2, 256)
    """
    return unit_norm(prompt_vectors(model, classnames, templates).mean(axis=0))


@dataclass(frozen=True)
class EvaluationResult:
    """What one pass over the images found. N images, C classes; fractions are in [0, 1], similarities are cosines."""

    predictions: np.ndarray  # (N,) int64
    labels: np.ndarray  # (N,) int64, -1 = unknown
    topk: np.ndarray  # (N, max(ks)) int64, best first
    topk_similarity: np.ndarray  # (N, max(ks)) float32
    margins: np.ndarray  # (N,) similarity to the label minus the best other class; to the prediction if unlabelled
    rivals: np.ndarray  # (N,) int64, that best other class
    confusion: np.ndarray  # (C, C) int64 [actual, predicted]
    recall_at_k: dict[int, float]  # share of labelled images whose label is among the top k
    cmm: dict[str, np.ndarray] = field(repr=False)  # (C,) margins by class: image, class, pseudo_image, pseudo_class

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.confusion)

    @property
    def n(self) -> int:
        """Number of labelled images: those that the scores are about."""
        return int(self.confusion.sum())

    @property
    def num_unlabelled(self) -> int:
        """Number of images with label -1, left out of every score."""
        return len(self.labels) - self.n

    @property
    def accuracy(self) -> float:
        """Share of labelled images that are predicted right (micro)."""
        return metrics.accuracy(self.predictions, self.labels)

    @property
    def accuracy_ci(self) -> tuple[float, float]:
        """95 % Wilson interval of `accuracy`."""
        return metrics.wilson_interval(int(np.trace(self.confusion)), self.n)

    @cached_property
    def per_class_accuracy(self) -> np.ndarray:
        """(C,) accuracy (= recall) of each class, NaN without images."""
        return metrics.per_class_accuracy(self.confusion)

    @cached_property
    def per_class_precision(self) -> np.ndarray:
        """(C,) precision of each class, NaN where never predicted."""
        return metrics.per_class_precision(self.confusion)

    @property
    def mean_per_class_accuracy(self) -> float:
        """Mean of `per_class_accuracy` over classes with images (macro)."""
        return metrics.mean_per_class_accuracy(self.confusion)

    def summary(self, k: int = 10, resamples: int = 1000, seed: int = 0) -> dict:
        """Every score with its 95 % interval beside it, ready for JSON.

        Wilson for shares of images and of classes, bootstrap within classes for the rest. `worst_<k>` is the naive figure,
        `worst_<k>_honest` chooses the classes on one half of the images and measures on the other.

        Args:
            k: how many worst classes (fewer if fewer classes have images).

        Raises:
            InputError: no image has a label.

        >>> result = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> result.summary()["accuracy"]
        1.0
        """
        k = whole_number(k, "k", 1)
        if not self.n:
            raise InputError(f"Expected labelled images, got {len(self.labels)} with label -1: there is nothing to score")
        images, per_class = self.confusion.sum(axis=1), self.per_class_accuracy
        present = int((images > 0).sum())
        sample = worst.resample_per_class(per_class, images, resamples, np.random.default_rng(seed))
        scores = {
            "n": self.n, "unlabelled": self.num_unlabelled, "classes": self.num_classes,
            "classes_with_images": present, "chance": 1 / self.num_classes,
            "accuracy": self.accuracy, "accuracy_ci": self.accuracy_ci,
        }
        for depth, value in self.recall_at_k.items():
            if depth > 1:
                scores[f"recall_at_{depth}"] = value
                scores[f"recall_at_{depth}_ci"] = metrics.wilson_interval(round(value * self.n), self.n)
        scores |= _with_interval("mean_per_class_accuracy", self.mean_per_class_accuracy, sample.mean(axis=1))
        k = min(k, present)
        tail = np.partition(sample, k - 1, axis=1)[:, :k].mean(axis=1)
        scores |= _with_interval(f"worst_{k}", worst.worst_k_accuracy(per_class, k), tail)
        splittable = int((images >= 2).sum())
        if splittable >= k:
            report = worst.worst_k_report(self.predictions, self.labels, self.num_classes, k, resamples, seed)
            scores |= {f"worst_{k}_honest": report.honest, f"worst_{k}_honest_ci": report.honest_ci}
        # A bootstrap never brings a class back from 0, so it only counts up. A sum of unlike coins varies less than one
        # of equal coins (Hoeffding 1956), so Wilson's interval over the classes is safe.
        zero = worst.classes_at_zero(per_class)
        low, high = metrics.wilson_interval(zero, present)
        scores |= {"classes_at_zero": zero, "classes_at_zero_ci": (low * present, high * present)}
        for name in ("harmonic_mean", "geometric_mean"):
            mean = getattr(worst, name)
            scores |= _with_interval(name, mean(per_class), [mean(row) for row in sample])
        return scores


def _with_interval(name: str, value, sample) -> dict:
    # Resampling lowers the tail once more, so the percentiles alone could miss the value they belong to.
    low, high = metrics.percentile_interval(sample)
    return {name: value, f"{name}_ci": (min(low, value), max(high, value))}


def evaluate(vectors, classifier, labels=None, ks=(1, 5)) -> EvaluationResult:
    """Score a zero-shot classifier in one pass over the images; the (N, C) similarities never exist as a whole.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.

    Raises:
        InputError: shapes differ, values are not finite, a label is out of range, or a depth is below 1.

    >>> result = evaluate([[1., 0.], [.6, .8]], [[1., 0.], [0., 1.]], [0, 0])
    >>> result.accuracy, result.recall_at_k[5]
    (0.5, 1.0)
    >>> result.margins.round(3)
    array([ 1. , -0.2], dtype=float32)
    """
    vectors, classifier = check_vectors(vectors, classifier)
    count, num_classes = len(vectors), len(classifier)
    labels = class_indices(np.full(count, -1) if labels is None else labels, "labels", count, num_classes, unknown=True)
    ks = sorted({whole_number(k, "ks", 1) for k in ks})
    if not ks:
        raise InputError("Expected at least one depth in `ks`, got none")
    depth = min(ks[-1], num_classes)
    topk = np.empty((count, max(depth, min(2, num_classes))), dtype=np.int64)
    topk_similarity = np.empty(topk.shape, dtype=np.float32)
    own = np.empty(count, dtype=np.float32)
    for rows, block in similarity_blocks(vectors, classifier):
        topk[rows] = top_k(block, topk.shape[1])
        topk_similarity[rows] = np.take_along_axis(block, topk[rows], axis=1)
        target = np.where(labels[rows] >= 0, labels[rows], topk[rows, 0])
        own[rows] = np.take_along_axis(block, target[:, None], axis=1)[:, 0]
    predictions, known = topk[:, 0].copy(), labels >= 0
    margins, rivals = margin.from_top_two(np.where(known, labels, predictions), own, topk, topk_similarity)
    hit = topk[known] == labels[known, None]
    recall = {k: float(hit[:, : min(k, depth)].any(axis=1).mean()) if known.any() else float("nan") for k in ks}
    pseudo_margins, _ = margin.from_top_two(predictions, topk_similarity[:, 0], topk, topk_similarity)
    cmm = {}
    for name, target, values in (("", labels, margins), ("pseudo_", predictions, pseudo_margins)):
        cmm[f"{name}image"] = margin.mean_by_class(values, target, num_classes)
        cmm[f"{name}class"] = margin.of_class_means(vectors, classifier, target)
    return EvaluationResult(
        predictions, labels, topk[:, :depth], topk_similarity[:, :depth], margins, rivals,
        metrics.confusion_matrix(predictions, labels, num_classes), recall, cmm,
    )
