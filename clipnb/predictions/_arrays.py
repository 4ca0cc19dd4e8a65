"""Predictions, scores and labels in NumPy files and arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipnb._checks import as_numpy, listed
from clipnb._files import path_of
from clipnb._format import first_line
from clipnb.errors import InputError
from clipnb.predictions import _source
from clipnb.predictions._source import CLASS_SCORES, NAMES, Source


def open_numpy(path: Path) -> Source:
    """`.npy`, `.npz`: each array a column; of a matrix, a row is a list."""
    arrays = _members(path)
    scores = next((name for name in CLASS_SCORES if name in arrays), None)
    if len(arrays) == 1 and scores is None and next(iter(arrays.values()))[0][1:]:
        arrays = {"scores": next(iter(arrays.values()))}
    lengths = {name: shape[0] for name, (shape, _, _) in arrays.items() if shape and name not in NAMES}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"Expected arrays of one length in {path}, got {shown}")
    names = next((name for name in NAMES if name in arrays), None)
    known = None
    if names is not None:
        known = [str(name) for block in arrays[names][2](2**20) for name in block.tolist()]

    def kind(shape: tuple[int, ...], dtype: np.dtype) -> pa.DataType:
        scalar = pa.string() if dtype.kind in "US" else pa.from_numpy_dtype(dtype)
        return pa.list_(scalar, shape[1]) if len(shape) == 2 else scalar

    columns: dict[str, pa.DataType | None] = {
        name: kind(shape, dtype)
        for name, (shape, dtype, _) in arrays.items()
        if len(shape) in (1, 2) and name not in NAMES
    }

    def blocks(wanted: list[str], _numbers: set[str]) -> Iterator[pa.Table]:
        width = max([1, *(arrays[name][0][1] for name in wanted if len(arrays[name][0]) == 2)])
        for parts in zip(*(arrays[name][2](_source.rows_a_block(width)) for name in wanted)):
            yield pa.table([_as_arrow(part) for part in parts], wanted)

    return Source(path, columns, blocks, known)


def _as_arrow(part: np.ndarray) -> pa.Array:
    part = part.astype(str) if part.dtype.kind == "S" else part
    if part.ndim == 1:
        return pa.array(part)
    return pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), part.shape[1])


def _members(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype, Callable[[int], Iterator[np.ndarray]]]]:
    """Arrays of a NumPy file: shape, type, and a function that yields blocks of that many rows."""
    if path.suffix != ".npz":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        name = "labels" if array.ndim == 1 else "scores"
        return {
            name: (array.shape, array.dtype, lambda rows: (array[i : i + rows] for i in range(0, len(array), rows)))
        }
    members = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                shape, fortran, dtype = _header(file)
            if dtype.hasobject:
                raise InputError(
                    f"Expected arrays of numbers or texts in {path}, got Python objects in {member}: save names as "
                    f".astype(str)"
                )
            if fortran and len(shape) > 1:
                raise InputError(
                    f"Expected arrays in C order in {path}, got {member}: numpy.ascontiguousarray makes one"
                )
            members[member.removesuffix(".npy")] = (shape, dtype, _member_blocks(path, member))
    return members


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    return (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)


def _member_blocks(path: Path, member: str) -> Callable[[int], Iterator[np.ndarray]]:
    def blocks(rows: int) -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            shape, _, dtype = _header(file)
            width = int(np.prod(shape[1:], dtype=np.int64))
            for start in range(0, shape[0] if shape else 0, rows):
                count = min(rows, shape[0] - start)
                data = file.read(count * width * dtype.itemsize)
                yield np.frombuffer(data, dtype, count * width).reshape(count, *shape[1:])

    return blocks


def given_labels(labels) -> np.ndarray:
    """Labels that come apart from the file, as an array (N,) of indices or names."""
    if isinstance(labels, (str, Path)):
        file = path_of(labels, "labels").expanduser()
        try:
            array = np.load(file, allow_pickle=False)
        except OSError as error:
            raise InputError(
                f"Expected `labels` in a .npy file, got {file}: {error.strerror or first_line(error)}"
            ) from None
        except (ValueError, EOFError) as error:
            raise InputError(f"Expected `labels` in a .npy file, got {file}: {first_line(error)}") from None
        if not isinstance(array, np.ndarray):
            raise InputError(f"Expected `labels` in a .npy file, got {file}, which holds several arrays")
    elif hasattr(labels, "detach"):
        array = as_numpy(labels, "labels")
    else:
        array = np.asarray(listed(labels, "labels", "labels"), dtype=object)
    if array.ndim != 1:
        raise InputError(f"Expected `labels` of shape (N,), got {array.shape}")
    return array
