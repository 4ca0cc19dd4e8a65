"""Classnames from a file, and the check that a set has the classnames that scoring needs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clipnb._checks import format_value
from clipnb._files import path_of, read_text
from clipnb._format import first_line
from clipnb.datasets._images import LabeledImages, clean_name
from clipnb.errors import InputError


def scored_classnames(data: LabeledImages, way: str = "") -> list[str]:
    """The classnames of a set that is going to be scored.

    Args:
        data: from `load_dataset`.
        way: the caller's advice, which ends the message.

    Raises:
        InputError: there are no classnames, or only one, so that every answer would be right.

    >>> from clipnb import load_dataset
    >>> scored_classnames(load_dataset("emoji"))[:2]
    ['monkey face', 'monkey']
    """
    instead = "".join(f"; {line}" for line in (data.left_out_line(), *data.remarks) if line)
    way = f"; {way}" if way else ""
    if not data.classnames:
        raise InputError(
            f"Expected class folders or labels in {data.name}, found images only: there are no classnames to "
            f"score{way}{instead}"
        )
    if len(data.classnames) == 1:
        raise InputError(
            f"Expected at least two classes in {data.name}, got one ({format_value(data.classnames[0])}): every answer "
            f"would be right{way}{instead}"
        )
    return data.classnames


def with_classes(data: LabeledImages, file: str | Path) -> LabeledImages:
    r"""The same images under the classnames of a file: a list of candidates, or a mapping of names.

    - A list (text with a name a line, a JSON list, or COCO's {"categories": [{"id", "name"}]}): the classes to choose
      from. It names the classes of unlabelled images. Labelled classes must be among them (for COCO by name or id);
      there may be more.
    - A mapping (JSON {folder: name} or {folder: [name, synonym, ...]}, or CSV rows "folder,name,synonym, ..."): new
      names for some or all of the labelled classes.

    Args:
        data: from `load_dataset`.
        file: .txt, .json or .csv, in UTF-8.

    Returns:
        `data` with new classnames and labels; `synonyms` holds all names of each class, the shown one first.

    Raises:
        InputError: the file cannot be read, or does not fit the classes of `data`.

    >>> from tempfile import TemporaryDirectory
    >>> from clipnb import load_dataset
    >>> data = replace(load_dataset("emoji").take(2), classnames=[], labels=np.array([-1, -1]))
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "names.txt").write_text("dog\ncat\n")
    ...     with_classes(data, folder + "/names.txt").classnames
    ['dog', 'cat']
    """
    file = path_of(file, "file")
    entries, mapping = _read_classes(file, data.classnames)
    complete = all(names and all(isinstance(name, str) and name.strip() for name in names) for _, names in entries)
    if not entries or not complete:
        raise InputError(f"Expected non-empty classnames in {file}, got none or an empty one")
    place: dict[str, int] = {}
    for i, (key, _) in enumerate(entries):
        place.setdefault(_key(key), i)
    own = [_key(name) for name in data.classnames]
    if mapping:
        if unknown := [key for key in place if key not in own]:
            raise InputError(
                f"Expected classes of {data.name} in {file}, got {len(unknown)} others: "
                f"{', '.join(map(repr, unknown[:3]))}"
            )
        names = [entries[place[key]][1] if key in place else [name] for key, name in zip(own, data.classnames)]
        labels = data.labels
    else:
        if missing := [key for key in own if key not in place]:
            raise InputError(
                f"Expected all classes of {data.name} in {file}, {len(missing)} are missing: "
                f"{', '.join(map(repr, missing[:3]))}"
            )
        names = [names for _, names in entries]
        labels = np.array([*(place[key] for key in own), -1])[data.labels]  # -1, unknown, takes the last: it stays -1
    names = [[clean_name(name) for name in group] for group in names]
    # Descriptions belong to the former names.
    return replace(data, classnames=[group[0] for group in names], labels=labels, synonyms=names, descriptions=None)


def read_classnames(file: str | Path) -> list[str]:
    r"""The classnames in a file that lists them: text with a name a line, a JSON list, or COCO's categories.

    Raises:
        InputError: the file cannot be read, lists nothing, or maps folders to names.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "names.txt").write_text("dog\ncat\n")
    ...     read_classnames(folder + "/names.txt")
    ['dog', 'cat']
    """
    path = path_of(file, "file")
    entries, mapping = _read_classes(path, [])
    names = [name for _, group in entries for name in group[:1]]
    if mapping or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(
            f"Expected a list of classnames in {path}, got {'a mapping' if mapping else 'none or an empty one'}"
        )
    return names


def _key(name: object) -> str:
    return clean_name(str(name).replace("_", " "))  # as class folders are read


def _read_classes(file: Path, known: list[str]) -> tuple[list[tuple[Any, list[Any]]], bool]:
    """(name of a class in the data, [its names]) of each entry, and whether the file is a mapping."""
    try:
        text = read_text(file)
        content = json.loads(text) if file.suffix == ".json" else None
    except OSError as error:
        raise InputError(f"Expected a file of classnames, got {file}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"Cannot read the classnames in {file}: {first_line(error)}") from None
    if file.suffix == ".csv":
        rows = [[cell.strip() for cell in row if cell.strip()] for row in csv.reader(io.StringIO(text))]
        return [(row[0], row[1:]) for row in rows if row], True
    if content is None:
        return [(clean_name(line), [clean_name(line)]) for line in text.splitlines() if line.strip()], False
    try:
        if isinstance(content, dict) and isinstance(content.get("categories"), list):
            by = "id" if known and all(name.isdecimal() for name in known) else "name"
            return [(category[by], [category["name"]]) for category in content["categories"]], False
        if isinstance(content, dict):
            return [(key, [value] if isinstance(value, str) else list(value)) for key, value in content.items()], True
        return [(name, [name]) for name in content], False
    except (KeyError, TypeError):
        raise InputError(f"Expected {file} to hold a list of names, {{folder: name}} or COCO's categories") from None
