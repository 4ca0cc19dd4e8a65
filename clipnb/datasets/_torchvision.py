"""`torchvision:NAME:PATH`: the test split of a torchvision set on disk; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clipnb._format import first_line
from clipnb.datasets._folder import existing_folder
from clipnb.datasets._images import LabeledImages
from clipnb.errors import InputError


def open_torchvision(spec: str, rest: str) -> LabeledImages:
    """A published set as torchvision reads it: EXIF rotation ignored, as in the published runs."""
    from torchvision import datasets as sets

    name, _, path = rest.partition(":")
    root = existing_folder(path, spec)
    known = [n for n in sets.__all__ if isinstance(getattr(sets, n), type)]
    if name not in known:
        raise InputError(f"Unknown torchvision set {name!r} in {spec!r}; known: {', '.join(known)}")
    data = _open(getattr(sets, name), root, spec)
    labels = next((getattr(data, a) for a in ("targets", "_labels", "labels", "y") if hasattr(data, a)), None)
    classnames = getattr(data, "classes", None) or getattr(data, "categories", None)
    if labels is None or classnames is None:
        raise InputError(f"torchvision's {name} does not say its labels and classnames; use folder:PATH instead")
    names = [c[0] if isinstance(c, tuple) else str(c).replace("_", " ") for c in classnames]
    return LabeledImages(
        spec,
        [f"{name}/{i}" for i in range(len(data))],
        np.asarray(labels, dtype=np.int64),
        names,
        lambda i: data[i][0],
        versions=[_files_version(root)] * len(data),
    )


def _files_version(root: Path) -> tuple[int, int, int]:
    """Number, size and latest change of all files below: torchvision's sets do not list their own."""
    states = [path.stat() for path in root.rglob("*") if path.is_file()]
    return len(states), sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


def _open(kind: Callable[..., Any], root: Path, spec: str) -> Any:
    # Each of torchvision's classes takes the test split in one of these ways.
    for options in ({"train": False}, {"split": "test"}, {"split": "val"}, {}):
        try:
            return kind(str(root), **options)
        except (TypeError, ValueError):
            continue
        except (RuntimeError, OSError) as error:
            raise InputError(f"Cannot open {spec!r}: {first_line(error)} (nothing is downloaded)") from None
    raise InputError(f"Cannot open {spec!r}: its constructor needs more than a folder and a split")
