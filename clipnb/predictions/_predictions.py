"""`Predictions`, what files of predictions become, and whether two of them are about the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipnb._checks import require_attribute
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult, result_of_predictions

DEPTH = 5  # of the best classes that are kept of each image


@dataclass(frozen=True)
class Predictions:
    """Predictions of N images for C classes, as `read_predictions` read them."""

    source: str  # path of the file
    classnames: list[str]
    labels: npt.NDArray[np.int16]  # (N,), -1 = unknown
    predictions: npt.NDArray[np.int16]  # (N,)
    topk: npt.NDArray[np.int16]  # (N, K), best first; K = 1 where the file holds predictions only
    scores: npt.NDArray[np.float32] | None  # (N,) of the predictions, NaN where a row has none; None: none in the file
    keys: npt.NDArray[np.uint64] = field(repr=False)  # (N,) hashes of the ids
    _read_ids: Callable[[], Iterator[pa.Array]] | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_ids(self) -> bool:
        """Whether the file names its images; else a row's number is its id."""
        return self._read_ids is not None

    def result(self) -> EvaluationResult:
        """What `evaluate_predictions` says of them."""
        scores = None if self.scores is None or np.isnan(self.scores).any() else self.scores
        return result_of_predictions(self.predictions, self.labels, len(self.classnames), self.topk, scores)

    def ids(self, rows: npt.ArrayLike | None = None) -> list[str]:
        """The ids of some rows (ascending), or of all, read from the file again: they are not kept in memory."""
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows)
        if self._read_ids is None:
            return [str(row) for row in wanted]
        texts: list[str] = []
        start = 0
        for block in self._read_ids():
            inside = wanted[(wanted >= start) & (wanted < start + len(block))] - start
            texts += block.take(pa.array(inside)).to_pylist()
            start += len(block)
        return texts


def keys_of(ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Hashes (N,) of ids: eight bytes each, whatever their length.

    >>> len(set(keys_of(pa.array(["a", "b", "a"])).tolist()))
    2
    """
    from pandas.util import hash_array

    texts = as_texts(ids).to_numpy(zero_copy_only=False)
    return hash_array(texts, categorize=False)  # pyright: ignore[reportCallIssue]


def as_texts(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return (ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids).cast(pa.string())


def same_images(a: Predictions, b: Predictions) -> npt.NDArray[np.intp]:
    """For each row of A the row of B with the same id.

    Raises:
        InputError: one has images that the other lacks, or they have other classes or labels.
    """
    for name, value in (("a", a), ("b", b)):
        require_attribute(value, name, "keys", "read_predictions")
    if a.has_ids != b.has_ids:
        with_ids, without = (a, b) if a.has_ids else (b, a)
        raise InputError(f"Expected ids in both files, got none in {without.source}, while {with_ids.source} has them")
    order_a, order_b = np.argsort(a.keys, kind="stable"), np.argsort(b.keys, kind="stable")
    if len(a) != len(b) or not np.array_equal(a.keys[order_a], b.keys[order_b]):
        raise InputError(f"Expected the same images in both files, got {_only_in(a, b)} and {_only_in(b, a)}")
    rows = np.empty(len(a), dtype=np.intp)
    rows[order_a] = order_b
    del order_a, order_b
    if a.classnames != b.classnames:
        other = next((f"{x!r} and {y!r}" for x, y in zip(a.classnames, b.classnames) if x != y), None)
        raise InputError(
            f"Expected the same classes in {a.source} and {b.source}, got {len(a.classnames)} and {len(b.classnames)}"
            + (f", which differ first in {other}" if other else "")
            + "; give the classnames (--classes FILE)"
        )
    if len(wrong := np.flatnonzero(a.labels != b.labels[rows])):
        names = [*a.classnames, None]
        row = int(wrong[0])
        raise InputError(
            f"Expected the same labels in {a.source} and {b.source}, {len(wrong)} differ: {a.ids([row])[0]!r} is "
            f"{names[a.labels[row]]!r} and {names[b.labels[rows[row]]]!r}"
        )
    return rows


def _only_in(a: Predictions, b: Predictions) -> str:
    only = np.flatnonzero(~np.isin(a.keys, b.keys))
    return f"{len(only)} only in {a.source}" + (f" (such as {a.ids(only[:1])[0]!r})" if len(only) else "")
