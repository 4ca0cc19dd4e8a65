"""Cosine similarities in blocks, and rankings with a rule for ties: every score is computed from these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import numpy.typing as npt

from clipnb._checks import as_numpy, floats, whole_number
from clipnb._runtime import one_thread_each
from clipnb._tensors import HAS_TORCH, as_tensor, count_cores
from clipnb.errors import InputError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

# Images in a block: enough for a fast matrix product, while the similarities are still in the cache to be ranked.
BLOCK_ROWS = 384
BLOCK_BYTES = 8 * 2**20  # the limit of a block's similarities, which matters above 4,096 classes
NORM_TOLERANCE = 0.01  # rounding to bf16 changes a norm of 1 by up to 0.4 %, so vectors in half precision pass
MAX_PASSES = 32  # up to this k, finding one maximum after the other is faster than sorting


def unit_norm(vectors: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """Divide each row by its Euclidean norm.

    >>> unit_norm(np.array([[3., 4.]]))
    array([[0.6, 0.8]])
    """
    vectors = as_numpy(vectors, "vectors")
    if not vectors.ndim or vectors.dtype.kind not in "fiub":
        raise InputError(f"Expected `vectors` to be rows of real numbers, got {vectors.dtype} of shape {vectors.shape}")
    with np.errstate(over="ignore"):
        norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norm).all():
        raise InputError(f"Expected `vectors` of finite norm, got {int((~np.isfinite(norm)).sum())} of infinite norm")
    if (norm == 0).any():
        raise InputError("Expected vectors with a direction, got a row of zeros")
    return vectors / norm


def check_vectors(
    vectors: npt.ArrayLike, classifier: npt.ArrayLike, name: str = "vectors"
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return image and class vectors as float32 arrays of one width D, with at least one row each, of unit norm.

    >>> check_vectors([[1, 0]], [[1, 0], [0, 1]])[1].dtype
    dtype('float32')
    """
    vectors = floats(vectors, name, 2, finite=False)
    classifier = floats(classifier, "classifier", 2, finite=False)
    if vectors.shape[1] != classifier.shape[1]:
        raise InputError(
            f"Expected `{name}` and `classifier` of one width D, got {vectors.shape[1]} "
            f"and {classifier.shape[1]}: they come from different models"
        )
    if not len(vectors) or not len(classifier):
        raise InputError(f"Expected at least one image and one class, got {len(vectors)} and {len(classifier)}")
    return unit_rows(vectors, name), unit_rows(classifier, "classifier")


def check_classifier(classifier: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return class vectors as a float32 array (C, D) with C >= 1, rows of unit norm.

    >>> check_classifier([[1, 0]]).shape
    (1, 2)
    """
    classifier = floats(classifier, "classifier", 2, finite=False)
    if not len(classifier):
        raise InputError("Expected at least one class in `classifier`, got none")
    return unit_rows(classifier, "classifier")


def check_bank(bank: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the text vectors of P prompts for C classes as a float32 array (P, C, D), with P, C >= 1, of unit norm.

    >>> check_bank([[[1, 0]]]).shape
    (1, 1, 2)
    """
    bank = floats(bank, "bank", 3, finite=False)
    if not bank.shape[0] or not bank.shape[1]:
        raise InputError(f"Expected `bank` of shape (P, C, D) with P, C >= 1, got {bank.shape}")
    return unit_rows(bank, "bank")


def unit_rows(vectors: np.ndarray, name: str) -> npt.NDArray[np.float32]:
    """Return vectors (..., D) in single precision; NaN, infinity and norms other than 1 raise.

    >>> unit_rows(np.array([[0.6, 0.8]]), "vectors")
    array([[0.6, 0.8]], dtype=float32)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = vectors.astype(np.float32, copy=False)
        squares = np.einsum("...d,...d->...", single, single)
        low, high = np.sqrt([squares.min(), squares.max()])
    if 1 - NORM_TOLERANCE <= low and high <= 1 + NORM_TOLERANCE:  # False if either is NaN
        return single
    floats(vectors, name, vectors.ndim)  # raises InputError if a value is not finite
    raise InputError(
        f"Expected `{name}` of unit norm, got norms from {low:.4g} to {high:.4g}; "
        "divide each row by its norm (clipnb.similarity.unit_norm)"
    )


def block_slices(count: int, num_classes: int) -> list[slice]:
    """Slices of `count` rows whose similarities to `num_classes` classes fit in a processor's cache.

    >>> block_slices(1000, 10)
    [slice(0, 384, None), slice(384, 768, None), slice(768, 1000, None)]
    """
    step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * num_classes)))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def tensor(array: np.ndarray) -> torch.Tensor:
    """The torch tensor that shares the memory of a NumPy array; a read-only array is copied, since torch would warn.

    Where torch is not installed, it is a NumPy array that answers as one (`_tensors`).

    >>> tuple(tensor(np.zeros(2)).shape)
    (2,)
    """
    if not HAS_TORCH:
        return cast("torch.Tensor", as_tensor(np.require(array, requirements=["C", "W"])))
    import torch  # not at the top, because metrics alone do not need it

    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


class Scorer:
    """Cosine similarities of a block of images to one classifier, as a torch tensor on a device of choice.

    An offset, (C,) in single precision, is added to the similarities.

    A matrix product rounds differently with its shape and with a column's place, so similarities of equal classes may
    differ in their last bits. The columns of classes with equal vectors (classes that share a name) are therefore
    copied from the first of them: they tie exactly with any block shape, library and processor.

    >>> Scorer(np.eye(2, dtype=np.float32))(tensor(np.eye(2, dtype=np.float32))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self, classifier: np.ndarray, device: str | torch.device = "cpu", offset: np.ndarray | None = None
    ) -> None:
        self.columns = tensor(classifier).to(device).T.contiguous()  # 10 % faster than the transposed view
        self.later, self.first = _repeats(classifier)
        self.offset = None if offset is None else tensor(offset).to(device)

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Similarities (B, C) of vectors (B, D) on the scorer's device."""
        scores = vectors @ self.columns
        if self.later:
            scores[:, self.later] = scores[:, self.first]
        if self.offset is not None:
            scores += self.offset
        return scores


def similarity_blocks(vectors: np.ndarray, classifier: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of rows, cosine similarities (B, C)) so that the whole (N, C) matrix never exists.

    >>> [(rows.start, block.shape) for rows, block in similarity_blocks(np.eye(2), np.eye(2))]
    [(0, (2, 2))]
    """
    dtype = np.result_type(vectors, classifier)
    images = tensor(vectors.astype(dtype, copy=False))
    scorer = Scorer(classifier.astype(dtype, copy=False))
    for rows in block_slices(len(vectors), len(classifier)):
        yield rows, scorer(images[rows]).numpy()


def _repeats(classifier: np.ndarray) -> tuple[list[int], list[int]]:
    """Rows that repeat an earlier row (classes that share a name), and the row that each of them repeats."""
    seen: dict[bytes, int] = {}
    # Adding 0.0 turns -0.0 into 0.0, so that equal rows have equal bytes.
    first = [seen.setdefault(row.tobytes(), c) for c, row in enumerate(classifier + 0.0)]
    later = [c for c, row in enumerate(first) if row != c]
    return later, [first[c] for c in later]


def number_of_cores() -> int:
    """The number of threads that `parallel_map` uses: as many as torch does.

    >>> number_of_cores() >= 1
    True
    """
    if not HAS_TORCH:
        return count_cores()
    import torch

    return torch.get_num_threads()


def parallel_map(visit: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of `visit(item)` for every item, computed by as many threads as torch uses, each on one core.

    One thread for all work on a block is faster than all threads on each step of it, since no thread waits for others.

    >>> parallel_map(abs, [-1, 2])
    [1, 2]
    """
    return list(in_order(visit, items))


def in_order(visit: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of `parallel_map`, in order, each as soon as it and those before it are computed.

    >>> list(in_order(abs, [-1, 2]))
    [1, 2]
    """
    if not HAS_TORCH:  # NumPy's matrix products use all cores by themselves
        yield from map(visit, items)
        return
    cores = number_of_cores()
    # One thread here too: whatever is done with a result must not take the workers' cores.
    with one_thread_each() as limit, ThreadPoolExecutor(cores, initializer=limit) as pool:
        yield from pool.map(visit, items)


def top_k(similarity: npt.ArrayLike, k: int) -> npt.NDArray[np.int64]:
    """Indices of the k largest scores of each row, best first, ties to the lower index: (N, k) int64.

    >>> top_k(np.array([[.5, .9, .5, .5]]), 3)
    array([[1, 0, 2]])
    """
    similarity = floats(similarity, "similarity", 2)
    k = whole_number(k, "k", 1)
    if not similarity.size:
        raise InputError(f"Expected at least one row and column in `similarity`, got shape {similarity.shape}")
    return take_top(np.array(similarity), k)[0] if k > 1 else similarity.argmax(axis=1)[:, None]


def take_top(scores: np.ndarray, k: int) -> tuple[npt.NDArray[np.int64], np.ndarray]:
    """The k largest scores of each row and their indices, ordered as in `top_k`; `scores` is overwritten.

    Returns:
        (indices (N, k) int64, scores (N, k)); k counts as C if it is larger.

    >>> take_top(np.array([[.5, .9, .5, .5]]), 2)
    (array([[1, 0]]), array([[0.9, 0.5]]))
    """
    k = min(k, scores.shape[1])
    if k > MAX_PASSES:
        indices = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return indices, np.take_along_axis(scores, indices, axis=1)
    indices = np.empty((len(scores), k), dtype=np.int64)
    values = np.empty((len(scores), k), dtype=scores.dtype)
    rows = np.arange(len(scores))
    for rank in range(k):
        best = indices[:, rank] = scores.argmax(axis=1)  # argmax takes the first of equal scores, the rule for ties
        values[:, rank] = scores[rows, best]
        scores[rows, best] = -np.inf
    return indices, values
