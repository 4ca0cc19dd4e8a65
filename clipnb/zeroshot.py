"""Class vectors, similarities in blocks, and `evaluate`: every number about a classifier in one pass over the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np
import torch

from clipnb import margin, metrics, worst
from clipnb.embeddings import Embeddings
from clipnb.encode import encode_texts
from clipnb.errors import MOST_RESAMPLES, InputError, class_indices, floats, generator, having, listed, whole_number
from clipnb.models import find_device
from clipnb.prompts import check_classnames, check_templates
from clipnb.similarity import (Scorer, block_slices, check_bank, check_vectors, fixed_point, on_all_cores, take_top, tensor,
                               unit_norm)

CMM = ("image", "class", "pseudo_image", "pseudo_class")  # reductions by label, then by prediction
PROMPT_BYTES = 512 * 2**20  # of class sums that `evaluate_prompts` holds at a time


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
    """What one pass over the images found. N images, C classes; fractions are in [0, 1], similarities are cosines.

    Results of parts of a data set are joined by `merge`.
    """

    labels: np.ndarray  # (N,) int64, -1 = unknown
    topk: np.ndarray  # (N, max(ks)) int64, best first
    topk_similarity: np.ndarray  # (N, max(ks)) float32
    margins: np.ndarray  # (N,) similarity to the label minus the best other class; to the prediction if unlabelled
    rivals: np.ndarray  # (N,) int64, that best other class
    leads: np.ndarray  # (N,) similarity to the prediction minus the second best: the margin by pseudo-labels
    ks: tuple[int, ...]  # depths of Recall@K, ascending
    classifier: np.ndarray = field(repr=False)  # (C, D) float32
    vector_sums: np.ndarray = field(repr=False)  # (2, C, D) float64: image vectors summed by label, by prediction

    @classmethod
    def merge(cls, parts: Iterable[EvaluationResult]) -> EvaluationResult:
        """Join results of parts of a data set (shards, machines): the result of the whole, image order kept.

        Everything is computed from per-image values, which are joined, and from sums that are exact (see `fixed_point`),
        so neither the cut nor the order of additions shows: every count and score is equal, not merely close. The
        similarities themselves are equal where the parts were evaluated by one library on one kind of processor;
        elsewhere they may differ in the last bit.

        Args:
            parts: results with one classifier and one `ks`; an iterator holds one part's sums at a time.

        Raises:
            InputError: there is no part, or parts belong to different classifiers or depths.

        >>> whole = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> parts = [evaluate(np.eye(3)[rows], np.eye(3), [0, 1, 2][rows]) for rows in (slice(0, 1), slice(1, 3))]
        >>> np.array_equal(EvaluationResult.merge(parts).confusion, whole.confusion)
        True
        """
        first, per_image = None, {name: [] for name in ("labels", "topk", "topk_similarity", "margins", "rivals", "leads")}
        for part in having(parts, "parts", "__iter__", "results of evaluate"):
            having(part, "parts", "vector_sums", "results of evaluate")
            if first is None:
                first, sums = part, part.vector_sums.copy()
            elif part.ks != first.ks or not np.array_equal(part.classifier, first.classifier):
                raise InputError(f"Expected parts with one classifier and `ks` = {first.ks}, got `ks` = {part.ks}"
                                 + ("" if part.ks != first.ks else " and another classifier"))
            else:
                sums += part.vector_sums
            for name, values in per_image.items():
                values.append(getattr(part, name))
        if first is None:
            raise InputError("Expected at least one result to merge, got none")
        joined = {name: np.concatenate(values) for name, values in per_image.items()}
        return cls(**joined, ks=first.ks, classifier=first.classifier, vector_sums=sums)

    @cached_property
    def predictions(self) -> np.ndarray:
        """(N,) int64, the most similar class; ties go to the lower index."""
        return self.topk[:, 0].copy()

    @cached_property
    def confusion(self) -> np.ndarray:
        """(C, C) int64 counts [actual, predicted] of the labelled images."""
        return metrics.confusion_matrix(self.predictions, self.labels, self.num_classes)

    @cached_property
    def recall_at_k(self) -> dict[int, float]:
        """Share of labelled images whose label is among the top k (micro), for each k of `ks`; NaN without labels."""
        hits = (self.topk == self.labels[:, None]).sum(axis=0).cumsum()  # a label is at one depth at most, -1 at none
        return {k: float(hits[min(k, len(hits)) - 1] / self.n) if self.n else float("nan") for k in self.ks}

    @cached_property
    def cmm(self) -> dict[str, np.ndarray]:
        """(C,) class-wise matching margins: image, class (by label), pseudo_image, pseudo_class (by prediction).

        Equal to `margin.class_wise_matching_margin` with that reduction, up to rounding.
        """
        by_image = [margin.mean_by_class(fixed_point(values.astype(np.float64)), target, self.num_classes)
                    for values, target in ((self.margins, self.labels), (self.leads, self.predictions))]
        every = np.arange(self.num_classes)
        by_class = [margin.to_best_other(similarity, every).astype(np.float64)
                    for similarity in (self.class_similarity, self._mean_similarity(1, self.predictions))]
        return dict(zip(CMM, (by_image[0], by_class[0], by_image[1], by_class[1])))

    @cached_property
    def class_similarity(self) -> np.ndarray:
        """(C, C) float32: mean similarity of the images labelled with the row's class to the column's; NaN rows without images."""
        return self._mean_similarity(0, self.labels)

    def _mean_similarity(self, which: int, target: np.ndarray) -> np.ndarray:
        means, present = _class_means(tensor(self.vector_sums[which]), _count(target, self.num_classes))
        found, scorer = np.full((self.num_classes, self.num_classes), np.nan, dtype=np.float32), Scorer(self.classifier)

        def visit(rows: slice) -> None:
            found[present[rows]] = scorer(means[rows]).numpy()

        on_all_cores(visit, block_slices(len(means), self.num_classes))
        return found

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classifier)

    @property
    def n(self) -> int:
        """Number of labelled images: those that the scores are about."""
        return int((self.labels >= 0).sum())

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
        return metrics.wilson_interval(int((self.predictions == self.labels).sum()), self.n)

    @cached_property
    def per_class_accuracy(self) -> np.ndarray:
        """(C,) accuracy (= recall) of each class, NaN without images."""
        return _mean(*metrics.right_by_class(self.predictions, self.labels, self.num_classes))

    @cached_property
    def per_class_precision(self) -> np.ndarray:
        """(C,) precision of each class, NaN where never predicted."""
        return metrics.per_class_precision(self.confusion)

    @property
    def mean_per_class_accuracy(self) -> float:
        """Mean of `per_class_accuracy` over classes with images (macro)."""
        return float(np.nanmean(self.per_class_accuracy)) if self.n else float("nan")

    def summary(self, k: int = 10, resamples: int = 1000, seed: int = 0) -> dict:
        """Every score with its 95 % interval beside it, ready for JSON.

        Wilson for shares of images and of classes, bootstrap within classes for the rest. `worst_<k>` is the naive figure,
        `worst_<k>_honest` chooses the classes on one half of the images and measures on the other. Both keep the name of the
        k that was asked for; `worst_k_classes` is the number of classes that they are means of.

        Args:
            k: how many worst classes (all of them if fewer classes have images).

        Raises:
            InputError: no image has a label.

        >>> result = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> result.summary()["accuracy"]
        1.0
        """
        k, resamples = whole_number(k, "k", 1), whole_number(resamples, "resamples", 1, MOST_RESAMPLES)
        if not self.n:
            raise InputError(f"Expected labelled images, got {len(self.labels)} with label -1: there is nothing to score")
        images, per_class = _count(self.labels, self.num_classes), self.per_class_accuracy
        present = int((images > 0).sum())
        sample = worst.resample_per_class(per_class, images, resamples, generator(seed))
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
        asked, k = k, min(k, present)
        scores |= {"worst_k": asked, "worst_k_classes": k}
        tail = worst.tail_of_rows(sample, k)
        scores |= _with_interval(f"worst_{asked}", worst.worst_k_accuracy(per_class, k), tail["worst_k"])
        splittable = int((images >= 2).sum())
        if splittable >= k:
            report = worst.worst_k_report(self.predictions, self.labels, self.num_classes, k, resamples, seed)
            scores |= {f"worst_{asked}_honest": report.honest, f"worst_{asked}_honest_ci": report.honest_ci}
        # A bootstrap never brings a class back from 0, so it only counts up. A sum of unlike coins varies less than one
        # of equal coins (Hoeffding 1956), so Wilson's interval over the classes is safe.
        zero = worst.classes_at_zero(per_class)
        low, high = metrics.wilson_interval(zero, present)
        scores |= {"classes_at_zero": zero, "classes_at_zero_ci": (low * present, high * present)}
        for name in ("harmonic_mean", "geometric_mean"):
            scores |= _with_interval(name, getattr(worst, name)(per_class), tail[name])
        return scores


def _with_interval(name: str, value, sample) -> dict:
    # Resampling lowers the tail once more, so the percentiles alone could miss the value they belong to.
    low, high = metrics.percentile_interval(sample)
    return {name: value, f"{name}_ci": (min(low, value), max(high, value))}


def evaluate(vectors, classifier, labels=None, ks=(1, 5), device: str = "cpu") -> EvaluationResult:
    """Score a zero-shot classifier in one pass over the images; the (N, C) similarities never exist as a whole.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        device: where similarities are computed and ranked: "cpu", "cuda", or "auto" (CUDA if there is one).

    Raises:
        InputError: shapes differ, values are not finite, a label is out of range, a depth is below 1, or there is no
            such device.

    >>> result = evaluate([[1., 0.], [.6, .8]], [[1., 0.], [0., 1.]], [0, 0])
    >>> result.accuracy, result.recall_at_k[5]
    (0.5, 1.0)
    >>> result.margins.round(3)
    array([ 1. , -0.2], dtype=float32)
    """
    vectors, classifier = check_vectors(vectors, classifier, finite=False)
    count, (num_classes, width) = len(vectors), classifier.shape
    labels, ks, where = _check_labels(labels, count, num_classes), _check_depths(ks), find_device(device)
    depth = min(ks[-1], num_classes)
    topk, topk_similarity = np.empty((count, depth), dtype=np.int64), np.empty((count, depth), dtype=np.float32)
    margins, rivals, leads = np.empty(count, np.float32), np.empty(count, np.int64), np.empty(count, np.float32)
    sums = torch.zeros(2, num_classes + 1, width, dtype=torch.float64, device=where)  # the last row: unknown labels
    images, scorer, turn = tensor(vectors), Scorer(classifier, where), Lock()

    def visit(rows: slice) -> None:
        block = images[rows].to(where)
        best, similarity, margins[rows], rivals[rows], leads[rows] = _rank(scorer(block), labels[rows], depth)
        if not np.isfinite(similarity[:, 0]).all():  # a NaN or inf in a vector leaves no similarity finite
            floats(vectors, "vectors", 2)  # raises
        topk[rows], topk_similarity[rows] = best, similarity
        exact = fixed_point(block.double())
        with turn:
            for total, target in zip(sums, (labels[rows], best[:, 0])):
                _add_by_class(total, target, exact)

    on_all_cores(visit, block_slices(count, num_classes))
    return EvaluationResult(labels, topk, topk_similarity, margins, rivals, leads, ks, classifier, sums[:, :-1].cpu().numpy())


def evaluate_store(folder, classifier, ks=(1, 5), device: str = "cpu") -> EvaluationResult:
    """`evaluate` for an embeddings store of any size: shard by shard, so that vectors of one shard are in memory at a time.

    Args:
        folder: of the store, as `Embeddings.save` or `encode_images` wrote it.
        classifier, ks, device: as for `evaluate`.

    Raises:
        InputError: as `Embeddings.load` and `evaluate`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Embeddings(np.eye(3), np.arange(3), ["a", "b", "c"], ["x", "y", "z"]).save(folder, shard_size=2)
    ...     evaluate_store(folder, np.eye(3)).accuracy
    1.0
    """
    return EvaluationResult.merge(evaluate(part.vectors, classifier, part.labels, ks, device) for part in Embeddings.shards(folder))


@dataclass(frozen=True)
class PromptResults:
    """What `evaluate_prompts` found for P prompts, N images and C classes; fractions are in [0, 1]."""

    labels: np.ndarray  # (N,) int64, -1 = unknown
    predictions: np.ndarray  # (P, N) int64
    recall_at_k: dict[int, np.ndarray]  # for each k (P,) shares of labelled images whose label is among the top k (micro)
    per_class_accuracy: np.ndarray  # (P, C), NaN for a class without images
    cmm: dict[str, np.ndarray] = field(repr=False)  # (P, C) each, as in `EvaluationResult`

    @property
    def accuracy(self) -> np.ndarray:
        """(P,) share of labelled images that each prompt predicts right (micro)."""
        return np.array([metrics.accuracy(row, self.labels) for row in self.predictions])

    @property
    def mean_per_class_accuracy(self) -> np.ndarray:
        """(P,) mean of `per_class_accuracy` over classes with images (macro)."""
        present = ~np.isnan(self.per_class_accuracy[0])
        return self.per_class_accuracy[:, present].mean(axis=1) if present.any() else np.full(len(self.predictions), np.nan)


def evaluate_prompts(vectors, bank, labels=None, ks=(1, 5), device: str = "cpu") -> PromptResults:
    """Score every prompt of a bank as a classifier of its own, without an (N, P, C) tensor.

    All prompts see a block of images while it is in the cache. The images are passed over once for every PROMPT_BYTES of
    class sums: once for 131 prompts of 1,000 classes and 512 dimensions.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors, from `prompt_vectors`.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        device: as for `evaluate`.

    Returns:
        `PromptResults`; each prompt's numbers are those of `evaluate` with that prompt's class vectors.

    Raises:
        InputError: as `evaluate`, or the bank is empty.

    >>> result = evaluate_prompts(np.eye(2), np.stack([np.eye(2), np.eye(2)[::-1]]), [0, 1])
    >>> result.accuracy
    array([1., 0.])
    """
    bank = check_bank(bank)
    vectors, _ = check_vectors(vectors, bank[0])
    _, num_classes, width = bank.shape
    labels, ks, where = _check_labels(labels, len(vectors), num_classes), _check_depths(ks), find_device(device)
    size = max(1, PROMPT_BYTES // (8 * num_classes * width))
    groups = [_evaluate_group(tensor(vectors), bank[start : start + size], labels, ks, where) for start in range(0, len(bank), size)]
    predictions, hits, per_class, cmm = (np.concatenate(values) for values in zip(*groups))
    known = (labels >= 0).sum()
    recall = {k: hits[:, i] / known if known else np.full(len(bank), np.nan) for i, k in enumerate(ks)}
    return PromptResults(labels, predictions, recall, per_class, {name: cmm[:, i] for i, name in enumerate(CMM)})


def _evaluate_group(images: torch.Tensor, bank: np.ndarray, labels: np.ndarray, ks: tuple[int, ...], where: torch.device):
    """Predictions (P, N), hits (P, len(ks)), per-class accuracy (P, C) and CMM (P, 4, C) of prompts whose sums fit in memory."""
    (prompts, num_classes, width), count = bank.shape, len(images)
    scorers = [Scorer(prompt, where) for prompt in bank]
    predictions, hits = np.empty((prompts, count), dtype=np.int64), np.zeros((prompts, len(ks)), dtype=np.int64)
    # sums by label (once) and by each prompt's predictions; the last class takes the images of unknown label
    vector_sums = torch.zeros(1 + prompts, num_classes + 1, width, dtype=torch.float64, device=where)
    margin_sums, turn = np.zeros((prompts, 2, num_classes + 1)), Lock()

    def visit(rows: slice) -> None:
        block, actual = images[rows].to(where), labels[rows]
        exact = fixed_point(block.double())
        with turn:
            _add_by_class(vector_sums[0], actual, exact)
        for p, scorer in enumerate(scorers):
            topk, _, margins, _, leads = _rank(scorer(block), actual, min(ks[-1], num_classes))
            predicted = predictions[p, rows] = topk[:, 0]
            hit = topk == actual[:, None]
            found = [hit[:, :k].sum() for k in ks]
            totals = [np.bincount(target % (num_classes + 1), fixed_point(values.astype(np.float64)), num_classes + 1)
                      for target, values in ((actual, margins), (predicted, leads))]
            with turn:
                hits[p] += found
                margin_sums[p] += totals
                _add_by_class(vector_sums[1 + p], predicted, exact)

    on_all_cores(visit, block_slices(count, num_classes))
    images_of = _count(labels, num_classes)
    means = _class_means(vector_sums[0], images_of)

    def finish(p: int):
        predicted_as = _count(predictions[p], num_classes)
        right = _count(labels[labels == predictions[p]], num_classes)
        cmm = (_mean(margin_sums[p, 0, :-1], images_of), _margins_of_means(*means, scorers[p], num_classes),
               _mean(margin_sums[p, 1, :-1], predicted_as),
               _margins_of_means(*_class_means(vector_sums[1 + p], predicted_as), scorers[p], num_classes))
        return _mean(right, images_of), cmm

    per_class, cmm = zip(*on_all_cores(finish, range(prompts)))
    return predictions, hits, np.array(per_class), np.array(cmm)


def _rank(scores: torch.Tensor, labels: np.ndarray, depth: int) -> tuple[np.ndarray, ...]:
    """Of one block of similarities, which is used up: top k, their similarities, margins, rivals, leads (`EvaluationResult`)."""
    rows, actual, deep = np.arange(len(labels)), np.maximum(labels, 0), max(depth, 2)  # a margin takes the best two
    if scores.device.type == "cpu":
        scores = scores.numpy()
        own = scores[rows, actual]
        topk, similarity = take_top(scores, deep)
    else:
        own = scores[rows, actual].cpu().numpy()
        similarity, topk = (found[:, :deep].cpu().numpy() for found in scores.sort(dim=1, descending=True, stable=True))
    known = labels >= 0
    target, own = np.where(known, labels, topk[:, 0]), np.where(known, own, similarity[:, 0])
    margins, rivals = margin.from_top_two(target, own, topk, similarity)
    leads, _ = margin.from_top_two(topk[:, 0], similarity[:, 0], topk, similarity)
    return topk[:, :depth], similarity[:, :depth], margins, rivals, leads


def _add_by_class(sums: torch.Tensor, target: np.ndarray, vectors: torch.Tensor) -> None:
    """Add each vector to the row of its class; unknown (-1) is the last row."""
    sums.index_add_(0, torch.from_numpy(target % len(sums)).to(sums.device), vectors)


def _count(target: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(target[target >= 0], minlength=num_classes)


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _class_means(sums: torch.Tensor, counts: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """Mean vectors (C', D) float32 of the C' classes that have images, and which they are."""
    present = np.flatnonzero(counts)
    place, divisor = (torch.from_numpy(values).to(sums.device) for values in (present, counts[present, None]))
    return sums[place].div_(divisor).float(), present


def _margins_of_means(means: torch.Tensor, present: np.ndarray, scorer: Scorer, num_classes: int) -> np.ndarray:
    """CMM with reduction "class": a class's mean similarity to a text is the similarity of its mean vector."""
    cmm = np.full(num_classes, np.nan)
    for rows in block_slices(len(means), num_classes):
        cmm[present[rows]] = margin.to_best_other(scorer(means[rows]).cpu().numpy(), present[rows])
    return cmm


def _check_labels(labels, count: int, num_classes: int) -> np.ndarray:
    return class_indices(np.full(count, -1) if labels is None else labels, "labels", count, num_classes, unknown=True)


def _check_depths(ks) -> tuple[int, ...]:
    ks = tuple(sorted({whole_number(k, "ks", 1) for k in listed(ks, "ks", "depths")}))
    if not ks:
        raise InputError("Expected at least one depth in `ks`, got none")
    return ks
