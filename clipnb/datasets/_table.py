"""`table:FILE`: CSV, TSV, JSON lines or Parquet with one row per image, by path or with the images inside."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from glob import glob
from pathlib import Path, PureWindowsPath
from threading import Lock
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from clipnb._checks import class_indices
from clipnb._files import path_of
from clipnb._format import first_line
from clipnb.datasets._folder import LeaveOut, ledger
from clipnb.datasets._images import NO_FILE, LabeledImages, clean_name, state
from clipnb.errors import InputError

# Names of columns, in any case; the first that a table has is used.
PATH_COLUMNS = (
    "path",
    "file_name",
    "filename",
    "file",
    "image_path",
    "image",
    "img",
    "img_path",
    "image_file_path",
    "image_file",
    "image_name",
    "filepath",
    "file_path",
    "relative_path",
    "photo",
    "picture",
)
LABEL_COLUMNS = (
    "label",
    "classname",
    "class",
    "category",
    "fine_label",
    "labels",
    "class_name",
    "label_name",
    "target",
    "species",
)
SEPARATORS = (",", ";", "\t", "|")

NO_PATH = "rows without a path"
NO_IMAGE = "rows without an image"


@dataclass(frozen=True)
class Row:
    """One image of a table: its id, the value of its label cell (None: empty), how it is opened, and its version."""

    id: str
    label: object
    read: Callable[[], Image.Image]
    version: object


def open_table(spec: str, pattern: str) -> LabeledImages:
    """The rows of one table, or of all tables that match a pattern."""
    pattern = str(path_of(pattern or ".", "dataset").expanduser())
    files = [Path(file) for file in ([pattern] if Path(pattern).is_file() else sorted(glob(pattern)))]
    if not files:
        raise InputError(f"Expected a CSV or Parquet table in {spec!r}, found none")
    left_out, leave_out = ledger()
    rows: list[Row] = []
    names: list[str] | None = None
    remarks: list[str] = []
    for file in files:
        try:
            new_rows, known, more = _read(file, leave_out)
        except InputError:
            raise
        except (pa.ArrowException, OSError, csv.Error, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"Cannot read the table {file}: {first_line(error)}{_way_out(error)}") from None
        rows += new_rows
        names = names or known
        remarks += [remark for remark in more if remark not in remarks]
    ids = [row.id for row in rows]
    if len(set(ids)) < len(ids):
        raise InputError(
            f"Expected each image once in {spec}, got {next(i for i, n in Counter(ids).items() if n > 1)!r} again"
        )
    texts = _label_texts([row.label for row in rows], ids, spec)
    if names is None:
        names = sorted({text for text in texts if text is not None}, key=_numbers_first)
        place = {name: i for i, name in enumerate(names)}
        numbers = [-1 if text is None else place[text] for text in texts]
    else:
        numbers = [_class_of(text, names, spec) for text in texts]
    labels = class_indices(numbers, f"labels in {spec}", num_classes=max(1, len(names)), unknown=True)
    return LabeledImages(
        spec,
        ids,
        labels,
        names,
        lambda i: rows[i].read(),
        versions=[row.version for row in rows],
        left_out=left_out,
        remarks=tuple(remarks),
        turned=True,
    )


def _way_out(error: Exception) -> str:
    return "; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""


# Labels --------------------------------------------------------------------------------------------------------------


def _label_texts(labels: list[object], ids: list[str], spec: str) -> list[str | None]:
    """Labels as texts; None where the label is unknown: empty, blanks, NaN, or -1 among whole numbers."""
    texts = [_label_text(label, name, spec) for label, name in zip(labels, ids)]
    known = [text for text in texts if text is not None]
    if known and all(re.fullmatch(r"[+-]?\d+(\.0*)?", text) for text in known):
        # Whole numbers become floats in tables with missing values; -1 stands for an unknown label, as everywhere.
        numbers = [None if text is None else int(float(text)) if "." in text else text for text in texts]
        return [None if number is None or int(number) == -1 else str(number) for number in numbers]
    return texts


def _label_text(label: object, name: str, spec: str) -> str | None:
    if label is None:
        return None
    if isinstance(label, (float, Decimal)):
        if math.isnan(label):
            return None
        if not math.isfinite(label) or label != int(label):
            raise InputError(f"Expected labels of {spec} as names or whole numbers, got {label} for {name!r}")
        return str(int(label))
    if isinstance(label, (list, tuple, dict, set, bytes)):
        raise InputError(f"Expected one label an image in {spec}, got {label!r} for {name!r}")
    return clean_name(str(label)) or None


def _numbers_first(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else -1, name)  # class 10 comes after class 9


def _class_of(text: str | None, names: list[str], spec: str) -> int:
    """The index of a label in a table with a list of class names, whose labels are numbers or names."""
    if text is None:
        return -1
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if text in names:
        return names.index(text)
    raise InputError(f"Expected labels of {spec} among its {len(names)} class names, got {text!r}")


# Rows ----------------------------------------------------------------------------------------------------------------


def _read(file: Path, leave_out: LeaveOut) -> tuple[list[Row], list[str] | None, list[str]]:
    """The rows of a file, the names of numeric labels if it knows them, and remarks."""
    with open(file, "rb") as opened:
        start = opened.read(8)
    if start.startswith(b"PAR1"):
        return _parquet_rows(file, leave_out)
    if file.suffix.casefold() in (".parquet", ".pq"):
        raise InputError(f"Cannot read the table {file}: it is not a Parquet file")
    if start.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"ARROW1", b"BZh", b"\xfd7zXZ")):
        raise InputError(
            f"Cannot read the table {file}: it is compressed or a spreadsheet; export it as CSV, or unpack it"
        )
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    with open(file, encoding=encoding, newline="") as text:
        lines = _json_lines(text, file) if file.suffix.casefold() in (".jsonl", ".ndjson") else _csv_lines(text, file)
        columns = next(lines)
        path = _required_column(columns, PATH_COLUMNS, file, "paths")
        label = _column(columns, LABEL_COLUMNS)
        rows = [
            row
            for number, cells in enumerate(lines, start=2)
            if (row := _path_row(file, cells.get(path), cells.get(label), number, leave_out)) is not None
        ]
    return rows, None, _unlabelled(columns, path, label, file)


def _csv_lines(text: IO[str], file: Path) -> Iterator[Any]:
    """The columns, and then each row as a dict."""
    first = text.readline()
    text.seek(0)
    separator = _separator(first, file)
    rows = csv.reader(text, delimiter=separator, skipinitialspace=separator != "\t")
    columns = [name.strip() for name in next(rows, [])]
    yield columns
    for cells in rows:
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            # A separator without quotes moves every cell after it.
            raise InputError(
                f"Expected {len(columns)} cells a row in {file}, got {len(cells)} in line {rows.line_num}: quote "
                "a cell with commas"
            )
        if any(cell.strip() for cell in cells) and len(cells) < len(columns):
            raise InputError(
                f"Expected {len(columns)} cells a row in {file}, got {len(cells)} in line {rows.line_num}: leave "
                "a cell empty, not out"
            )
        if cells:
            yield dict(zip(columns, cells))


def _separator(header: str, file: Path) -> str:
    """The separator under which the header has a column of paths: first a tab in .tsv, a comma elsewhere."""
    first = "\t" if file.suffix.casefold() == ".tsv" else ","
    for separator in sorted(SEPARATORS, key=lambda separator: separator != first):
        names = next(csv.reader([header], delimiter=separator), [])
        if any(name.strip().casefold() in PATH_COLUMNS for name in names):
            return separator
    return first


def _json_lines(text: IO[str], file: Path) -> Iterator[Any]:
    """The columns, and then each row as a dict."""
    rows = [json.loads(line) for line in text if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"Expected a JSON object a line in {file}")
    yield list(dict.fromkeys(key for row in rows for key in row))
    yield from rows


def _column(columns: Sequence[str], known: tuple[str, ...]) -> str | None:
    """The first of the known names that a table has, as the table writes it; None if it has none of them."""
    own = {name.strip().casefold(): name for name in reversed(columns)}
    return next((own[name] for name in known if name in own), None)


def _required_column(columns: Sequence[str], known: tuple[str, ...], file: Path, kind: str) -> str:
    name = _column(columns, known)
    if name is None:
        raise InputError(
            f"Expected a column of {kind} ({', '.join(known)}) in {file}, got {', '.join(map(str, columns)) or 'none'}"
        )
    return name


def _unlabelled(columns: Sequence[str], path: str, label: str | None, file: Path) -> list[str]:
    others = [name for name in columns if name != path]
    if label is not None or not others:
        return []
    return [
        f"no column of labels ({', '.join(LABEL_COLUMNS)}) among the columns {', '.join(others[:10])} of {file}: "
        "its images are unlabelled"
    ]


def _path_row(file: Path, cell: object, label: object, number: int, leave_out: LeaveOut) -> Row | None:
    """The row of one image, or None if it is left out."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        leave_out(NO_PATH, f"{file.name}, row {number}")
        return None
    name, path = _inside(file, cell)
    version = state(path)
    if version is None:
        leave_out(NO_FILE, name)
        return None
    return Row(name, label, partial(Image.open, path), version)


def _inside(table: Path, cell: object) -> tuple[str, Path]:
    """(id, path) of an image below the table's folder: a table from elsewhere must not reach other files."""
    refused = InputError(
        f"Expected paths of images below the folder of the table {table}, got {cell!r}; put the table above its images"
    )
    if not isinstance(cell, str) or "\0" in cell:
        raise refused
    folder = table.parent
    # Blanks around a path, and backslashes, are part of the name only if such a file exists.
    name = next((name for name in (cell, cell.strip()) if (folder / name).exists()), cell.strip().replace("\\", "/"))
    if os.path.isabs(name):
        name = os.path.relpath(name, os.path.abspath(folder))
    name = posixpath.normpath(name)
    if PureWindowsPath(name).drive or os.path.isabs(name) or name.split("/")[0] in ("..", "."):
        raise refused
    return name, folder / name


# Parquet -------------------------------------------------------------------------------------------------------------


def _parquet_rows(file: Path, leave_out: LeaveOut) -> tuple[list[Row], list[str] | None, list[str]]:
    table = pq.ParquetFile(file)
    schema = table.schema_arrow
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    image = _image_column(schema, file)
    label = _column(schema.names, LABEL_COLUMNS)
    named = [
        name
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("names") and name in schema.names
    ]
    if label is None and len(named) == 1:  # Hugging Face's column of classes may have any name
        label = named[0]
    names = [clean_name(name) for name in features[label]["names"]] if label in named else None
    labels = table.read([label])[label].to_pylist() if label else [None] * table.metadata.num_rows
    remarks = _unlabelled(schema.names, image, label, file)
    if _is_text(schema.field(image).type):
        cells = table.read([image])[image].to_pylist()
        rows = [
            _path_row(file, cell, value, number, leave_out)
            for number, (cell, value) in enumerate(zip(cells, labels), start=1)
        ]
        return [row for row in rows if row is not None], names, remarks
    return _embedded_rows(file, table, image, labels, leave_out), names, remarks


def _image_column(schema: pa.Schema, file: Path) -> str:
    """The column of images, or else of paths; one that holds images under another name if it is the only one."""
    holding = [name for name in schema.names if _holds_images(schema.field(name).type)]
    known = [name for name in holding if name.strip().casefold() in PATH_COLUMNS]
    if known or len(holding) == 1:
        return known[-1] if known else holding[0]
    image = _required_column(schema.names, PATH_COLUMNS, file, "images or paths")
    if not _is_text(schema.field(image).type):
        raise InputError(f"Expected images or paths in the column {image!r} of {file}, got {schema.field(image).type}")
    return image


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in [kind.field(i).name for i in range(kind.num_fields)]
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _embedded_rows(
    file: Path, table: pq.ParquetFile, image: str, labels: list[object], leave_out: LeaveOut
) -> list[Row]:
    reading = Lock()

    @lru_cache(maxsize=4)  # a row group at a time: the images of a whole set may be larger than memory
    def group(number: int) -> list[Any]:
        return table.read_row_group(number, [image])[image].to_pylist()

    def opened(number: int, row: int) -> Image.Image:
        with reading:
            value = group(number)[row]
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None and isinstance(value, dict) and value.get("path"):
            return Image.open(_inside(file, value["path"])[1])
        if content is None:
            raise OSError("the table holds no bytes for it")
        return Image.open(io.BytesIO(content))

    places = [
        (number, row)
        for number in range(table.num_row_groups)
        for row in range(table.metadata.row_group(number).num_rows)
    ]
    version = state(file)
    rows: list[Row] = []
    for position, (label, place, missing) in enumerate(zip(labels, places, _missing(table, image))):
        name = f"{file.name}#{position}"
        if missing:
            leave_out(NO_IMAGE, name)
        else:
            rows.append(Row(name, label, partial(opened, *place), version))
    return rows


def _missing(table: pq.ParquetFile, image: str) -> Iterator[bool]:
    """For each row, whether it has no image; images are read for that only if the file's statistics report nulls."""
    schema = table.schema_arrow
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        leaves = [group.column(i) for i in range(group.num_columns)]
        wanted = [leaf for leaf in leaves if leaf.path_in_schema in (image, f"{image}.bytes")]
        if group.num_rows and all(leaf.statistics is not None and leaf.statistics.null_count == 0 for leaf in wanted):
            yield from [False] * group.num_rows
        elif group.num_rows:
            for value in table.read_row_group(number, [image])[image].to_pylist():
                yield value is None or (
                    pa.types.is_struct(schema.field(image).type) and not (value["bytes"] or value.get("path"))
                )
