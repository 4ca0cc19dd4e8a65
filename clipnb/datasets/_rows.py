"""The rows of a table in any of the formats that are read: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from clipnb.datasets._table import _csv_lines, _json_lines


def table_rows(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of the columns, and each row as a mapping."""
    with open(file, "rb") as opened:
        parquet = opened.read(4) == b"PAR1"
    if parquet:
        table = pq.read_table(file)
        return table.column_names, table.to_pylist()
    with file.open(encoding="utf-8-sig", newline="") as text:
        lines = _json_lines(text, file) if file.suffix.casefold() in (".jsonl", ".ndjson") else _csv_lines(text, file)
        return next(lines), list(lines)
