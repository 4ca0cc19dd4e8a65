"""Retrieval between images and captions, in both directions: how far down the right ones stand.

R@K of CLIP papers on COCO and Flickr30k is `hit_at_k`: at least one of an image's captions is among the first K. The
share of all its captions that is found is `recall_at_k`, which with five captions cannot exceed 20 % at K = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipnb._checks import class_indices, floats, listed, whole_number
from clipnb.errors import InputError
from clipnb.intervals import Score, clustered_accuracy, mean_with_t, proportion
from clipnb.similarity import Scorer, block_slices, parallel_map, tensor, unit_rows

__all__ = ["RetrievalResult", "evaluate_retrieval"]

FOLD_SIZE = 1000  # images a fold: "COCO 1K" is the mean over five of them


@dataclass(frozen=True)
class RetrievalResult:
    """Where each caption and its image stand in each other's ranking. N images, T captions; ranks count from 0."""

    image_of_text: np.ndarray  # (T,) int64, the image that each caption belongs to
    num_images: int
    rank_of_image: np.ndarray  # (T,) int64: a caption is the query, its image is sought among all images
    rank_of_text: np.ndarray  # (T,) int64: the image is the query, this caption is sought among all captions
    ks: tuple[int, ...]  # depths, ascending
    folds: int = 1  # parts that were ranked apart from each other
    left_out: int = 0  # images that are in no whole fold

    @property
    def num_texts(self) -> int:
        """T, the number of captions."""
        return len(self.image_of_text)

    @property
    def first_rank(self) -> npt.NDArray[np.int64]:
        """(Q,) rank of the best caption of each image that has any."""
        first = np.full(self.num_images, self.num_texts)
        np.minimum.at(first, self.image_of_text, self.rank_of_text)
        return first[self._captions() > 0]

    def _captions(self) -> np.ndarray:
        return np.bincount(self.image_of_text, minlength=self.num_images)

    def scores(self) -> dict[str, Score]:
        """Every score with its 95 % interval; all but the median ranks are fractions.

        Captions of one image are found or missed together, so intervals of captions as queries are clustered by image
        (`intervals.clustered_accuracy`). Median ranks count from 1; their interval is Woodruff's (1952), which reads
        the interval of the share of better ranks off the ranks themselves.

        Returns:
            Score by name: `image_to_text_hit_at_K` and `text_to_image_hit_at_K` (R@K of papers),
            `image_to_text_recall_at_K`, `image_to_text_median_rank`, `text_to_image_median_rank`. A caption has one
            image, so that hit and recall are one thing from text to image.

        >>> result = evaluate_retrieval(np.eye(3), np.eye(3), [0, 1, 2], ks=(1,))
        >>> f"{result.scores()['image_to_text_hit_at_1']:.0%}"
        '100 % [29, 100]'
        """
        captions = self._captions()
        first, asked = self.first_rank, np.flatnonzero(captions)
        scores = {}
        for k in self.ks:
            hits = first < k
            scores[f"image_to_text_hit_at_{k}"] = proportion(int(hits.sum()), len(hits))
        for k in self.ks:
            found = np.bincount(self.image_of_text[self.rank_of_text < k], minlength=self.num_images)
            scores[f"image_to_text_recall_at_{k}"] = _within(mean_with_t((found / np.maximum(captions, 1))[asked]))
        scores["image_to_text_median_rank"] = _median(first, asked)
        for k in self.ks:
            scores[f"text_to_image_hit_at_{k}"] = clustered_accuracy(self.rank_of_image < k, self.image_of_text)
        scores["text_to_image_median_rank"] = _median(self.rank_of_image, self.image_of_text)
        return scores

    def summary(self) -> dict[str, object]:
        """`scores` as numbers for JSON: each with its interval beside it as `<name>_ci`, None where there is none.

        `chance_*` is what a random order would give.

        >>> evaluate_retrieval(np.eye(3), np.eye(3), [0, 1, 2], ks=(1,)).summary()["text_to_image_hit_at_1"]
        1.0
        """
        captions = self._captions()
        summary: dict[str, object] = {
            "images": self.num_images,
            "captions": self.num_texts,
            "images_without_captions": int((captions == 0).sum()),
        }
        if self.folds > 1:
            summary |= {"folds": self.folds, "images_in_no_fold": self.left_out}
        for name, score in self.scores().items():
            summary[name] = score.value
            summary[f"{name}_ci"] = (score.low, score.high) if score.has_interval else None
        images, texts = self.num_images / self.folds, self.num_texts / self.folds
        for k in self.ks:
            summary[f"chance_text_to_image_hit_at_{k}"] = min(1.0, k / images)
            summary[f"chance_image_to_text_recall_at_{k}"] = min(1.0, k / texts)
        return summary


def _within(score: Score) -> Score:
    """An interval of a mean of shares, which ends at 0 and 1."""
    return Score(score.value, max(score.low, 0.0), min(score.high, 1.0)) if score.has_interval else score


def _median(ranks: np.ndarray, clusters: np.ndarray) -> Score:
    """Median rank, counted from 1, with Woodruff's interval."""
    ordered = np.sort(ranks) + 1
    value = float(np.median(ordered))
    better = clustered_accuracy(ranks + 1 <= value, clusters)
    if not better.has_interval:
        return Score(value)
    shares = 0.5 - (better.value - better.low), 0.5 + (better.high - better.value)
    low, high = (float(np.quantile(ordered, np.clip(share, 0, 1), method="inverted_cdf")) for share in shares)
    return Score(value, min(low, value), max(high, value))


def evaluate_retrieval(
    image_vectors: npt.ArrayLike,
    text_vectors: npt.ArrayLike,
    image_of_text: npt.ArrayLike,
    ks: tuple[int, ...] = (1, 5, 10),
    fold_size: int | None = None,
) -> RetrievalResult:
    """Rank all captions for every image and all images for every caption, without an (N, T) matrix.

    On ties the lower index wins. Captions of equal wording tie exactly if their vectors are equal, as `encode_texts`
    makes them. An image without captions is no query, but stands among the images that captions seek.

    Args:
        image_vectors: (N, D) unit-norm image vectors.
        text_vectors: (T, D) unit-norm caption vectors.
        image_of_text: (T,) which image each caption belongs to, 0 to N - 1.
        ks: depths K of R@K.
        fold_size: rank within parts of that number of consecutive images and their captions, as "COCO 1K" does with
            1,000; the rest that fills no part is left out, and scores are over the queries of all parts together.
            None: the full set.

    Raises:
        InputError: shapes differ, vectors are not finite or not of unit norm, an index is out of range, a depth is
            below 1, or the images fill no fold.

    >>> result = evaluate_retrieval(np.eye(2), [[1., 0.], [.6, .8], [.8, .6]], [0, 0, 1], ks=(1,))
    >>> result.rank_of_text, result.rank_of_image
    (array([0, 2, 1]), array([0, 1, 1]))
    >>> result.scores()["image_to_text_recall_at_1"].value
    0.25
    """
    images, texts = floats(image_vectors, "image_vectors", 2, False), floats(text_vectors, "text_vectors", 2, False)
    if not len(images) or not len(texts):
        raise InputError(
            f"Expected at least one image and one caption in `image_vectors` and `text_vectors`, "
            f"got {len(images)} and {len(texts)}"
        )
    if images.shape[1] != texts.shape[1]:
        raise InputError(
            f"Expected `image_vectors` and `text_vectors` of one width D, got {images.shape[1]} and {texts.shape[1]}"
        )
    images, texts = unit_rows(images, "image_vectors"), unit_rows(texts, "text_vectors")
    owner = class_indices(image_of_text, "image_of_text", len(texts), len(images))
    depths = tuple(sorted({whole_number(k, "ks", 1) for k in listed(ks, "ks", "depths")}))
    if not depths:
        raise InputError("Expected at least one depth in `ks`, got none")
    if fold_size is None:
        return RetrievalResult(owner, len(images), *_ranks(images, texts, owner), depths)
    fold_size = whole_number(fold_size, "fold_size", 1)
    folds = len(images) // fold_size
    if not folds:
        raise InputError(f"Expected `fold_size` of at most {len(images)}, the number of images, got {fold_size}")
    parts = []
    for fold in range(folds):
        mine = owner // fold_size == fold
        if mine.any():
            part = images[fold * fold_size : (fold + 1) * fold_size]
            parts.append((owner[mine], *_ranks(part, texts[mine], owner[mine] - fold * fold_size)))
    if not parts:
        raise InputError("Expected `image_of_text` to give captions to an image in a fold, got none")
    owners, of_image, of_text = (np.concatenate(part) for part in zip(*parts))
    count = folds * fold_size
    return RetrievalResult(owners, count, of_image, of_text, depths, folds, len(images) - count)


def _ranks(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each caption, the rank of its image for the caption, and of the caption for its image."""
    order = np.argsort(owner, kind="stable")  # captions by image, so that a block of them has few images
    by_text = np.empty(len(texts), dtype=np.int64)
    by_image = np.empty(len(texts), dtype=np.int64)
    to_images, to_texts = Scorer(images), Scorer(texts)
    queries, captions = tensor(images), tensor(texts)

    def seek_images(rows: slice) -> None:
        block = to_images(captions[rows]).numpy()
        by_text[rows] = _rank(block, owner[rows])

    def seek_texts(rows: slice) -> None:
        mine = order[rows]
        asked, row = np.unique(owner[mine], return_inverse=True)
        block = to_texts(queries[asked]).numpy()
        # One caption of each image at a time, so that no block grows by the number of captions.
        turn = np.arange(len(row)) - np.searchsorted(row, row)
        for step in range(int(turn.max()) + 1):
            these = turn == step
            chosen = row[these]
            view = block if len(chosen) == len(block) else block[chosen]
            by_image[mine[these]] = _rank(view, mine[these])

    parallel_map(seek_images, block_slices(len(texts), len(images)))
    parallel_map(seek_texts, block_slices(len(texts), len(texts)))
    return by_text, by_image


def _rank(similarity: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """Place of one column in each row's ranking, 0 = best; ties go to the lower column. No check, as in a loop."""
    own = similarity[np.arange(len(sought)), sought]
    above = (similarity > own[:, None]).sum(axis=1)
    tied = similarity == own[:, None]
    return above + (tied & (np.arange(similarity.shape[1]) < sought[:, None])).sum(axis=1)
