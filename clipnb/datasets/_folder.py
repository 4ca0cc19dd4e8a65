"""`folder:PATH`: one folder a class, named as the class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipnb._files import path_of
from clipnb.datasets._images import (
    BROKEN_LINKS,
    HIDDEN,
    NOT_IMAGES,
    LabeledImages,
    clean_name,
    is_hidden,
    readable_text,
    some,
    state,
    why_not,
)
from clipnb.errors import InputError

REPEATED = "links to folders that are read anyway"
UNREADABLE = "folders that cannot be opened"
NO_CLASS = "images beside the class folders, which have no class"
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}

LeaveOut = Callable[[str, str], None]  # (reason, id)


def existing_folder(path: str, spec: str) -> Path:
    """The folder that a spec names."""
    folder = path_of(path or ".", "dataset").expanduser()
    if not path or not folder.is_dir():
        raise InputError(f"Expected an existing folder in {spec!r}, got {path or '(nothing)'}")
    return folder


def identity(path: Path, root: Path) -> str:
    """The id of a file: its path below the root, as Unicode."""
    return readable_text(path.relative_to(root).as_posix())


def ledger() -> tuple[dict[str, list[str]], LeaveOut]:
    """An empty record of what is left out, and the function that adds an item to it.

    >>> left_out, leave_out = ledger()
    >>> leave_out("broken links", "cat/a.png")
    >>> left_out
    {'broken links': ['cat/a.png']}
    """
    left_out: dict[str, list[str]] = {}

    def leave_out(reason: str, item: str) -> None:
        left_out.setdefault(reason, []).append(item)

    return left_out, leave_out


def images_below(folder: Path, root: Path, leave_out: LeaveOut, deep: bool = True) -> list[Path]:
    """The images in a folder and below it, sorted; links are followed, and everything else is recorded.

    Args:
        folder: the folder to search.
        root: the folder that ids are relative to.
        leave_out: called with (reason, id) for everything that is not an image.
        deep: whether to search the folders below; if not, these are skipped and not recorded.
    """
    images: list[Path] = []
    seen = {_inode(place) for place in (folder, *folder.resolve().parents)}  # a link to one of them would never end

    def visit(place: Path) -> None:
        try:
            # Folders themselves come before links to them, whichever name is first.
            entries = sorted(os.scandir(place), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError:
            leave_out(UNREADABLE, identity(place, root) + "/")
            return
        for entry in entries:
            path = Path(entry.path)
            if os.path.isdir(entry.path):
                if not deep:
                    continue
                if is_hidden(entry.name):
                    leave_out(HIDDEN, identity(path, root) + "/")
                elif (inode := _inode(path)) in seen:
                    leave_out(REPEATED, identity(path, root))
                else:
                    seen.add(inode)
                    visit(path)
            elif not os.path.isfile(entry.path) and not is_hidden(entry.name):  # a link to nothing, or a device
                leave_out(BROKEN_LINKS if entry.is_symlink() else NOT_IMAGES, identity(path, root))
            elif reason := why_not(entry.name, lambda path=path: path):
                leave_out(reason, identity(path, root))
            else:
                images.append(path)

    visit(folder)
    return sorted(images)


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def from_files(
    spec: str, root: Path, files: list[Path], labels: npt.ArrayLike, classnames: list[str], **facts: Any
) -> LabeledImages:
    """The set of these files; `facts` are further fields of `LabeledImages`."""
    return LabeledImages(
        spec,
        [identity(file, root) for file in files],
        np.asarray(labels, dtype=np.int64),
        classnames,
        lambda i: Image.open(files[i]),
        versions=[state(file) for file in files],
        **facts,
    )


def open_folder(spec: str, path: str) -> LabeledImages:
    """A class for each folder in `path`; without such folders, the images of `path`, unlabelled."""
    root = existing_folder(path, spec)
    left_out, leave_out = ledger()
    top = images_below(root, root, leave_out, deep=False)
    folders = []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if os.path.isdir(entry.path):
            if is_hidden(entry.name):
                leave_out(HIDDEN, readable_text(entry.name) + "/")
            else:
                folders.append(Path(entry.path))
    by_folder = {folder: images_below(folder, root, leave_out) for folder in folders}
    make = partial(from_files, spec, root, turned=True)
    if not any(by_folder.values()):  # no class folders: a set without labels
        return make(top, [-1] * len(top), [], left_out=left_out)
    for file in top:
        leave_out(NO_CLASS, identity(file, root))
    _refuse_splits(root, folders)
    if empty := [folder for folder, files in by_folder.items() if not files]:
        raise InputError(
            f"Expected images in every class folder of {root}, found none in {len(empty)}: "
            f"{some([readable_text(f.name) for f in empty])}"
            f"{_found_instead(left_out, empty, root)}; remove such a folder or add images"
        )
    names = [_classname(folder, root) for folder in folders]
    classnames = list(dict.fromkeys(names))
    place = {name: label for label, name in enumerate(classnames)}
    labels = {file: place[name] for folder, name in zip(folders, names) for file in by_folder[folder]}
    remarks = [*_renamed(folders, names), *_nested(by_folder, root)]
    return make(list(labels), list(labels.values()), classnames, left_out=left_out, remarks=tuple(remarks))


def _classname(folder: Path, root: Path) -> str:
    try:
        name = clean_name(os.fsencode(folder.name).decode("utf-8").replace("_", " "))
    except UnicodeDecodeError:
        raise InputError(
            f"Expected names of class folders in UTF-8 in {root}, got {readable_text(folder.name)!r}; rename the folder"
        ) from None
    if not name:
        raise InputError(f"Expected folders of {root} to be named as classes, got {folder.name!r}; rename the folder")
    return name


def _refuse_splits(root: Path, folders: list[Path]) -> None:
    names = [folder.name for folder in folders]
    if all(name.casefold() in SPLITS for name in names):
        raise InputError(
            f"Expected one folder a class in {root}, got the {'split' if len(names) == 1 else 'splits'} "
            f"{', '.join(names)}; give one of them: folder:{folders[0]}"
        )


def _found_instead(left_out: dict[str, list[str]], folders: list[Path], root: Path) -> str:
    starts = tuple(identity(folder, root) + "/" for folder in folders)
    reasons = [reason for reason, items in left_out.items() if any(item.startswith(starts) for item in items)]
    return f" (only {', '.join(reasons)})" if reasons else ""


def _renamed(folders: list[Path], names: list[str]) -> list[str]:
    """Remarks on folders whose class has another name (except for "_" as a blank), or that share a class."""
    own = [readable_text(folder.name) for folder in folders]
    changed = [f"{old!a} as {new!a}" for old, new in zip(own, names) if old.replace("_", " ") != new]
    remarks = (
        [f"{len(changed)} folder names are read without odd blanks and in composed Unicode: {some(changed)}"]
        if changed
        else []
    )
    for name in (name for name, times in Counter(names).items() if times > 1):
        same = [ascii(old) for old, new in zip(own, names) if new == name]
        remarks.append(f"the folders {' and '.join(same)} are one class, {name!r}")
    return remarks


def _nested(by_folder: dict[Path, list[Path]], root: Path) -> list[str]:
    below = [file for folder, files in by_folder.items() for file in files if file.parent != folder]
    if not below:
        return []
    places = list(dict.fromkeys(identity(file.parent, root) for file in below))
    return [
        f"{len(below)} images are in folders inside class folders and count for the class folder above ({some(places)})"
    ]
