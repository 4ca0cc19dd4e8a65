"""Vectors of the shipped image sets, kept in the user's cache so that a model encodes each set once.

They lie beside the text vectors (`cache_folder`), one file a model and set, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from clipnb._files import write_atomically
from clipnb.datasets import LabeledImages
from clipnb.encode._textcache import cache_folder
from clipnb.models import Model, WrappedModel

VERSION = 1  # part of every key; raise it when vectors of the same images are computed in another way
MAX_FILES = 24  # the files that were not read for the longest time are removed; each has up to 10 MB


def read_vectors(model: Model | WrappedModel, data: LabeledImages) -> np.ndarray | None:
    """(N, D) vectors of a shipped set, or of a part of one, that this model encoded before; None if there are none."""
    path = _path(model, data)
    if path is None:
        return None
    try:
        vectors = np.load(path, allow_pickle=False)
        path.touch()
    except (OSError, ValueError, EOFError):  # missing, damaged, or in a folder that cannot be written
        return None
    if vectors.shape != (len(data.versions), model.dimensions) or not np.isfinite(vectors).all():
        return None
    return vectors if data.positions is None else vectors[data.positions]


def keep_vectors(model: Model | WrappedModel, data: LabeledImages, vectors: np.ndarray) -> None:
    """Keep the vectors of a whole shipped set; of a part, or where nothing can be written, nothing is kept."""
    path = _path(model, data)
    if path is None or data.positions is not None:
        return
    content = io.BytesIO()
    np.save(content, vectors)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
        for old in sorted(path.parent.glob("*.npy"), key=lambda file: -file.stat().st_mtime)[MAX_FILES:]:
            old.unlink(missing_ok=True)


def _path(model: Model | WrappedModel, data: LabeledImages) -> Path | None:
    folder = cache_folder() if getattr(data, "shipped", False) else None
    if folder is None or model.text_fingerprint is None:  # nothing tells whether a wrapped function has changed
        return None
    key = [VERSION, model.fingerprint, model.precision, model.device.type, data.name, list(data.versions)]
    return folder / "images" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npy"
