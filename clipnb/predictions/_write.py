"""clipnb's own files of predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipnb._checks import listed, require_attribute, texts_of
from clipnb._files import new_file, write_atomically
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.predictions._predictions import DEPTH
from clipnb.predictions._tables import METADATA


def write_predictions(
    path: str | Path, ids: Sequence[str], result: EvaluationResult, classnames: Sequence[str], about: dict | None = None
) -> None:
    """Write the predictions of a result as Parquet: what `read_predictions` reads, and pandas, DuckDB and others.

    The columns are id, label, prediction, top5 and their similarities, margin, and the indices of the classes
    (`label_class`, `prediction_class`, `top5_class`), since two classes may share a name. The names of all classes and
    `about` are in the metadata of the file, under "clipnb".

    Args:
        path: of the file.
        ids: (N,) of the images.
        result: of `evaluate` on these images.
        classnames: C names.
        about: what else to keep with them, ready for JSON.

    Raises:
        InputError: lengths differ.
        OSError: the file cannot be written, for example because the disk is full.

    >>> from tempfile import TemporaryDirectory
    >>> from clipnb.evaluation import evaluate_predictions
    >>> from clipnb.predictions import read_predictions
    >>> result = evaluate_predictions(["dog", "dog"], ["cat", "dog"], ["cat", "dog"])
    >>> with TemporaryDirectory() as folder:
    ...     write_predictions(Path(folder, "a.parquet"), ["1", "2"], result, ["cat", "dog"])
    ...     read_predictions(Path(folder, "a.parquet")).labels
    array([0, 1], dtype=int16)
    """
    from pyarrow import parquet

    path = new_file(path, "path")
    names = texts_of(classnames, "classnames", require_attribute(result, "result", "topk", "evaluate").num_classes)
    ids = listed(ids, "ids")
    if len(ids) != len(result.labels):
        raise InputError(f"Expected `ids` of shape (N,) = ({len(result.labels)},), got {len(ids)}")
    best = result.topk[:, :DEPTH]
    dictionary = np.array([*names, None], dtype=object)
    table = pa.table(
        {
            "id": pa.array([str(i) for i in ids], pa.string()),
            "label": pa.array(dictionary[result.labels], pa.string()),
            "prediction": pa.array(dictionary[result.predictions], pa.string()),
            "similarity": pa.array(result.topk_similarity[:, 0].astype(np.float32), from_pandas=True),
            "margin": pa.array(np.array(result.margins, np.float32), from_pandas=True),
            "top5": _as_lists(pa.array(dictionary[best].reshape(-1), pa.string()), best.shape[1]),
            "top5_similarity": _as_lists(
                pa.array(result.topk_similarity[:, :DEPTH].astype(np.float32).reshape(-1), from_pandas=True),
                best.shape[1],
            ),
            "label_class": pa.array(result.labels, pa.int32()),
            "prediction_class": pa.array(result.predictions, pa.int32()),
            "top5_class": _as_lists(pa.array(best.reshape(-1), pa.int32()), best.shape[1]),
        }
    )
    content = json.dumps({"classnames": names, **(about or {})}, ensure_ascii=False, default=float)
    memory = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata({METADATA: content}), memory, compression="zstd")
    write_atomically(path, memory.getvalue())


def _as_lists(values: pa.Array, width: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, width), pa.int32()), values)
