"""Embeddings on disk: Parquet shards (id, label, vector) and one JSON of provenance, readable by anyone's tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipnb._checks import whole_number
from clipnb._files import path_of, read_text, write_atomically
from clipnb._format import first_line
from clipnb.errors import InputError

PROVENANCE = "provenance.json"
# Raise it with every change that makes older vectors incomparable; stores of another format are refused.
FORMAT = "clipnb-embeddings-2"
OLDER_FORMATS = ("clipnb-embeddings-1",)  # whose fingerprints left out the model's settings
PRECISION_CHECK = "precision_check"  # a measurement in the provenance, which is not part of a store's identity
SKIPPED = b"skipped"  # in a shard's metadata: JSON of id -> reason


@dataclass(frozen=True)
class Embeddings:
    """Vectors of N images with what they belong to.

    `vectors` (N, D) float32 of unit norm, `labels` (N,) int64 with -1 = unknown, `ids` N strings, `classnames` C
    strings, `provenance` a dict (model, fingerprints, data set), `skipped` the reason for each id of an image that could
    not be read and has no vector.
    """

    vectors: np.ndarray
    labels: np.ndarray
    ids: list[str]
    classnames: list[str]
    provenance: dict = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if not len(self.vectors) == len(self.labels) == len(self.ids):
            raise InputError(
                f"Expected `vectors`, `labels` and `ids` of one length N, got {len(self.vectors)}, {len(self.labels)} and {len(self.ids)}"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def concatenate(cls, parts: list[Embeddings]) -> Embeddings:
        """Join parts of one set in order.

        >>> part = Embeddings(np.eye(2, dtype=np.float32), np.array([0, 1]), ["a", "b"], ["x", "y"])
        >>> len(Embeddings.concatenate([part, part]))
        4
        """
        if not parts:
            raise InputError("Expected at least one image, got none")
        return cls(
            np.concatenate([p.vectors for p in parts]),
            np.concatenate([p.labels for p in parts]),
            [i for p in parts for i in p.ids],
            parts[0].classnames,
            parts[0].provenance,
            {i: why for p in parts for i, why in p.skipped.items()},
        )

    def save(self, folder: str | Path, shard_size: int = 4096) -> None:
        """Write the store; an existing store of something else is refused."""
        whole_number(shard_size, "shard_size", 1, 10**9)
        writer = StoreWriter(folder, self.provenance | {"n": len(self)}, self.classnames, shard_size)
        for start in range(0, len(self), shard_size):
            part = slice(start, start + shard_size)
            writer.write(start, Embeddings(self.vectors[part], self.labels[part], self.ids[part], self.classnames))

    @classmethod
    def load(cls, folder: str | Path) -> Embeddings:
        """Read a complete store.

        Raises:
            InputError: no store is there, a shard is missing, broken or of the wrong size.
        """
        return cls.concatenate(list(cls.shards(folder)))

    @classmethod
    def shards(cls, folder: str | Path) -> Iterator[Embeddings]:
        """Read a complete store shard by shard, for one that is larger than memory.

        Raises:
            InputError: as `load`; a wrong number of vectors shows after the last shard only.
        """
        folder = path_of(folder, "folder")
        header = _read_header(folder)
        if header is None:
            raise InputError(f"Expected an embeddings store (a folder with {PROVENANCE}), got {folder}")
        n, found = header["provenance"]["n"], 0
        for start in range(0, n, header["shard_size"]):
            path = folder / _shard_name(start)
            with _named(path):
                table = pq.read_table(path, page_checksum_verification=True)
                vectors = table["vector"].combine_chunks()
                part = cls(
                    vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size).astype(np.float32, copy=False),
                    table["label"].to_numpy(),
                    table["id"].to_pylist(),
                    header["classnames"],
                    header["provenance"],
                    json.loads((table.schema.metadata or {}).get(SKIPPED, b"{}")),
                )
            found += len(part) + len(part.skipped)
            yield part
        if found != n:
            raise InputError(f"Expected {n} images in {folder}, got {found}; delete the folder and encode again")


class StoreWriter:
    """Writes shards atomically, so that a kill at any moment leaves whole shards or none."""

    def __init__(self, folder: str | Path, provenance: dict, classnames: list[str], shard_size: int):
        self.folder = path_of(folder, "folder")
        header = {"format": FORMAT, "shard_size": shard_size, "provenance": provenance, "classnames": list(classnames)}
        present = _read_header(self.folder)
        if present is not None and _binding(present) != _binding(header):
            theirs, ours = present["provenance"], provenance
            differs = _differences(theirs, ours)
            raise InputError(
                f"The store {self.folder} belongs to something else "
                f"({'; '.join(differs) or 'other classnames or shard size'}); name another folder"
            )
        if present is None:
            if self.folder.exists() and (
                not self.folder.is_dir() or any(file.suffix != ".tmp" for file in self.folder.iterdir())
            ):  # of another run that just begins
                raise InputError(f"Expected a new or empty folder for the store, got {self.folder}")
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / PROVENANCE, json.dumps(header, indent=1, ensure_ascii=False).encode())

    def has(self, start: int) -> bool:
        """Whether the shard that begins at image `start` was written."""
        return (self.folder / _shard_name(start)).is_file()

    def write(self, start: int, part: Embeddings) -> None:
        """Write the shard that begins at image `start`."""
        width = part.vectors.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.vectors.astype(np.float32).reshape(-1)), width)
        table = pa.table(
            {"id": pa.array(part.ids, pa.string()), "label": pa.array(part.labels, pa.int64()), "vector": vectors}
        )
        if part.skipped:
            table = table.replace_schema_metadata({SKIPPED: json.dumps(part.skipped)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, write_page_checksum=True)  # a flipped bit is found when it is read
        write_atomically(self.folder / _shard_name(start), sink.getvalue())


def read_provenance(folder: str | Path | None) -> dict | None:
    """The provenance of the store in that folder, complete or not; None if there is no store.

    Raises:
        InputError: there is one that cannot be read.

    >>> read_provenance("no/such/folder") is None
    True
    """
    header = _read_header(Path(folder)) if folder is not None else None
    return header and header["provenance"]


def read_skipped(folder: str | Path) -> dict[str, str]:
    """Reason by id of the images that a complete store has no vector of, without reading the vectors."""
    found = {}
    for path in sorted(Path(folder).glob("part-*.parquet")):
        with _named(path):
            found |= json.loads((pq.read_schema(path).metadata or {}).get(SKIPPED, b"{}"))
    return found


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the shard that is missing or cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            f"The store {path.parent} is not complete ({path.name} is missing); run the same `clipnb encode` again to finish it"
        ) from None
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError, AttributeError) as error:
        raise InputError(
            f"Cannot read shard {path}: {first_line(error)}; delete it and run the same `clipnb encode` again"
        ) from None


def _shard_name(start: int) -> str:
    return f"part-{start:09d}.parquet"


def _binding(header: dict) -> dict:
    return header | {
        "provenance": {key: value for key, value in header["provenance"].items() if key != PRECISION_CHECK}
    }


def _differences(theirs: dict, ours: dict) -> list[str]:
    """Where two provenances differ, in words; of a mapping inside, the entries that differ."""
    found = []
    for key in sorted({*theirs, *ours} - {PRECISION_CHECK}):
        there, now = theirs.get(key), ours.get(key)
        if isinstance(there, dict) and isinstance(now, dict):
            found += [f"{key}.{part}" for part in _differences(there, now)]
        elif there != now:
            found.append(f"{key}: {there!r} there, {now!r} now")
    return found


def _read_header(folder: Path) -> dict | None:
    path = folder / PROVENANCE
    if not path.is_file():
        return None
    try:
        header = json.loads(read_text(path))
        if header["format"] not in (FORMAT, *OLDER_FORMATS):
            raise ValueError(f"format {header['format']!r}")
        for name, value in (("n", header["provenance"]["n"]), ("shard_size", header["shard_size"])):
            whole_number(value, name, 1)
        if not isinstance(header["classnames"], list) or not all(
            isinstance(name, str) for name in header["classnames"]
        ):
            raise ValueError("classnames that are no list of strings")
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise InputError(
            f"Cannot read {path}: expected the provenance of a {FORMAT} store, got {type(error).__name__}: {error}"
        ) from None
    if header["format"] != FORMAT:
        raise InputError(
            f"The store {folder} was written by an older version of clipnb (format {header['format']}), "
            "which did not record the model's settings: delete it or name another folder, and encode again"
        )
    return header
