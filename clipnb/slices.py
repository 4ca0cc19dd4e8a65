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

from clipnb._checks import booleans, class_indices, floats, real_number
from clipnb.errors import InputError
from clipnb.intervals import Score, proportion
from clipnb.similarity import unit_rows

__all__ = ["Slice", "SliceSearch", "find_slices"]

MIN_GROUP = 5  # images that a group, and the rest of its class, must have in each half
NUM_CLUSTERS = (2, 3, 4)  # into which the images of a class are divided
MAX_CLUSTERED = 2000  # images of a half from which clusters are made: memory grows with the square
MIN_GAP = 0.1  # by which a group's accuracy must be lower: with many images, chance explains almost no difference
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

    slices: list[Slice]  # first those whose lower accuracy costs the most right answers
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
    most `significance`. The accuracy of a group must also be at least 10 points lower. Images that belong together
    (frames of one film) must be in one half, or the halves agree by themselves.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        half: (N,) booleans, which half an image belongs to (`clipnb.datasets.every_second`).
        classes: (K,) class indices, the classes in which to look.
        rivals: (N,) the best class other than the label, -1 = unknown (`EvaluationResult.rivals`). None: no groups by
            rival.
        vectors: (N, D) unit-norm image vectors. None: no clusters.
        words: (W, D) unit-norm text vectors, not used without `vectors`. A slice is named by the word with the highest
            cosine to the mean of its members minus the mean of the rest, in the half where that is lower; no word, if
            none is positive in both.
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
    images = None if vectors is None else _unit_rows(vectors, "vectors")
    texts = None if words is None or images is None else _unit_rows(words, "words")
    if images is not None and len(images) != len(labels):
        raise InputError(f"Expected `vectors` with N = {len(labels)} rows, got {len(images)}")
    if images is not None and texts is not None and texts.shape[1] != images.shape[1]:
        raise InputError(f"Expected `vectors` and `words` of one width D, got {images.shape[1]} and {texts.shape[1]}")

    right = predictions == labels
    rows_of = _split(np.arange(len(labels)), labels)
    groups: list[_Group] = []
    for c in dict.fromkeys(classes.tolist()):
        rows = rows_of.get(c, np.arange(0))
        cells = _cells(rows, half, right)
        for kind, rival, members in _groups(rows, half, rivals, images):
            inside = _cells(members, half, right)
            if min(inside.sum(axis=1).min(), (cells - inside).sum(axis=1).min()) >= MIN_GROUP:
                groups.append(_Group(c, kind, rival, members, inside, cells - inside))
    slices: list[Slice] = []
    for group, p in _passing(groups, significance):
        same = (part.members for part in slices if (part.label, part.kind) == (group.label, group.kind))
        accuracy, rest = (
            proportion(int(counts[:, 1].sum()), int(counts.sum()), 1 - significance / len(groups))
            for counts in (group.inside, group.outside)
        )
        if rest.value - accuracy.value < MIN_GAP or any(_overlap(group.members, others) for others in same):
            continue
        word, cosine = -1, float("nan")
        if images is not None and texts is not None:
            others = np.setdiff1d(rows_of[group.label], group.members, assume_unique=True)
            word, cosine = _word(images, group.members, others, half, texts)
        slices.append(Slice(group.label, group.kind, group.members, group.rival, accuracy, rest, p, word, cosine))
    slices.sort(key=lambda part: -len(part.members) * (part.rest.value - part.accuracy.value))
    return SliceSearch(slices, list(dict.fromkeys(group.label for group in groups)), len(groups))


def _unit_rows(values: npt.ArrayLike, name: str) -> np.ndarray:
    rows = floats(values, name, 2, finite=False)
    if not rows.size:
        raise InputError(f"Expected `{name}` with at least one row, got shape {rows.shape}")
    return unit_rows(rows, name)


@dataclass(frozen=True)
class _Group:
    """A group to be tested; counts are (2, 2), [half, wrong or right]."""

    label: int
    kind: Literal["rival", "cluster"]
    rival: int
    members: np.ndarray  # rows, ascending
    inside: np.ndarray
    outside: np.ndarray  # of the other images of the class


def _split(rows: np.ndarray, values: np.ndarray) -> dict[int, np.ndarray]:
    """The rows with each value."""
    order = np.argsort(values, kind="stable")
    distinct, starts = np.unique(values[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(rows[order], starts[1:])))


def _cells(rows: np.ndarray, half: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.bincount(2 * half[rows] + right[rows], minlength=4).reshape(2, 2)


def _groups(
    rows: np.ndarray, half: np.ndarray, rivals: np.ndarray | None, vectors: np.ndarray | None
) -> Iterator[tuple[Literal["rival", "cluster"], int, np.ndarray]]:
    """Kind, rival and rows of every group of a class."""
    if rivals is not None:
        for rival, members in _split(rows, rivals[rows]).items():
            if rival >= 0:
                yield "rival", rival, members
    if vectors is not None and min(half[rows].sum(), (~half[rows]).sum()) >= 2 * MIN_GROUP:
        for inside in _clusters(vectors[rows].astype(np.float64), half[rows]):
            yield "cluster", -1, rows[inside]


def _passing(groups: list[_Group], significance: float) -> Iterator[tuple[_Group, float]]:
    """The groups that pass Holm's correction, the lowest p first."""
    if not groups:
        return
    inside, outside = (np.array([getattr(group, name) for group in groups]) for name in ("inside", "outside"))
    both = inside + outside
    # (G, 2): the probability that so few members are right by chance, in each half.
    tails = scipy.stats.hypergeom.cdf(inside[:, :, 1], both.sum(axis=2), both[:, :, 1], inside.sum(axis=2))
    p = tails.max(axis=1) ** 2
    for place, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] > significance / (len(p) - place):
            return
        yield groups[i], float(p[i])


def _clusters(vectors: np.ndarray, half: np.ndarray) -> Iterator[np.ndarray]:
    """Members of each cluster that both halves have: each half is divided by the clusters of the other."""
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


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared >= SAME_GROUP * (len(a) + len(b) - shared)


def _word(
    vectors: np.ndarray, members: np.ndarray, others: np.ndarray, half: np.ndarray, words: np.ndarray
) -> tuple[int, float]:
    """The word that is nearest to what distinguishes the members in both halves, and the lower one of its cosines."""
    cosines = []
    for part in (half, ~half):
        inside, outside = (vectors[rows[part[rows]]].mean(axis=0) for rows in (members, others))
        difference = inside - outside
        cosines.append(words @ difference / max(float(np.linalg.norm(difference)), 1e-12))
    lower = np.minimum(*cosines)
    word = int(lower.argmax())
    return (word, float(lower[word])) if lower[word] > 0 else (-1, float("nan"))
