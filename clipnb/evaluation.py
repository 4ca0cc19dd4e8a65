"""`evaluate`: every number about a classifier in one pass over image vectors, read from arrays or from a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipnb import margin, metrics, worst
from clipnb._checks import class_indices, floats, listed, require_attribute, whole_number
from clipnb._device import find_device
from clipnb.embeddings import Embeddings
from clipnb.errors import InputError
from clipnb.intervals import Score, mean_over_classes, proportion
from clipnb.similarity import (
    Scorer,
    block_slices,
    check_bank,
    check_vectors,
    in_order,
    number_of_cores,
    parallel_map,
    take_top,
    tensor,
)

if TYPE_CHECKING:
    import torch

CMM = ("image", "class", "pseudo_image", "pseudo_class")  # reductions by label, then by prediction


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
    offset: np.ndarray | None = field(default=None, repr=False)  # (C,) float32 that was added to the similarities

    @classmethod
    def merge(cls, parts: Iterable[EvaluationResult]) -> EvaluationResult:
        """Join results of parts of a data set (shards, machines): the result of the whole, image order kept.

        Everything is computed from values of each image, which are joined, and from sums by class, which are added up.
        So predictions, counts and every score made of counts are those of the whole, except for an image whose best
        classes are nearer to each other than rounding (1e-6); similarities, margins and their means may differ in the
        last bits.

        Args:
            parts: results with one classifier and one `ks`; an iterator holds one part's sums at a time.

        Raises:
            InputError: there is no part, or parts belong to different classifiers or depths.

        >>> whole = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> parts = [evaluate(np.eye(3)[rows], np.eye(3), [0, 1, 2][rows]) for rows in (slice(0, 1), slice(1, 3))]
        >>> np.array_equal(EvaluationResult.merge(parts).confusion, whole.confusion)
        True
        """
        first, per_image = (
            None,
            {name: [] for name in ("labels", "topk", "topk_similarity", "margins", "rivals", "leads")},
        )
        for part in require_attribute(parts, "parts", "__iter__", "results of evaluate"):
            require_attribute(part, "parts", "vector_sums", "results of evaluate")
            if first is None:
                first, sums = part, part.vector_sums.copy()
            elif (
                part.ks != first.ks
                or not np.array_equal(part.classifier, first.classifier)
                or not _same_offset(part.offset, first.offset)
            ):
                raise InputError(
                    f"Expected parts with one classifier, one offset and `ks` = {first.ks}, got `ks` = {part.ks}"
                    + ("" if part.ks != first.ks else " and another classifier or offset")
                )
            else:
                sums += part.vector_sums
            for name, values in per_image.items():
                values.append(getattr(part, name))
        if first is None:
            raise InputError("Expected at least one result to merge, got none")
        joined = {name: np.concatenate(values) for name, values in per_image.items()}
        return cls(**joined, ks=first.ks, classifier=first.classifier, vector_sums=sums, offset=first.offset)

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
        cmm = []
        by_label, by_prediction = self.vector_sums
        for target, margins, sums in (
            (self.labels, self.margins, by_label),
            (self.predictions, self.leads, by_prediction),
        ):
            cmm.append(margin.mean_by_class(margins, target, self.num_classes))
            cmm.append(margin.of_class_means(sums, target, self.classifier, self.offset))
        return dict(zip(CMM, cmm))

    @cached_property
    def class_similarity(self) -> np.ndarray:
        """(C, C) float32: mean similarity of the images labelled with the row's class to the column's; NaN rows without images."""
        means, present = margin.means_of(self.vector_sums[0], self.labels)
        found = np.full((self.num_classes, self.num_classes), np.nan, dtype=np.float32)
        images, scorer = tensor(means), Scorer(self.classifier, offset=self.offset)

        def visit(rows: slice) -> None:
            found[present[rows]] = scorer(images[rows]).numpy()

        parallel_map(visit, block_slices(len(means), self.num_classes))
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
        """95 % interval of `accuracy` (`intervals.proportion`)."""
        return self._share(self.predictions == self.labels)[1:]

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

    def _share(self, hits: np.ndarray) -> Score:
        return proportion(int((hits & (self.labels >= 0)).sum()), self.n)

    def scores(self, k: int = 10, seed: int = 0) -> dict[str, Score]:
        """Every score with its 95 % interval (`clipnb.intervals`, `clipnb.worst`); all but `classes_at_zero` are fractions.

        The naive `worst_k` and both means have no interval: noise pulls them down by an amount that depends on all classes, and no
        interval around them holds a truth. What the worst k classes are truly like is said by the three scores beside it.

        Args:
            k: how many worst classes (all of them if fewer classes have images).
            seed: of the intervals that rest on random numbers.

        Returns:
            Score by name: accuracy, recall_at_<depth>, mean_per_class_accuracy, worst_k, worst_k_truly_worst, worst_k_listed and
            worst_k_split_half (where the classes can be split), classes_at_zero, harmonic_mean, geometric_mean.

        Raises:
            InputError: no image has a label.

        >>> result = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> f"{result.scores()['accuracy']:.0%}"
        '100 % [29, 100]'
        """
        return self._scores(k, seed)[0]

    def _scores(self, k: int, seed: int) -> tuple[dict[str, Score], worst.WorstKReport | None]:
        k = whole_number(k, "k", 1)
        whole_number(seed, "seed", 0)
        if not self.n:
            raise InputError(
                f"Expected labelled images, got {len(self.labels)} with label -1: there is nothing to score"
            )
        right, images = metrics.right_by_class(self.predictions, self.labels, self.num_classes)
        present = int((images > 0).sum())
        scores = {"accuracy": self._share(self.predictions == self.labels)}
        for depth in self.ks:
            if depth > 1:
                scores[f"recall_at_{depth}"] = self._share((self.topk[:, :depth] == self.labels[:, None]).any(axis=1))
        scores["mean_per_class_accuracy"] = mean_over_classes(right, images)
        k = min(k, present)
        scores["worst_k"] = Score(worst.worst_k_accuracy(self.per_class_accuracy, k))
        report = None
        if int((images >= 2).sum()) >= k:
            report = worst.worst_k_report(self.predictions, self.labels, self.num_classes, k, seed=seed)
            for name in ("truly_worst", "listed", "split_half"):
                scores[f"worst_k_{name}"] = getattr(report, name)
        # A sum of unlike coins varies less than one of equal coins (Hoeffding 1956), so the interval over the classes is safe.
        scores["classes_at_zero"] = Score(
            *(present * end for end in proportion(worst.classes_at_zero(self.per_class_accuracy), present))
        )
        for name in ("harmonic_mean", "geometric_mean"):
            scores[name] = Score(getattr(worst, name)(self.per_class_accuracy))
        return scores, report

    def summary(self, k: int = 10, seed: int = 0) -> dict:
        """`scores` as numbers for JSON: each with its interval beside it as `<name>_ci`, None where there is none.

        The names of the worst-k scores carry the k that was asked for (`worst_10`, `worst_10_truly_worst`, ...); `worst_k` is that k,
        and `worst_k_classes` the number of classes that they are means of. Where few images a class leave a range in place of a
        value, the value is None and the range stands as its interval. `worst_k_fits` says whether the counts look like the family
        that three of the scores rest on, `worst_k_possible` what any family allows.

        Args:
            k, seed: as in `scores`.

        Raises:
            InputError: no image has a label.

        >>> result = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> result.summary()["accuracy"]
        1.0
        """
        scores, report = self._scores(k, seed)
        present = int((_count(self.labels, self.num_classes) > 0).sum())
        summary = {
            "n": self.n,
            "unlabelled": self.num_unlabelled,
            "classes": self.num_classes,
            "classes_with_images": present,
            "chance": 1 / self.num_classes,
        }
        for name, score in scores.items():
            if name == "worst_k":
                summary |= {"worst_k": k, "worst_k_classes": min(k, present)}
            key = name.replace("worst_k", f"worst_{k}")
            summary[key] = None if np.isnan(score.value) else score.value
            summary[f"{key}_ci"] = (score.low, score.high) if score.has_interval else None
        summary["classes_at_zero"] = int(round(scores["classes_at_zero"].value))
        if report is not None:
            summary |= {"worst_k_possible": report.possible, "worst_k_fits": report.fits}
        return summary


def evaluate(vectors, classifier, labels=None, ks=(1, 5), device: str = "cpu", offset=None) -> EvaluationResult:
    """Score a zero-shot classifier in one pass over the images; the (N, C) similarities never exist as a whole.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        device: where similarities are computed and ranked: "cpu", "cuda", or "auto" (CUDA if there is one).
        offset: (C,) in units of cosine, added to the similarities before they are ranked, for example from
            `ensemble.class_bias`; margins and similarities of the result include it. None: nothing is added.

    Raises:
        InputError: shapes differ, values are not finite, vectors are not of unit norm, a label is out of range, a depth
            is below 1, or there is no such device.

    >>> result = evaluate([[1., 0.], [.6, .8]], [[1., 0.], [0., 1.]], [0, 0])
    >>> result.accuracy, result.recall_at_k[5]
    (0.5, 1.0)
    >>> result.margins.round(3)
    array([ 1. , -0.2], dtype=float32)
    """
    vectors, classifier = check_vectors(vectors, classifier)
    labels = _check_labels(labels, len(vectors), len(classifier))
    offset = None if offset is None else check_offset(offset, len(classifier))
    return evaluate_unchecked(vectors, classifier, labels, check_depths(ks), find_device(device), offset)


def evaluate_unchecked(
    vectors: np.ndarray,
    classifier: np.ndarray,
    labels: np.ndarray,
    ks: tuple[int, ...],
    device: str | torch.device = "cpu",
    offset: np.ndarray | None = None,
) -> EvaluationResult:
    """`evaluate` for float32 arrays that were checked, or whose rows have other norms than 1 on purpose; `ks` ascends.

    >>> evaluate_unchecked(np.float32([[2, 0]]), np.eye(2, dtype=np.float32), np.array([0]), (1,)).margins
    array([2.], dtype=float32)
    """
    (count, width), num_classes = vectors.shape, len(classifier)
    images, scorer = tensor(vectors), Scorer(classifier, device, offset)
    ranked = _Ranked.empty(count, min(ks[-1], num_classes))
    sums = np.zeros((2, num_classes + 1, width))  # the last row takes the images of unknown label

    def visit(rows: slice) -> slice:
        ranked.fill(rows, scorer(images[rows].to(device)), labels[rows])
        return rows

    # In order, so that sums are the same for any number of threads.
    for rows in in_order(visit, block_slices(count, num_classes)):
        margin.add_by_class(sums[0], labels[rows], vectors[rows])
        margin.add_by_class(sums[1], ranked.topk[rows, 0], vectors[rows])
    return EvaluationResult(labels, *ranked, ks, classifier, sums[:, :-1], offset)


class _Ranked(NamedTuple):
    """The fields of `EvaluationResult` that hold a value for each image, in the same order."""

    topk: np.ndarray
    topk_similarity: np.ndarray
    margins: np.ndarray
    rivals: np.ndarray
    leads: np.ndarray

    @classmethod
    def empty(cls, count: int, depth: int) -> _Ranked:
        return cls(
            np.empty((count, depth), np.int64),
            np.empty((count, depth), np.float32),
            np.empty(count, np.float32),
            np.empty(count, np.int64),
            np.empty(count, np.float32),
        )

    def fill(self, rows: slice, scores: torch.Tensor, labels: np.ndarray) -> None:
        """Rank one block of similarities, which is used up."""
        for values, part in zip(self, _rank(scores, labels, self.topk.shape[1])):
            values[rows] = part


def evaluate_store(folder, classifier, ks=(1, 5), device: str = "cpu", offset=None) -> EvaluationResult:
    """`evaluate` for an embeddings store of any size: shard by shard, so that vectors of one shard are in memory at a time.

    Args:
        folder: of the store, as `Embeddings.save` or `encode_images` wrote it.
        classifier, ks, device, offset: as for `evaluate`.

    Raises:
        InputError: as `Embeddings.load` and `evaluate`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Embeddings(np.eye(3), np.arange(3), ["a", "b", "c"], ["x", "y", "z"]).save(folder, shard_size=2)
    ...     evaluate_store(folder, np.eye(3)).accuracy
    1.0
    """
    return EvaluationResult.merge(
        evaluate(part.vectors, classifier, part.labels, ks, device, offset) for part in Embeddings.shards(folder)
    )


@dataclass(frozen=True)
class PromptResults:
    """What `evaluate_prompts` found for P prompts, N images and C classes; fractions are in [0, 1]."""

    labels: np.ndarray  # (N,) int64, -1 = unknown
    predictions: np.ndarray  # (P, N) int64
    recall_at_k: dict[
        int, np.ndarray
    ]  # for each k (P,) shares of labelled images whose label is among the top k (micro)
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
        return (
            self.per_class_accuracy[:, present].mean(axis=1)
            if present.any()
            else np.full(len(self.predictions), np.nan)
        )


def evaluate_prompts(vectors, bank, labels=None, ks=(1, 5), device: str = "cpu", offset=None) -> PromptResults:
    """Score every prompt of a bank as a classifier of its own, without an (N, P, C) tensor.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: (P, C, D) unit-norm text vectors, from `clipnb.prompt_vectors`.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        device: as for `evaluate`.
        offset: (C,) as for `evaluate`, the same for every prompt.

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
    prompts, num_classes, _ = bank.shape
    labels, ks, device = _check_labels(labels, len(vectors), num_classes), check_depths(ks), find_device(device)
    offset = None if offset is None else check_offset(offset, num_classes)
    label_sums = margin.sum_by_class(vectors, labels, num_classes)
    images, together = tensor(vectors).to(device), number_of_cores()
    results = []
    for start in range(0, prompts, together):
        results += _evaluate_together(
            vectors, images, bank[start : start + together], labels, label_sums, ks, device, offset
        )
    predictions, recalls, per_class, cmm = zip(*results)
    return PromptResults(
        labels,
        np.array(predictions),
        {k: np.array([recall[k] for recall in recalls]) for k in ks},
        np.array(per_class),
        {name: np.array([margins[name] for margins in cmm]) for name in CMM},
    )


def _evaluate_together(
    vectors, images: torch.Tensor, bank, labels, label_sums, ks: tuple[int, ...], device, offset: np.ndarray | None
) -> list[tuple]:
    """Predictions, Recall@K, accuracies and margins of some prompts, which see a block of images while it is in the cache."""
    count, num_classes = len(vectors), bank.shape[1]
    scorers = [Scorer(prompt, device, offset) for prompt in bank]
    ranked = [_Ranked.empty(count, min(ks[-1], num_classes)) for _ in bank]

    def visit(item: tuple[slice, int]) -> None:
        rows, p = item
        ranked[p].fill(rows, scorers[p](images[rows]), labels[rows])

    def finish(p: int) -> tuple:
        sums = np.stack([label_sums, margin.sum_by_class(vectors, ranked[p].topk[:, 0], num_classes)])
        result = EvaluationResult(labels, *ranked[p], ks, bank[p], sums, offset)
        return result.predictions, result.recall_at_k, result.per_class_accuracy, result.cmm

    parallel_map(visit, [(rows, p) for rows in block_slices(count, num_classes) for p in range(len(bank))])
    return parallel_map(finish, range(len(bank)))


def _rank(scores: torch.Tensor, labels: np.ndarray, depth: int) -> tuple[np.ndarray, ...]:
    """Of one block of similarities, which is used up: top k, their similarities, margins, rivals, leads (`EvaluationResult`)."""
    rows, actual = np.arange(len(labels)), np.maximum(labels, 0)
    deep = max(depth, 2)  # a margin takes the best two
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


def _count(target: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(target[target >= 0], minlength=num_classes)


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _check_labels(labels, count: int, num_classes: int) -> np.ndarray:
    return class_indices(np.full(count, -1) if labels is None else labels, "labels", count, num_classes, unknown=True)


def check_offset(offset, num_classes: int) -> np.ndarray:
    """Check an offset of each class: (C,) float32, finite.

    >>> check_offset([0, 1], 2)
    array([0., 1.], dtype=float32)
    """
    with np.errstate(over="ignore"):
        single = floats(offset, "offset", 1).astype(np.float32)
    if single.shape != (num_classes,) or not np.isfinite(single).all():
        raise InputError(f"Expected `offset` of shape (C,) = ({num_classes},), finite in float32, got {single.shape}")
    return single


def _same_offset(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def check_depths(ks) -> tuple[int, ...]:
    """Check depths of Recall@K: at least one, each at least 1; ascending and each once.

    >>> check_depths([5, 1, 5])
    (1, 5)
    """
    ks = tuple(sorted({whole_number(k, "ks", 1) for k in listed(ks, "ks", "depths")}))
    if not ks:
        raise InputError("Expected at least one depth in `ks`, got none")
    return ks
