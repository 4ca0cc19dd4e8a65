"""Slices inside a class: groups of its images that are right less often than the others.

The groups are formed without looking at what is right: by the strongest rival of each image, and by clusters of the
image vectors. A group is reported only where two halves of the images agree, at a level that allows for the number of
groups that were tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats and scipy.cluster load when they are first used

from clipnb._checks import booleans, class_indices, real_number
from clipnb.errors import InputError
from clipnb.intervals import Score, proportion
from clipnb.similarity import check_vectors

__all__ = ["Slice", "SliceSearch", "find_slices"]

MIN_GROUP = 5  # images that a group, and the rest of its class, must have in each half
NUM_CLUSTERS = (2, 3, 4)  # into which the images of a class are divided
MAX_CLUSTERED = 2000  # images of a half from which clusters are made: memory grows with the square
SAME_GROUP = 0.5  # Jaccard index from which two groups count as one


@dataclass(frozen=True)
class Slice:
    """A group of images of one class that are right less often than the others of the class."""

    label: int  # the class
    kind: Literal["rival", "cluster"]
    members: npt.NDArray[np.int64] = field(repr=False)  # (M,) rows of the images, ascending
    rival: int  # the class that is the strongest rival of each member; -1 of a cluster
    accuracy: Score  # share of members that are right; the interval holds for all groups that were tried
    rest: Score  # the same of the other images of the class
    p: float  # that both halves show such a difference by chance, before the correction for the number of groups
    word: int = -1  # the word nearest to what distinguishes the members; -1: no words, or the halves do not agree
    word_cosine: float = float("nan")  # the lower one of the two halves


@dataclass(frozen=True)
class SliceSearch:
    """What `find_slices` found, and where it looked."""

    slices: list[Slice]  # by class in the given order, then by `p`
    classes: list[int]  # classes with enough images for at least one group
    tried: int  # groups that were tested


def find_slices(
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    half: npt.ArrayLike,
    classes: npt.ArrayLike,
    *,
    rivals: npt.ArrayLike | None = None,
    vectors: npt.ArrayLike | None = None,
    words: npt.ArrayLike | None = None,
    significance: float = 0.05,
) -> SliceSearch:
    """Find groups of images inside a class that are right less often than the rest of the class.

    - A group by rival: the images of the class whose best other class is the same.
    - A group by cluster: each half of the class is clustered by itself (Ward 1963, into 2, 3 and 4 clusters). A cluster
      counts where the other half has the same one (Jaccard index of at least 0.5); each half is then divided by the
      clusters of the other.

    Fisher's exact test compares a group with the rest of its class, in each half. If a group is no different, the
    larger one of the two p-values is below t with a probability of at most t squared: that is `p`, and Holm's
    correction over all groups decides. So a search that reports any group where there is none has a probability of at
    most `significance`. Images that belong together (frames of one film) must be in one half, or the halves agree by
    themselves.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        half: (N,) booleans, which half an image belongs to (`clipnb.datasets.every_second`).
        classes: (K,) class indices, the classes in which to look.
        rivals: (N,) the best class other than the label, -1 = unknown (`EvaluationResult.rivals`). None: no groups by
            rival.
        vectors: (N, D) unit-norm image vectors. None: no clusters.
        words: (W, D) unit-norm text vectors, with `vectors`. A slice is named by the word with the highest cosine to
            the mean of its members minus the mean of the rest, in the half where that is lower; a word that is not
            positive in both is none.
        significance: in (0, 1).

    Raises:
        InputError: shapes differ, an index or `significance` is out of range, or vectors are not of unit norm.

    >>> labels = np.zeros(40, dtype=int)
    >>> rivals = np.repeat([1, 2], 20)
    >>> predictions = np.where(rivals == 1, 1, 0)  # images near class 1 are all taken for it
    >>> search = find_slices(predictions, labels, np.arange(40) % 2, [0], rivals=rivals)
    >>> [(part.kind, part.rival, len(part.members), part.accuracy.value, part.rest.value) for part in search.slices]
    [('rival', 1, 20, 0.0, 1.0)]
    """
    labels = class_indices(labels, "labels", unknown=True)
    predictions = class_indices(predictions, "predictions", len(labels))
    half = booleans(half, "half", labels.shape)
    classes = class_indices(classes, "classes")
    if rivals is not None:
        rivals = class_indices(rivals, "rivals", len(labels), unknown=True)
    if not 0 < real_number(significance, "significance") < 1:
        raise InputError(f"Expected `significance` above 0 and below 1, got {significance}")
    if vectors is None:
        if words is not None:
            raise InputError("Expected `vectors` with `words`, got words only")
        images = None
    else:
        images, words = check_vectors(vectors, vectors if words is None else words), words
        images, words = images[0], None if words is None else images[1]
        if len(images) != len(labels):
            raise InputError(f"Expected `vectors` with N = {len(labels)} rows, got {len(images)}")

    groups = []
    for c in classes:
        rows = np.flatnonzero(labels == c)
        for kind, rival, members in _groups(rows, half[rows], rivals, images):
            if _large_enough(members, half[rows]):
                groups.append((int(c), kind, rival, rows, members))
    tried = len(groups)
    tests = [_p_value(predictions[rows] == c, members, half[rows]) for c, _, _, rows, members in groups]
    slices: list[Slice] = []
    for place, i in enumerate(np.argsort(tests, kind="stable")):
        if tests[i] > significance / (tried - place):
            break
        c, kind, rival, rows, members = groups[i]
        if any(part.label == c and part.kind == kind and _overlap(rows[members], part.members) for part in slices):
            continue
        right = predictions[rows] == c
        word, cosine = (-1, float("nan")) if words is None else _word(images[rows], members, half[rows], words)
        accuracy, rest = (
            proportion(int(right[part].sum()), int(part.sum()), 1 - significance / tried)
            for part in (members, ~members)
        )
        slices.append(Slice(c, kind, rows[members], rival, accuracy, rest, tests[i], word, cosine))
    order = {int(c): place for place, c in enumerate(classes)}
    slices.sort(key=lambda part: (order[part.label], part.p))
    return SliceSearch(slices, list(dict.fromkeys(group[0] for group in groups)), tried)


def _groups(
    rows: np.ndarray, half: np.ndarray, rivals: np.ndarray | None, vectors: np.ndarray | None
) -> Iterator[tuple[Literal["rival", "cluster"], int, np.ndarray]]:
    """Kind, rival and members (booleans over the rows of a class) of every group of one class."""
    if rivals is not None:
        for rival in np.unique(rivals[rows]):
            if rival >= 0:
                yield "rival", int(rival), rivals[rows] == rival
    if vectors is not None and min(half.sum(), (~half).sum()) >= 2 * MIN_GROUP:
        for members in _clusters(vectors[rows], half):
            yield "cluster", -1, members


def _clusters(vectors: np.ndarray, half: np.ndarray) -> Iterator[np.ndarray]:
    """Members of each cluster that both halves have: each half is divided by the clusters of the other."""
    vectors = vectors.astype(np.float64)
    for mine, others in zip(_centers(vectors[half]), _centers(vectors[~half])):
        by_mine, by_others = _nearest(vectors, mine), _nearest(vectors, others)
        for i in range(len(mine)):
            inside = by_mine == i
            shared = np.bincount(by_others[inside], minlength=len(others))
            jaccard = shared / (inside.sum() + np.bincount(by_others, minlength=len(others)) - shared)
            j = int(jaccard.argmax())
            if jaccard[j] >= SAME_GROUP:
                yield np.where(half, by_others == j, inside)


def _centers(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Centers of 2, 3 and 4 clusters."""
    step = -(-len(vectors) // MAX_CLUSTERED)
    tree = scipy.cluster.hierarchy.linkage(vectors[::step], "ward")
    for count in NUM_CLUSTERS:
        cluster = scipy.cluster.hierarchy.fcluster(tree, count, "maxclust")
        yield np.stack([vectors[::step][cluster == i].mean(axis=0) for i in np.unique(cluster)])


def _nearest(vectors: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return (vectors @ centers.T - (centers**2).sum(axis=1) / 2).argmax(axis=1)


def _large_enough(members: np.ndarray, half: np.ndarray) -> bool:
    cells = (members & half, members & ~half, ~members & half, ~members & ~half)
    return min(int(cell.sum()) for cell in cells) >= MIN_GROUP


def _p_value(right: np.ndarray, members: np.ndarray, half: np.ndarray) -> float:
    """The probability that in both halves so few members are right by chance."""
    tails = [
        scipy.stats.hypergeom.cdf(
            (right & members & part).sum(), part.sum(), (right & part).sum(), (members & part).sum()
        )
        for part in (half, ~half)
    ]
    return float(max(tails)) ** 2


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared >= SAME_GROUP * (len(a) + len(b) - shared)


def _word(vectors: np.ndarray, members: np.ndarray, half: np.ndarray, words: np.ndarray) -> tuple[int, float]:
    """The word that is nearest to what distinguishes the members in both halves, and the lower one of its cosines."""
    cosines = []
    for part in (half, ~half):
        difference = vectors[members & part].mean(axis=0) - vectors[~members & part].mean(axis=0)
        cosines.append(words @ difference / max(float(np.linalg.norm(difference)), 1e-12))
    lower = np.minimum(*cosines)
    word = int(lower.argmax())
    return (word, float(lower[word])) if lower[word] > 0 else (-1, float("nan"))
