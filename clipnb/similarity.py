"""Cosine similarities in blocks and rankings whose ties are settled: what every score is made of."""

from __future__ import annotations

import numpy as np

from clipnb.errors import InputError, floats

BLOCK_BYTES = 32 * 2**20  # similarities held at a time; large enough for a fast matrix product


def unit_norm(vectors: np.ndarray) -> np.ndarray:
    """Divide each row by its Euclidean norm.

    >>> unit_norm(np.array([[3., 4.]]))
    array([[0.6, 0.8]])
    """
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if (norm == 0).any():
        raise InputError("Expected vectors with a direction, got a row of zeros")
    return vectors / norm


def check_vectors(vectors, classifier) -> tuple[np.ndarray, np.ndarray]:
    """Return image and class vectors as float32 arrays of one width D, with at least one row each.

    >>> check_vectors([[1, 0]], [[1, 0], [0, 1]])[1].dtype
    dtype('float32')
    """
    vectors = floats(vectors, "vectors", 2).astype(np.float32, copy=False)
    classifier = floats(classifier, "classifier", 2).astype(np.float32, copy=False)
    if vectors.shape[1] != classifier.shape[1]:
        raise InputError(f"Expected `vectors` and `classifier` of one width D, got {vectors.shape[1]} "
                         f"and {classifier.shape[1]}: they come from different models")
    if not len(vectors) or not len(classifier):
        raise InputError(f"Expected at least one image and one class, got {len(vectors)} and {len(classifier)}")
    return vectors, classifier


def similarity_blocks(vectors: np.ndarray, classifier: np.ndarray):
    """Yield (slice of rows, cosine similarities (B, C)) so that the whole (N, C) matrix never exists.

    >>> [(rows.start, block.shape) for rows, block in similarity_blocks(np.eye(2), np.eye(2))]
    [(0, (2, 2))]
    """
    step = max(1, BLOCK_BYTES // (4 * len(classifier)))
    later, first = _repeats(classifier)
    for start in range(0, len(vectors), step):
        rows = slice(start, min(start + step, len(vectors)))
        block = vectors[rows] @ classifier.T
        block[:, later] = block[:, first]  # a matrix product may round equal columns differently, and ties must stay ties
        yield rows, block


def _repeats(classifier: np.ndarray) -> tuple[list[int], list[int]]:
    """Rows that repeat an earlier row (classes that share a name), and for each the row it repeats."""
    seen: dict[bytes, int] = {}
    first = [seen.setdefault(row.tobytes(), c) for c, row in enumerate(classifier)]
    later = [c for c, place in enumerate(first) if place != c]
    return later, [first[c] for c in later]


def top_k(similarity: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest scores of each row, best first, ties to the lower index: (N, k) int64.

    >>> top_k(np.array([[.5, .9, .5, .5]]), 3)
    array([[1, 0, 2]])
    """
    if k == 1:
        return similarity.argmax(axis=1)[:, None]
    if k >= similarity.shape[1]:
        return np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    import torch  # ten times faster than argpartition, and only needed here

    values, found = (t.numpy() for t in torch.topk(torch.from_numpy(similarity), k, dim=1))
    order = np.lexsort((found, -values), axis=1)
    found, last = np.take_along_axis(found, order, axis=1), values[:, -1:]
    # topk picks any of the scores tied at place k; only those rows need a full stable sort.
    tied = np.flatnonzero((similarity >= last).sum(axis=1) > k)
    if len(tied):
        found[tied] = np.argsort(-similarity[tied], axis=1, kind="stable")[:, :k]
    return found
