"""Embeddings on disk: Parquet shards (id, label, vector) and one JSON file of provenance, in open formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipnb._checks import whole_number
from clipnb._files import path_of, read_text, write_atomically
from clipnb._format import first_line
from clipnb.errors import InputError

PROVENANCE = "provenance.json"
# The number is raised with every change that makes older vectors incomparable; stores of another format raise.
FORMAT = "clipnb-embeddings-2"
OLDER_FORMATS = ("clipnb-embeddings-1",)  # the fingerprints of format 1 left out the model's settings
PRECISION_CHECK = "precision_check"  # a measurement in the provenance, which is not part of a store's identity
SKIPPED = b"skipped"  # key in a shard's metadata, with JSON of id -> reason


@dataclass(frozen=True)
class Embeddings:
    """Vectors of N images with their labels and provenance.

    Attributes:
        vectors: (N, D) float32, rows of unit norm.
        labels: (N,) int64 class indices, -1 = unknown.
        ids: N strings.
        classnames: C strings.
        provenance: model, fingerprints and data set.
        skipped: id -> reason, for images that could not be read and have no vector.
    """

    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ids: list[str]
    classnames: list[str]
    provenance: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = len(self.vectors), len(self.labels), len(self.ids)
        if len(set(lengths)) > 1:
            raise InputError(
                "Expected `vectors`, `labels` and `ids` of one length N, "
                f"got {lengths[0]}, {lengths[1]} and {lengths[2]}"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def concatenate(cls, parts: list[Embeddings]) -> Embeddings:
        """Join parts of one data set in order.

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
        """Write the store.

        Args:
            folder: a new or empty folder, or one with an unfinished store of the same vectors.
            shard_size: number of images in a file.

        Raises:
            InputError: the folder holds something else.
        """
        whole_number(shard_size, "shard_size", 1, 10**9)
        writer = StoreWriter(folder, self.provenance | {"n": len(self)}, self.classnames, shard_size)
        for start in range(0, len(self), shard_size):
            part = slice(start, start + shard_size)
            writer.write(start, Embeddings(self.vectors[part], self.labels[part], self.ids[part], self.classnames))

    @classmethod
    def load(cls, folder: str | Path) -> Embeddings:
        """Read a complete store.

        Raises:
            InputError: there is no store, or a shard is missing, broken or of the wrong size.
        """
        return cls.concatenate(list(cls.shards(folder)))

    @classmethod
    def shards(cls, folder: str | Path) -> Iterator[Embeddings]:
        """Read a complete store shard by shard, for stores larger than memory.

        Raises:
            InputError: as in `load`; a wrong number of vectors is only noticed after the last shard.
        """
        folder = path_of(folder, "folder")
        header = _read_header(folder)
        if header is None:
            raise InputError(f"Expected an embeddings store (a folder with {PROVENANCE}), got {folder}")
        n = header["provenance"]["n"]
        images = 0
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
            images += len(part) + len(part.skipped)
            yield part
        if images != n:
            raise InputError(f"Expected {n} images in {folder}, got {images}; delete the folder and encode again")


class StoreWriter:
    """Writes shards atomically, so that an interruption at any moment leaves only complete shards."""

    def __init__(self, folder: str | Path, provenance: dict[str, Any], classnames: list[str], shard_size: int) -> None:
        self.folder = path_of(folder, "folder")
        header = {"format": FORMAT, "shard_size": shard_size, "provenance": provenance, "classnames": list(classnames)}
        present = _read_header(self.folder)
        if present is not None and _identity(present) != _identity(header):
            differences = _differences(present["provenance"], provenance)
            raise InputError(
                f"The store {self.folder} belongs to something else "
                f"({'; '.join(differences) or 'other classnames or shard size'}); name another folder"
            )
        if present is None:
            # Temporary files are those of another run that is starting in the same folder.
            if self.folder.exists() and (
                not self.folder.is_dir() or any(file.suffix != ".tmp" for file in self.folder.iterdir())
            ):
                raise InputError(f"Expected a new or empty folder for the store, got {self.folder}")
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / PROVENANCE, json.dumps(header, indent=1, ensure_ascii=False).encode())

    def has(self, start: int) -> bool:
        """Whether the shard that begins at image `start` is written."""
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
        pq.write_table(table, sink, write_page_checksum=True)  # so that reading notices a flipped bit
        write_atomically(self.folder / _shard_name(start), sink.getvalue())


def read_provenance(folder: str | Path | None) -> dict[str, Any] | None:
    """The provenance of the store in `folder`, complete or not; None if there is no store.

    Raises:
        InputError: the provenance cannot be read.

    >>> read_provenance("no/such/folder") is None
    True
    """
    header = _read_header(Path(folder)) if folder is not None else None
    return header and header["provenance"]


def read_skipped(folder: str | Path) -> dict[str, str]:
    """Id -> reason of the images without a vector in a complete store, read without the vectors."""
    skipped = {}
    for path in sorted(Path(folder).glob("part-*.parquet")):
        with _named(path):
            skipped |= json.loads((pq.read_schema(path).metadata or {}).get(SKIPPED, b"{}"))
    return skipped


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn an error in reading a shard into an `InputError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            f"The store {path.parent} is not complete ({path.name} is missing); "
            "run the same `clipnb encode` again to finish it"
        ) from None
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError, AttributeError) as error:
        raise InputError(
            f"Cannot read shard {path}: {first_line(error)}; delete it and run the same `clipnb encode` again"
        ) from None


def _shard_name(start: int) -> str:
    return f"part-{start:09d}.parquet"


def _identity(header: dict[str, Any]) -> dict[str, Any]:
    """The part of a header in which two stores of the same vectors agree."""
    provenance = {key: value for key, value in header["provenance"].items() if key != PRECISION_CHECK}
    return header | {"provenance": provenance}


def _differences(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """The entries in which two provenances differ, in words; nested mappings are compared entry by entry."""
    differences = []
    for key in sorted({*stored, *current} - {PRECISION_CHECK}):
        there = stored.get(key)
        now = current.get(key)
        if isinstance(there, dict) and isinstance(now, dict):
            differences += [f"{key}.{part}" for part in _differences(there, now)]
        elif there != now:
            differences.append(f"{key}: {there!r} there, {now!r} now")
    return differences


def _read_header(folder: Path) -> dict[str, Any] | None:
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
            raise ValueError("classnames are not a list of strings")
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
