"""`evaluate`: every number about a classifier in one pass over image vectors, read from arrays or from a store."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from clipnb import margin, metrics, worst
from clipnb._arrays import divide_or_nan
from clipnb._checks import (
    as_numpy,
    class_indices,
    floats,
    listed,
    named_indices,
    one_of,
    require_attribute,
    rows_of,
    texts_of,
    whole_number,
)
from clipnb._device import find_device
from clipnb._format import number_or_none
from clipnb.embeddings import Embeddings
from clipnb.errors import InputError
from clipnb.intervals import Score, mean_over_classes, proportion, rank_correlation
from clipnb.prompts import check_classnames
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

BLOCK_PREDICTIONS = 2**20  # rows whose counts are added at once
CMM = ("image", "class", "pseudo_image", "pseudo_class")  # reductions by label, then by prediction


@dataclass(frozen=True)
class EvaluationResult:
    """The result of one pass over N images with C classes; fractions are in [0, 1], similarities are cosines.

    Results of parts of a data set are joined by `merge`.
    """

    labels: npt.NDArray[np.int64]  # (N,), -1 = unknown
    topk: npt.NDArray[np.int64]  # (N, max(ks)) most similar classes, best first
    topk_similarity: npt.NDArray[np.float32]  # (N, max(ks))
    # (N,) similarity to the label minus that to the best other class; to the prediction for an unlabelled image
    margins: npt.NDArray[np.float32]
    rivals: npt.NDArray[np.int64]  # (N,) that best other class
    # (N,) similarity to the prediction minus the second best: the margin by pseudo-labels
    pseudo_margins: npt.NDArray[np.float32]
    ks: tuple[int, ...]  # depths of Recall@K, ascending
    classifier: npt.NDArray[np.float32] = field(repr=False)  # (C, D)
    # (2, C, D) image vectors summed by label and by prediction
    vector_sums: npt.NDArray[np.float64] = field(repr=False)
    offset: npt.NDArray[np.float32] | None = field(default=None, repr=False)  # (C,), added to the similarities

    @classmethod
    def merge(cls, parts: Iterable[EvaluationResult]) -> EvaluationResult:
        """Join results of parts of a data set (shards, machines): the result of the whole, image order kept.

        Values of each image are joined and sums by class are added. So predictions, counts and every score computed
        from counts are those of the whole, except for an image whose best classes are nearer to each other than
        rounding (1e-6); similarities, margins and their means may differ in the last bits.

        Args:
            parts: results with one classifier and one `ks`; with an iterator, one part is in memory at a time.

        Raises:
            InputError: there is no part, or parts have different classifiers or depths.

        >>> whole = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> parts = [evaluate(np.eye(3)[rows], np.eye(3), [0, 1, 2][rows]) for rows in (slice(0, 1), slice(1, 3))]
        >>> np.array_equal(EvaluationResult.merge(parts).confusion, whole.confusion)
        True
        """
        first = sums = None
        per_image: dict[str, list[np.ndarray]] = {name: [] for name in ("labels", *_Ranked._fields)}
        for part in parts:
            if first is None or sums is None:
                first = part
                sums = part.vector_sums.copy()
            elif part.ks != first.ks:
                raise InputError(f"Expected parts with one `ks` = {first.ks}, got `ks` = {part.ks}")
            elif not np.array_equal(part.classifier, first.classifier):
                raise InputError("Expected parts with one `classifier`, got another classifier")
            elif not _same_offset(part.offset, first.offset):
                raise InputError("Expected parts with one `offset`, got another offset")
            else:
                sums += part.vector_sums
            for name, values in per_image.items():
                values.append(getattr(part, name))
        if first is None or sums is None:
            raise InputError("Expected at least one result to merge, got none")
        joined = {name: np.concatenate(values) for name, values in per_image.items()}
        return cls(**joined, ks=first.ks, classifier=first.classifier, vector_sums=sums, offset=first.offset)

    @property
    def leads(self) -> npt.NDArray[np.float32]:
        """Deprecated: `pseudo_margins`."""
        warnings.warn("EvaluationResult.leads is now pseudo_margins", DeprecationWarning, stacklevel=2)
        return self.pseudo_margins

    @cached_property
    def predictions(self) -> npt.NDArray[np.int64]:
        """(N,) int64, the most similar class; ties go to the lower index."""
        return self.topk[:, 0].copy()

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """(C, C) int64 counts [actual, predicted] of the labelled images."""
        return metrics.confusion_matrix(self.predictions, self.labels, self.num_classes)

    @cached_property
    def recall_at_k(self) -> dict[int, float]:
        """Share of labelled images whose label is among the top k (micro), for each k of `ks`; NaN without labels."""
        # A label is at one depth at most, and -1 at none.
        hits = (self.topk == self.labels[:, None]).sum(axis=0).cumsum()
        return {k: float(hits[min(k, len(hits)) - 1] / self.n) if self.n else float("nan") for k in self.ks}

    @cached_property
    def cmm(self) -> dict[str, npt.NDArray[np.float64]]:
        """(C,) class-wise matching margins: image, class (by label), pseudo_image, pseudo_class (by prediction).

        Equal to `margin.class_wise_matching_margin` with that reduction, up to rounding.
        """
        self._check_similarities()
        cmm = []
        by_label, by_prediction = self.vector_sums
        for target, margins, sums in (
            (self.labels, self.margins, by_label),
            (self.predictions, self.pseudo_margins, by_prediction),
        ):
            cmm.append(margin.mean_by_class(margins, target, self.num_classes))
            cmm.append(margin.class_margin_of_means(sums, target, self.classifier, self.offset))
        return dict(zip(CMM, cmm))

    @cached_property
    def class_similarity(self) -> npt.NDArray[np.float32]:
        """(C, C) float32: mean similarity of the images labelled with the row's class to the column's class.

        A row is NaN if its class has no images.
        """
        self._check_similarities()
        means, present = margin.class_means(self.vector_sums[0], self.labels)
        similarity = np.full((self.num_classes, self.num_classes), np.nan, dtype=np.float32)
        images = tensor(means)
        scorer = Scorer(self.classifier, offset=self.offset)

        def visit(rows: slice) -> None:
            similarity[present[rows]] = scorer(images[rows]).numpy()

        parallel_map(visit, block_slices(len(means), self.num_classes))
        return similarity

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classifier)

    @property
    def n(self) -> int:
        """Number of labelled images, which the scores are computed from."""
        return int((self.labels >= 0).sum())

    @property
    def num_unlabelled(self) -> int:
        """Number of images with label -1, left out of every score."""
        return len(self.labels) - self.n

    @property
    def accuracy(self) -> float:
        """Share of labelled images that are predicted correctly (micro)."""
        right, images = self.correct_and_total
        return float(right.sum() / images.sum()) if self.n else float("nan")

    @property
    def accuracy_ci(self) -> tuple[float, float]:
        """95 % interval of `accuracy` (`intervals.proportion`)."""
        score = self._share_of_images(self.predictions == self.labels)
        return score.low, score.high

    @cached_property
    def correct_and_total(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(images predicted correctly, images) of each class, (C,) each: what the scores are computed from."""
        return metrics.correct_and_total(self.predictions, self.labels, self.num_classes)

    @cached_property
    def per_class_accuracy(self) -> npt.NDArray[np.float64]:
        """(C,) accuracy (= recall) of each class, NaN without images."""
        return divide_or_nan(*self.correct_and_total)

    @cached_property
    def per_class_precision(self) -> npt.NDArray[np.float64]:
        """(C,) precision of each class, NaN where never predicted."""
        return metrics.per_class_precision(self.confusion)

    @property
    def mean_per_class_accuracy(self) -> float:
        """Mean of `per_class_accuracy` over classes with images (macro)."""
        return float(np.nanmean(self.per_class_accuracy)) if self.n else float("nan")

    @property
    def has_similarities(self) -> bool:
        """Whether image vectors were scored; False for `evaluate_predictions`, which knows no similarities."""
        return self.classifier.shape[1] > 0

    def _check_similarities(self) -> None:
        if not self.has_similarities:
            raise InputError(
                "Expected a result of `evaluate`, got one of `evaluate_predictions`: it has no similarities"
            )

    def _share_of_images(self, hits: np.ndarray) -> Score:
        """Share of the labelled images among `hits`, (N,) booleans."""
        return proportion(int((hits & (self.labels >= 0)).sum()), self.n)

    def scores(self, k: int = 10, seed: int = 0) -> dict[str, Score]:
        """Every score with its 95 % interval (`clipnb.intervals`, `clipnb.worst`).

        All scores are fractions, except `classes_at_zero`. The naive `worst_k` and both means have no interval:
        sampling noise lowers them by an amount that depends on all classes, so no interval around them covers a true
        value. The three scores after `worst_k` estimate the true accuracy of the worst k classes.

        Args:
            k: number of worst classes (all of them if fewer classes have images).
            seed: seed of the intervals that use random numbers.

        Returns:
            Score by name: accuracy, recall_at_<depth>, mean_per_class_accuracy, worst_k, worst_k_truly_worst,
            worst_k_listed and worst_k_split_half (if at least k classes can be split), classes_at_zero, harmonic_mean,
            geometric_mean.

        Raises:
            InputError: no image has a label.

        >>> result = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> f"{result.scores()['accuracy']:.0%}"
        '100 % [29, 100]'
        """
        return self._scores(k, seed)[0]

    def worst_k_reports(self, ks: Sequence[int], seed: int = 0) -> list[worst.WorstKReport]:
        """`worst.worst_k_reports` of these images; `scores` and `summary` take the first of them where k is the same.

        Args:
            ks: numbers of worst classes, each 1 to the number of classes with at least two images.
            seed: seed of the random halves and of the posterior sample.

        Raises:
            InputError: as in `worst.worst_k_reports`.

        >>> [report.k for report in evaluate(np.eye(4), np.eye(4), [0, 0, 1, 1]).worst_k_reports([1, 2])]
        [1, 2]
        """
        reports = worst.reports_of_counts(*self.correct_and_total, ks, seed=seed)
        self._worst_reports[reports[0].k, seed] = reports[0]
        return reports

    @cached_property
    def _worst_reports(self) -> dict[tuple[int, int], worst.WorstKReport]:
        """Reports by (k, seed): half a second each for 300 classes, and both `scores` and `summary` need them."""
        return {}

    def _scores(self, k: int, seed: int) -> tuple[dict[str, Score], worst.WorstKReport | None]:
        k = whole_number(k, "k", 1)
        whole_number(seed, "seed", 0)
        if not self.n:
            raise InputError(
                f"Expected labelled images, got {len(self.labels)} with label -1: there is nothing to score"
            )
        right, images = self.correct_and_total
        present = int((images > 0).sum())
        scores = {"accuracy": self._share_of_images(self.predictions == self.labels)}
        for depth in self.ks:
            if depth > 1:
                scores[f"recall_at_{depth}"] = self._share_of_images(
                    (self.topk[:, :depth] == self.labels[:, None]).any(axis=1)
                )
        scores["mean_per_class_accuracy"] = mean_over_classes(right, images)
        k = min(k, present)
        scores["worst_k"] = Score(worst.worst_k_accuracy(self.per_class_accuracy, k))
        report = None
        if int((images >= 2).sum()) >= k:
            report = self._worst_reports.get((k, seed)) or self.worst_k_reports([k], seed)[0]
            for name in ("truly_worst", "listed", "split_half"):
                scores[f"worst_k_{name}"] = getattr(report, name)
        # The number of heads of unlike coins varies less than that of equal coins (Hoeffding 1956), so the interval
        # that treats the classes as equal is conservative.
        scores["classes_at_zero"] = Score(
            *(present * end for end in proportion(worst.classes_at_zero(self.per_class_accuracy), present))
        )
        for name in ("harmonic_mean", "geometric_mean"):
            scores[name] = Score(getattr(worst, name)(self.per_class_accuracy))
        return scores, report

    def summary(self, k: int = 10, seed: int = 0) -> dict[str, Any]:
        """`scores` as numbers for JSON: each with its interval beside it as `<name>_ci`, None where there is none.

        The names of the worst-k scores contain the requested k (`worst_10`, `worst_10_truly_worst`, ...); `worst_k` is
        that k, and `worst_k_classes` the number of classes that the scores are means of. With too few images a class
        for an estimate, the value is None and the range of possible values stands as its interval. `worst_k_fits` tells
        whether the counts are compatible with the family that three of the scores rest on, and `worst_k_possible` is
        the range for any family.

        Args:
            k: number of worst classes, as in `scores`.
            seed: seed of the intervals that use random numbers.

        Raises:
            InputError: no image has a label.

        >>> result = evaluate(np.eye(3), np.eye(3), [0, 1, 2])
        >>> result.summary()["accuracy"]
        1.0
        """
        scores, report = self._scores(k, seed)
        present = int((self.correct_and_total[1] > 0).sum())
        summary: dict[str, Any] = {
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
        summary["classes_at_zero"] = round(scores["classes_at_zero"].value)
        if report is not None:
            summary |= {"worst_k_possible": report.possible, "worst_k_fits": report.fits}
        return summary


def evaluate(
    vectors: npt.ArrayLike,
    classifier: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    ks: Iterable[int] = (1, 5),
    device: str | torch.device = "cpu",
    offset: npt.ArrayLike | None = None,
) -> EvaluationResult:
    """Score a zero-shot classifier in one pass over the images; the (N, C) similarities never exist as a whole.

    Args:
        vectors: (N, D) unit-norm image vectors.
        classifier: (C, D) unit-norm class vectors.
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        device: device that computes and ranks the similarities: "cpu", "cuda", or "auto" (CUDA if there is one).
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
    """`evaluate` for float32 arrays that are checked already, or that need not have unit norm; `ks` is ascending.

    >>> evaluate_unchecked(np.float32([[2, 0]]), np.eye(2, dtype=np.float32), np.array([0]), (1,)).margins
    array([2.], dtype=float32)
    """
    count, width = vectors.shape
    num_classes = len(classifier)
    images = tensor(vectors)
    scorer = Scorer(classifier, device, offset)
    ranked = _Ranked.empty(count, min(ks[-1], num_classes))
    sums = np.zeros((2, num_classes + 1, width))  # the last row takes the images of unknown class

    def visit(rows: slice) -> slice:
        ranked.fill(rows, scorer(images[rows].to(device)), labels[rows])
        return rows

    # In order, so that sums are the same for any number of threads.
    for rows in in_order(visit, block_slices(count, num_classes)):
        margin.add_by_class(sums[0], labels[rows], vectors[rows])
        margin.add_by_class(sums[1], ranked.topk[rows, 0], vectors[rows])
    return EvaluationResult(labels, *ranked, ks, classifier, sums[:, :-1], offset)


def evaluate_predictions(
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    classnames: Sequence[str],
    topk: npt.ArrayLike | None = None,
    scores: npt.ArrayLike | None = None,
) -> EvaluationResult:
    """Score anyone's predictions: every score that needs no similarities, from class indices or names.

    The result has no vectors: `margins`, `pseudo_margins` and, without `scores`, `topk_similarity` are NaN, `rivals`
        are -1, and `cmm` raises.

    Args:
        predictions: (N,) class indices or classnames.
        labels: (N,) class indices or classnames; -1, None or NaN is unknown.
        classnames: C names; a class that occurs in neither counts all the same, as one without images.
        topk: (N, K) the K best classes of each image, best first, as indices or names; gives Recall@5, or Recall@K
            where K < 5.
        scores: (N,) score of each prediction, or (N, K) those of `topk`; any finite numbers, higher is surer.

    Raises:
        InputError: shapes differ, an index or a name is not among the classes, or `topk` does not begin with the
            prediction.

    >>> result = evaluate_predictions(["cat", "dog", "dog"], ["cat", "cat", None], ["cat", "dog"])
    >>> result.accuracy, result.n, result.num_unlabelled
    (0.5, 2, 1)
    >>> f"{result.scores()['accuracy']:.0%}"
    '50 % [1, 99]'
    """
    names = texts_of(classnames, "classnames")
    whole_number(len(names), "number of classnames", 1, metrics.MAX_CLASSES)
    predictions = named_indices(predictions, "predictions", names)
    labels = named_indices(labels, "labels", names, len(predictions), unknown=True)
    best = predictions[:, None]
    if topk is not None:
        given = rows_of(topk, "topk", len(predictions))
        best = named_indices(given.reshape(-1), "topk", names).reshape(given.shape)
    if scores is not None:
        scores = as_numpy(scores, "scores")
        scores = floats(scores, "scores", 2 if scores.ndim == 2 else 1)
        if scores.shape not in (predictions.shape, best.shape):
            raise InputError(
                f"Expected `scores` of shape (N,) = {predictions.shape} or that of `topk`, got {scores.shape}"
            )
        if np.abs(scores).max(initial=0) > np.finfo(np.float32).max:
            raise InputError(f"Expected `scores` within single precision, got {np.abs(scores).max():g}")
    return result_of_predictions(predictions, labels, len(names), best, scores)


def result_of_predictions(
    predictions: np.ndarray, labels: np.ndarray, num_classes: int, topk: np.ndarray, scores: np.ndarray | None = None
) -> EvaluationResult:
    """`evaluate_predictions` for checked class indices of any integer type; counts are added up block by block.

    >>> result_of_predictions(np.array([0]), np.array([0]), 2, np.array([[0]])).accuracy
    1.0
    """
    if len(wrong := np.flatnonzero(topk[:, 0] != predictions)):
        i = int(wrong[0])
        raise InputError(
            f"Expected `topk` to begin with the prediction, got {topk[i, 0]} first and the prediction "
            f"{predictions[i]} in row {i}"
        )
    similarity = np.broadcast_to(np.float32(np.nan), topk.shape)
    if scores is not None:
        similarity = np.full(topk.shape, np.nan, dtype=np.float32)
        similarity[:, : scores.shape[1] if scores.ndim == 2 else 1] = scores.reshape(len(scores), -1)
    nothing = np.broadcast_to(np.float32(np.nan), len(labels))
    depth = 5 if topk.shape[1] >= min(5, num_classes) else topk.shape[1]
    ks = tuple(sorted({1, depth if topk.shape[1] > 1 else 1}))
    no_rivals = np.broadcast_to(np.int64(-1), len(labels))
    no_vectors = np.zeros((num_classes, 0), np.float32), np.zeros((2, num_classes, 0))
    result = EvaluationResult(labels, topk, similarity, nothing, no_rivals, nothing, ks, *no_vectors)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for start in range(0, len(labels), BLOCK_PREDICTIONS):
        rows = slice(start, start + BLOCK_PREDICTIONS)
        known = labels[rows] >= 0
        np.add.at(confusion, (labels[rows][known], predictions[rows][known]), 1)
    # What the cached properties would compute from whole arrays, in a few times their memory.
    vars(result).update(confusion=confusion, correct_and_total=(np.diag(confusion).copy(), confusion.sum(axis=1)))
    return result


class _Ranked(NamedTuple):
    """The fields of `EvaluationResult` after `labels` that hold a value for each image, in the same order."""

    topk: np.ndarray
    topk_similarity: np.ndarray
    margins: np.ndarray
    rivals: np.ndarray
    pseudo_margins: np.ndarray

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
        """Rank one block of similarities, which is overwritten."""
        for values, part in zip(self, _rank(scores, labels, self.topk.shape[1])):
            values[rows] = part


def evaluate_store(
    folder: str | Path,
    classifier: npt.ArrayLike,
    ks: Iterable[int] = (1, 5),
    device: str | torch.device = "cpu",
    offset: npt.ArrayLike | None = None,
) -> EvaluationResult:
    """`evaluate` for an embeddings store of any size; the vectors of one shard are in memory at a time.

    Args:
        folder: of the store, as `Embeddings.save` or `encode_images` wrote it.
        classifier: (C, D) unit-norm class vectors.
        ks: depths of Recall@K; a depth above C counts as C.
        device: as in `evaluate`.
        offset: (C,) as in `evaluate`.

    Raises:
        InputError: as in `Embeddings.load` and `evaluate`.

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
    """The result of `evaluate_prompts` for P prompts, N images and C classes; fractions are in [0, 1]."""

    labels: npt.NDArray[np.int64]  # (N,), -1 = unknown
    predictions: npt.NDArray[np.int64]  # (P, N)
    # For each k, (P,) shares of labelled images whose label is among the top k (micro).
    recall_at_k: dict[int, npt.NDArray[np.float64]]
    per_class_accuracy: npt.NDArray[np.float64]  # (P, C), NaN for a class without images
    cmm: dict[str, npt.NDArray[np.float64]] = field(repr=False)  # (P, C) each, as in `EvaluationResult`

    @property
    def accuracy(self) -> npt.NDArray[np.float64]:
        """(P,) share of labelled images that each prompt predicts correctly (micro)."""
        return np.array([metrics.accuracy(row, self.labels) for row in self.predictions])

    @property
    def mean_per_class_accuracy(self) -> npt.NDArray[np.float64]:
        """(P,) mean of `per_class_accuracy` over classes with images (macro)."""
        present = ~np.isnan(self.per_class_accuracy[0])
        if not present.any():
            return np.full(len(self.predictions), np.nan)
        return self.per_class_accuracy[:, present].mean(axis=1)


def evaluate_prompts(
    vectors: npt.ArrayLike,
    bank: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    ks: Iterable[int] = (1, 5),
    device: str | torch.device = "cpu",
    offset: npt.ArrayLike | None = None,
) -> PromptResults:
    """Score every prompt of a prompt bank as a classifier of its own, without an (N, P, C) tensor.

    Args:
        vectors: (N, D) unit-norm image vectors.
        bank: the prompt bank, (P, C, D) unit-norm text vectors of P prompts for C classes (`clipnb.prompt_vectors`).
        labels: (N,) class indices, -1 = unknown; None = all unknown.
        ks: depths of Recall@K; a depth above C counts as C.
        device: as in `evaluate`.
        offset: (C,) as in `evaluate`, the same for every prompt.

    Returns:
        `PromptResults`; each prompt's numbers are those of `evaluate` with that prompt's class vectors.

    Raises:
        InputError: as in `evaluate`, or the bank is empty.

    >>> result = evaluate_prompts(np.eye(2), np.stack([np.eye(2), np.eye(2)[::-1]]), [0, 1])
    >>> result.accuracy
    array([1., 0.])
    """
    bank = check_bank(bank)
    vectors, _ = check_vectors(vectors, bank[0])
    prompts, num_classes, _ = bank.shape
    labels = _check_labels(labels, len(vectors), num_classes)
    ks = check_depths(ks)
    device = find_device(device)
    offset = None if offset is None else check_offset(offset, num_classes)
    label_sums = margin.sum_by_class(vectors, labels, num_classes)
    images = tensor(vectors).to(device)
    step = number_of_cores()
    results = []
    for start in range(0, prompts, step):
        part = bank[start : start + step]
        results += _evaluate_together(vectors, images, part, labels, label_sums, ks, device, offset)
    predictions, recalls, per_class, cmm = zip(*results)
    return PromptResults(
        labels,
        np.array(predictions),
        {k: np.array([recall[k] for recall in recalls]) for k in ks},
        np.array(per_class),
        {name: np.array([margins[name] for margins in cmm]) for name in CMM},
    )


def _evaluate_together(
    vectors: np.ndarray,
    images: torch.Tensor,
    bank: np.ndarray,
    labels: np.ndarray,
    label_sums: np.ndarray,
    ks: tuple[int, ...],
    device: str | torch.device,
    offset: np.ndarray | None,
) -> list[tuple]:
    """Predictions, Recall@K, accuracies and margins of each prompt; all prompts see a block while it is cached."""
    count = len(vectors)
    num_classes = bank.shape[1]
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


def _rank(scores: torch.Tensor, labels: np.ndarray, depth: int) -> _Ranked:
    """Rank one block of similarities, which is overwritten."""
    rows = np.arange(len(labels))
    actual = np.maximum(labels, 0)
    deep = max(depth, 2)  # a margin needs the best two classes
    if scores.device.type == "cpu":
        similarities = scores.numpy()
        own = similarities[rows, actual]
        topk, similarity = take_top(similarities, deep)
    else:
        own = scores[rows, actual].cpu().numpy()
        ranked = scores.sort(dim=1, descending=True, stable=True)
        similarity, topk = (part[:, :deep].cpu().numpy() for part in ranked)
    known = labels >= 0
    target = np.where(known, labels, topk[:, 0])
    own = np.where(known, own, similarity[:, 0])
    margins, rivals = margin.margins_from_top2(target, own, topk, similarity)
    pseudo_margins, _ = margin.margins_from_top2(topk[:, 0], similarity[:, 0], topk, similarity)
    return _Ranked(topk[:, :depth], similarity[:, :depth], margins, rivals, pseudo_margins)


def _check_labels(labels: npt.ArrayLike | None, count: int, num_classes: int) -> np.ndarray:
    """(N,) labels; None stands for `count` unknown ones."""
    return class_indices(np.full(count, -1) if labels is None else labels, "labels", count, num_classes, unknown=True)


def check_offset(offset: npt.ArrayLike, num_classes: int, name: str = "offset") -> npt.NDArray[np.float32]:
    """Check an offset of each class: (C,) float32, finite.

    >>> check_offset([0, 1], 2)
    array([0., 1.], dtype=float32)
    """
    with np.errstate(over="ignore"):
        single = floats(offset, name, 1).astype(np.float32)
    if single.shape != (num_classes,) or not np.isfinite(single).all():
        raise InputError(f"Expected `{name}` of shape (C,) = ({num_classes},), finite in float32, got {single.shape}")
    return single


def _same_offset(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def check_depths(ks: Iterable[int]) -> tuple[int, ...]:
    """Check depths of Recall@K, each at least 1, and return them ascending without repeats.

    >>> check_depths([5, 1, 5])
    (1, 5)
    """
    ks = tuple(sorted({whole_number(k, "ks", 1) for k in listed(ks, "ks", "depths")}))
    if not ks:
        raise InputError("Expected at least one depth in `ks`, got none")
    return ks


def worst_class_rows(result: EvaluationResult, classnames: Sequence[str], k: int = 10) -> list[dict]:
    """Return the k classes with the lowest accuracy, worst first, as rows ready for JSON.

    Args:
        result: of labelled images.
        classnames: C names.
        k: how many classes; fewer if fewer classes have images.

    Returns:
        Rows with "classname", "accuracy" (a fraction), "images", "cmm" (a difference of cosines; None if undefined) and
        "top_rival", the class that most of the wrong answers name (None without wrong answers).

    Raises:
        InputError: `classnames` are not C strings.

    >>> result = evaluate(np.eye(2)[[0, 0, 1]], np.eye(2), [0, 1, 1])
    >>> [(row["classname"], row["accuracy"], row["top_rival"]) for row in worst_class_rows(result, ["cat", "dog"], k=1)]
    [('dog', 0.5, 'cat')]
    """
    classnames = _names_of(result, classnames)
    present = int(np.isfinite(result.per_class_accuracy).sum())
    rows = []
    for c in worst.worst_classes(result.per_class_accuracy, min(whole_number(k, "k", 1), present)):
        wrong = result.confusion[c].copy()
        wrong[c] = 0
        rows.append(
            {
                "classname": classnames[c],
                "accuracy": float(result.per_class_accuracy[c]),
                "images": int(result.confusion[c].sum()),
                "cmm": number_or_none(float(result.cmm["image"][c])),
                "top_rival": classnames[int(wrong.argmax())] if wrong.any() else None,
            }
        )
    return rows


def _names_of(result: EvaluationResult, classnames: Sequence[str]) -> list[str]:
    require_attribute(result, "result", "per_class_accuracy", "clipnb.evaluate")
    names = check_classnames(classnames)
    if len(names) != result.num_classes:
        raise InputError(f"Expected `classnames` of length C = {result.num_classes}, got {len(names)}")
    return names


def margin_summary(
    result: EvaluationResult,
    vectors: npt.ArrayLike,
    classnames: Sequence[str],
    k: int = 10,
    reduction: Literal["image", "class"] = "image",
) -> dict:
    """Return the k classes that look worst without labels and, where labels exist, how well they were found.

    Args:
        result: of `evaluate` on `vectors`.
        vectors: (N, D) unit-norm image vectors.
        classnames: C names.
        k: how many classes.
        reduction: of the margin, as in `margin.class_wise_matching_margin`.

    Returns:
        "never_predicted" (a count), "worst_by_margin" (rows, worst first) and, for labelled images, the rank
        correlations of margin and accuracy "spearman_labels" and "spearman_pseudo_labels" (`Score`), "worst_k_classes"
        (a count), and "worst_<k>_found", the share of the k worst classes that is among the k listed.

    Raises:
        InputError: `classnames` are not C strings, or `vectors` do not fit the classifier.

    >>> result = evaluate(np.eye(2)[[0, 0, 1]], np.eye(2), [0, 1, 1])
    >>> margin_summary(result, np.eye(2)[[0, 0, 1]], ["cat", "dog"], k=1)["worst_1_found"]
    0.0
    """
    one_of(reduction, "reduction", ("image", "class"))
    classnames = _names_of(result, classnames)
    vectors, _ = check_vectors(vectors, result.classifier)
    if len(vectors) != len(result.labels):
        raise InputError(f"Expected `vectors` of the N = {len(result.labels)} images of `result`, got {len(vectors)}")
    cmm = result.cmm[f"pseudo_{reduction}"]
    predicted = np.bincount(result.predictions, minlength=result.num_classes)
    order = margin.find_worst(vectors, result.classifier, reduction=reduction)
    summary: dict[str, Any] = {
        "never_predicted": int(np.isnan(cmm).sum()),
        "worst_by_margin": [
            {"classname": classnames[c], "cmm": number_or_none(float(cmm[c])), "predicted": int(predicted[c])}
            for c in order[: whole_number(k, "k", 1)]
        ],
    }
    if not result.n:
        return summary
    for name, values in (("labels", result.cmm[reduction]), ("pseudo_labels", cmm)):
        summary[f"spearman_{name}"] = rank_correlation(values, result.per_class_accuracy, nan="worst")
    count = int(min(k, np.isfinite(result.per_class_accuracy).sum()))
    found = margin.worst_found(order.argsort(), result.per_class_accuracy, count)
    return summary | {"worst_k_classes": count, f"worst_{k}_found": found}
