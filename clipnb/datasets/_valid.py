"""Files that list all valid labels of each image."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipnb._checks import format_value, require_attribute
from clipnb._files import path_of, read_text
from clipnb.datasets._images import LabeledImages, clean_name, first_line
from clipnb.datasets._rows import table_rows
from clipnb.datasets._table import LABEL_COLUMNS, PATH_COLUMNS, _required_column
from clipnb.errors import InputError

VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\b")
NAME_COLUMNS = ("id", *PATH_COLUMNS)
LISTS = ("valid_labels", "real_labels", *LABEL_COLUMNS)


def load_valid_labels(file: str | Path, data: LabeledImages) -> list[list[int]]:
    """All valid labels of each image of a set, as class indices; an empty list where the file knows none.

    Args:
        file: ImageNet ReaL's JSON (a list for each validation image in the order of their numbers), a JSON of lists by
            image id, or a table (CSV, TSV, JSON lines, Parquet) with a column of ids or paths and one of labels: a list
            in a cell, several labels separated by ";" or "|", or a row for each label. Labels are class indices or
            names.
        data: from `load_dataset`; ids are matched as a whole, or by their file name where that is unique.

    Returns:
        N lists, in the order of `data.ids`.

    Raises:
        InputError: the file holds something else, names an unknown class, or none of the images.

    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> data = LabeledImages("pets", ["a.png", "b.png"], np.array([0, 1]), ["cat", "dog"], read=None)
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "valid.json").write_text('{"a.png": ["cat", "dog"]}')
    ...     load_valid_labels(Path(folder, "valid.json"), data)
    [[0, 1], []]
    """
    require_attribute(data, "data", "ids", "clipnb.load_dataset")
    path = path_of(file, "file").expanduser()
    if not path.is_file():
        raise InputError(f"Expected a file of valid labels, got {format_value(str(file))}")
    try:
        if path.suffix.casefold() == ".json":
            content = json.loads(read_text(path))
            if isinstance(content, list):
                return _by_number(content, path, data)
            groups = content
        else:
            groups = _table(path)
        if not isinstance(groups, dict):
            raise InputError(f"Expected lists of labels by image in {path}, got {type(groups).__name__}")
    except InputError:
        raise
    except (pa.ArrowException, csv.Error, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"Cannot read valid labels from {path}: {first_line(error)}") from None
    places: dict[str, int] = {name: i for i, name in enumerate(data.ids)}
    short: dict[str, list[int]] = {}
    for i, name in enumerate(data.ids):
        short.setdefault(name.rpartition("/")[2], []).append(i)
    found: list[list[int]] = [[] for _ in data.ids]
    matched = 0
    classes = {clean_name(name): c for c, name in reversed(list(enumerate(data.classnames)))}
    for name, labels in groups.items():
        same = short.get(str(name).rpartition("/")[2], [])
        place = places.get(str(name), same[0] if len(same) == 1 else None)
        if place is not None:
            found[place] = _indices(labels, classes, path, name)
            matched += 1
    if not matched:
        example = next(iter(groups), None)
        raise InputError(
            f"Expected valid labels of images of {data.name} in {path}, got none: it names {format_value(example)}, "
            f"the set {format_value(data.ids[0])}"
        )
    return found


def _by_number(content: list, path: Path, data: LabeledImages) -> list[list[int]]:
    """ReaL's list, of which image ILSVRC2012_val_00000001 is the first."""
    found = []
    for name in data.ids:
        match = VALIDATION_IMAGE.search(name)
        if match is None or not 0 < int(match[1]) <= len(content):
            raise InputError(
                f"Expected images named ILSVRC2012_val_00000001 to {len(content):08d} for the list in {path}, "
                f"got {name!r}; for other sets write a JSON of lists by image id"
            )
        found.append(_indices(content[int(match[1]) - 1], {}, path, name))
    if len(data.classnames) != 1000:
        raise InputError(f"Expected ImageNet's 1,000 classes for the list in {path}, got {len(data.classnames)}")
    return found


def _indices(labels: Any, classes: dict[str, int], path: Path, name: object) -> list[int]:
    parts = labels if isinstance(labels, list) else [labels]
    found = []
    for part in parts:
        if isinstance(part, str) and clean_name(part) in classes:
            found.append(classes[clean_name(part)])
        elif isinstance(part, str) and re.fullmatch(r"\d{1,9}", part.strip()):
            found.append(int(part))
        elif isinstance(part, int) and not isinstance(part, bool):
            found.append(part)
        else:
            raise InputError(
                f"Expected class indices or names of the set's classes in {path}, got {format_value(part)} for {name!r}"
            )
    return list(dict.fromkeys(found))


def _table(path: Path) -> dict[str, list]:
    columns, rows = table_rows(path)
    name = _required_column(columns, NAME_COLUMNS, path, "image ids")
    label = _required_column(columns, LISTS, path, "valid labels")
    groups: dict[str, list] = {}
    for row in rows:
        cell = row.get(label)
        if isinstance(cell, str):
            cell = [part.strip() for part in re.split(r"[;|]", cell) if part.strip()]
        groups.setdefault(str(row.get(name)), []).extend(
            [] if cell is None else cell if isinstance(cell, list) else [cell]
        )
    return groups
