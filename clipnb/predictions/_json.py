"""Predictions in JSON lines, in a list of rows, and in FiftyOne's exports."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from clipnb._checks import format_value
from clipnb._files import read_text
from clipnb.errors import InputError
from clipnb.predictions import _source
from clipnb.predictions._source import (
    CLASS_SCORES,
    IDS,
    LABELS,
    PREDICTIONS,
    SCORES,
    TOPK,
    Source,
    table_source,
)


def is_json_lines(start: bytes) -> bool:
    first, _, rest = start.lstrip().partition(b"\n")
    if not first.startswith(b"{") or not rest.strip():
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def open_json_lines(path: Path) -> Source:
    from pyarrow import json as reader

    def tables(_names: list[str], _width: int) -> Iterator[pa.Table]:
        with open(path, "rb") as file:
            while lines := b"".join(file.readlines(_source.BLOCK_BYTES)).strip():
                yield reader.read_json(io.BytesIO(lines), reader.ReadOptions(block_size=2 * len(lines) + 1024))

    first = next(tables([], 0), None)
    if first is None:
        raise InputError(f"Expected rows in {path}, got an empty file")
    return table_source(path, first.schema, tables)


def open_json(path: Path) -> Source:
    content = json.loads(read_text(path))
    if isinstance(content, dict) and isinstance(content.get("metrics"), dict):
        raise InputError(
            f"Expected predictions in {path}, got the scores that CLIP_benchmark writes, which hold no predictions: "
            "save what its run_classification returns, numpy.savez(file, logits=logits, target=target)"
        )
    if isinstance(content, dict) and {"classes", "labels"} <= set(content):
        raise InputError(
            f"Expected labels and predictions in {path}, got one field of FiftyOne's classification export: export "
            "both fields, as FiftyOneDataset (samples.json) or CSVDataset"
        )
    rows = content.get("samples") if isinstance(content, dict) else content  # FiftyOne's, or a list of rows
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"Expected a list of rows in {path} (or FiftyOne's samples), got {format_value(content)}")
    keep = (*IDS, *LABELS, *PREDICTIONS, *SCORES, *TOPK, *CLASS_SCORES)
    labelled = {key for row in rows[:100] for key, cell in row.items() if _is_classification(cell)}
    renamed = _fiftyone_fields(labelled, path)
    flat = [_flat(row, renamed, keep) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    table = pa.table({name: [row.get(name) for row in flat] for name in columns})
    return table_source(path, table.schema, lambda names, _width: iter([table.select(names)]))


def _is_classification(cell) -> bool:
    return isinstance(cell, dict) and cell.get("_cls", "Classification") == "Classification" and "label" in cell


def _fiftyone_fields(fields: set[str], path: Path) -> dict[str, str]:
    """FiftyOne's fields under our names: the only classification besides `ground_truth` holds the predictions."""
    others = sorted(fields - {"ground_truth"})
    if not fields or "predictions" in fields:
        return {}
    if "ground_truth" not in fields or len(others) != 1:
        raise InputError(
            f"Expected the classifications ground_truth and predictions in {path}, got {', '.join(sorted(fields))}: "
            "export these two fields under these names"
        )
    return {others[0]: "predictions"}


def _flat(row: dict, renamed: dict[str, str], keep: tuple[str, ...]) -> dict:
    flat = {}
    for key, cell in row.items():
        name = renamed.get(key, key)
        if isinstance(cell, dict):
            flat |= {f"{name}.{part}": value for part, value in cell.items() if f"{name}.{part}" in keep}
        elif name in keep or isinstance(cell, (int, float)):
            flat[name] = cell
    return flat
