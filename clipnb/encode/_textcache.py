"""Text vectors kept on disk between runs, so that a model encodes a prompt once.

They are in one SQLite file in the user's cache folder (`CLIPNB_CACHE` names another one; empty: nothing is kept).
The file may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs

MAX_BYTES = 2**30  # above it the older half is dropped
# Part of every key. Raise it with every change of what a model's text fingerprint covers or of how vectors are
# computed: entries of other versions are then never found (version 1 left out the architecture's settings).
VERSION = 2
CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def cache_folder() -> Path | None:
    """Where clipnb keeps what it can compute again; None if `CLIPNB_CACHE` is empty or no home folder can be reached.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, {"CLIPNB_CACHE": ""}):
    ...     cache_folder() is None
    True
    """
    named = os.environ.get("CLIPNB_CACHE")
    if named == "":
        return None
    try:
        folder = Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("clipnb", appauthor=False))
        folder.exists()
    except (OSError, RuntimeError):  # no home folder, or one that may not be entered
        return None
    return folder


class TextCache:
    """Vectors by (text fingerprint of a model, prompt).

    Several processes may use one file. It only ever saves time: a vector that is missing or damaged is computed
    again, and a file that cannot be read or written (no rights, full disk, locked too long) is not used.
    Prompts are stored as hashes, not as texts.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     TextCache(Path(folder, "texts.sqlite"), "f").keep({"dog": np.ones(2, dtype=np.float32)})
    ...     TextCache(Path(folder, "texts.sqlite"), "f").find(["dog", "cat"])
    {'dog': array([1., 1.], dtype=float32)}
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def find(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Vectors (D,) float32 of those texts that are kept."""
        vectors: dict[str, np.ndarray] = {}
        if not self.path.is_file():
            return vectors
        with self._forgiving(), self._open() as database:
            by_key = {self._key(text): text for text in texts}
            keys = list(by_key)
            for start in range(0, len(keys), 900):  # SQLite's oldest limit is 999 a query
                part = keys[start : start + 900]
                query = f"SELECT key, entry FROM vectors WHERE key IN ({','.join('?' * len(part))})"
                for key, entry in database.execute(query, part):
                    vector = _unpack(key, entry)
                    if vector is not None:
                        vectors[by_key[key]] = vector
        return vectors

    def keep(self, vectors: dict[str, np.ndarray]) -> None:
        """Add vectors, all of them or, when the process is killed, none."""
        entries = [(key, _pack(key, vector)) for key, vector in ((self._key(text), v) for text, v in vectors.items())]
        with self._forgiving(), self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS vectors (place INTEGER PRIMARY KEY, key BLOB UNIQUE, entry BLOB)"
            )
            database.executemany("INSERT OR REPLACE INTO vectors (key, entry) VALUES (?, ?)", entries)
            if self.path.stat().st_size > MAX_BYTES:  # SQLite fills the freed pages again: the file grows no further
                (middle,) = database.execute("SELECT avg(place) FROM vectors").fetchone()
                database.execute("DELETE FROM vectors WHERE place < ?", (middle,))

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{VERSION}\0{self.fingerprint}\0{text}".encode()).digest()[:16]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as database, database:
            database.execute("PRAGMA synchronous = OFF")  # a cache that is lost in a crash is computed again
            yield database

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """End the transaction silently if the file fails; a broken file is removed."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) in CORRUPT:
                self.path.unlink(missing_ok=True)
        except OSError:
            pass


def _pack(key: bytes, vector: np.ndarray) -> bytes:
    content = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return zlib.crc32(key + content).to_bytes(4, "big") + content


def _unpack(key: bytes, entry: object) -> np.ndarray | None:
    """The vector, or None if any bit of it has changed since it was written."""
    if not isinstance(entry, bytes) or len(entry) < 8 or zlib.crc32(key + entry[4:]).to_bytes(4, "big") != entry[:4]:
        return None
    try:
        return np.frombuffer(entry[4:], dtype="<f4")
    except ValueError:
        return None
