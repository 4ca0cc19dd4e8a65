"""Predictions in tables: Parquet, Arrow, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from clipnb.errors import InputError
from clipnb.predictions import _source
from clipnb.predictions._source import LABELS, PREDICTIONS, Source, table_source

METADATA = b"clipnb"  # of the Parquet files that `write_predictions` writes


def open_parquet(path: Path) -> Source:
    from pyarrow import parquet

    opened = parquet.ParquetFile(path)
    schema = opened.schema_arrow
    metadata = schema.metadata or {}
    own = json.loads(metadata[METADATA]) if METADATA in metadata else None

    def batches(names: list[str], width: int):
        return parquet.ParquetFile(path).iter_batches(_source.rows_a_block(width), columns=names)

    known = own["classnames"] if own else _names_of_features(metadata)
    return table_source(path, schema, batches, classnames=known, by_number=own is not None)


def _names_of_features(metadata: dict) -> list[str] | None:
    """The names that Hugging Face's datasets keep of a ClassLabel."""
    if b"huggingface" not in metadata:
        return None
    features = json.loads(metadata[b"huggingface"]).get("info", {}).get("features") or {}
    for column in (*LABELS, *PREDICTIONS):
        names = (features.get(column) or {}).get("names") if isinstance(features.get(column), dict) else None
        if names:
            return [str(name) for name in names]
    return None


def open_arrow(path: Path, is_file: bool) -> Source:
    def opened():
        memory = pa.memory_map(str(path))
        return pa.ipc.open_file(memory) if is_file else pa.ipc.open_stream(memory)

    def batches(names: list[str], _width: int):
        reader = opened()
        every = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
        return (batch.select(names) for batch in every)

    schema = opened().schema
    return table_source(path, schema, batches, classnames=_names_of_features(schema.metadata or {}))


def open_csv(path: Path) -> Source:
    with open(path, encoding="utf-8-sig", newline="") as text:
        header = text.readline(2**20)
    if not header.strip():
        raise InputError(f"Expected rows in {path}, got an empty file")
    separator = max(",;\t|", key=header.count)
    names = next(csv.reader(io.StringIO(header), delimiter=separator), [])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Expected columns with different names in {path}, got {twice!r} twice")

    def blocks(wanted: list[str], numbers: set[str]) -> Iterator[pa.Table]:
        from pyarrow import csv as reader

        options = reader.ConvertOptions(
            include_columns=wanted,
            column_types={name: pa.float64() if name in numbers else pa.string() for name in wanted},
            null_values=["", "NaN", "nan"] if not set(wanted) - numbers else [""],
            strings_can_be_null=True,
        )
        for batch in reader.open_csv(
            path,
            reader.ReadOptions(block_size=_source.BLOCK_BYTES, column_names=names, skip_rows=1),
            reader.ParseOptions(delimiter=separator, newlines_in_values=True),
            options,
        ):
            yield pa.Table.from_batches([batch])

    return Source(path, dict.fromkeys(names), blocks)
