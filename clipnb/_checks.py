"""Checks of arguments: each returns the value in the form that the caller works with, or raises `InputError`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipnb.errors import InputError

MAX_RESAMPLES = 100_000  # more bootstrap samples would only take more memory
MAX_CLASS_INDEX = 10**9  # a larger index is a mistake; an unsigned 2^64 - 1 would turn into -1


def as_numpy(value: npt.ArrayLike, name: str) -> np.ndarray:
    """Return `value` (array, torch tensor on any device, or nested list) as a NumPy array without copying if possible.

    >>> as_numpy([1, 2], "labels")
    array([1, 2])
    """
    if hasattr(value, "detach"):  # a torch tensor, recognised without importing torch
        value = _tensor_to_numpy(value, name)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Expected `{name}` to be a rectangular array, got {error}") from None
    if array.dtype == object or array.dtype.kind in "USV":
        raise InputError(f"Expected `{name}` to hold numbers, got {array.dtype} ({type(value).__name__})")
    return array


def _tensor_to_numpy(tensor: Any, name: str) -> np.ndarray:
    try:
        tensor = tensor.detach().cpu()
        return tensor.float().numpy() if str(tensor.dtype) in ("torch.bfloat16", "torch.float16") else tensor.numpy()
    except (NotImplementedError, RuntimeError, TypeError, AttributeError) as error:
        # The tensor holds no data (device "meta"), or its layout is sparse.
        reason = str(error).splitlines()[0][:200]
        raise InputError(f"Expected `{name}` to hold values in memory, got a tensor without: {reason}") from None


def floats(value: npt.ArrayLike, name: str, ndim: int, finite: bool = True) -> np.ndarray:
    """Check a float array of `ndim` dimensions; integers are converted, NaN and inf raise unless `finite=False`.

    >>> floats([[1, 2]], "vectors", 2).dtype
    dtype('float64')
    """
    array = as_numpy(value, name)
    if array.ndim != ndim:
        raise InputError(f"Expected `{name}` to have {ndim} dimension(s), got shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise InputError(f"Expected `{name}` to hold real numbers, got {array.dtype}")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if finite and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(f"Expected `{name}` to be finite, got {bad} NaN or infinite value(s)")
    return array


def class_indices(
    value: npt.ArrayLike, name: str, length: int | None = None, num_classes: int | None = None, unknown: bool = False
) -> np.ndarray:
    """Check a vector of class indices in [0, num_classes); -1 ("unknown") passes only with `unknown=True`.

    >>> class_indices([0, 2], "labels", num_classes=3)
    array([0, 2])
    """
    array = as_numpy(value, name)
    if array.ndim != 1 or (length is not None and len(array) != length):
        shape = "(N,)" if length is None else f"(N,) = ({length},)"
        raise InputError(f"Expected `{name}` of shape {shape}, got {array.shape}")
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"Expected `{name}` to hold integers (class indices), got {array.dtype}")
    if array.size and array.max() > MAX_CLASS_INDEX:
        raise InputError(f"Expected `{name}` to hold class indices, got {array.max()} at position {array.argmax()}")
    array = array.astype(np.int64, copy=False)
    lowest = -1 if unknown else 0
    if array.size and array.min() < lowest:
        hint = " (-1 stands for an unknown label)" if unknown else ""
        raise InputError(f"Expected `{name}` >= {lowest}{hint}, got {array.min()} at position {array.argmin()}")
    if num_classes is not None and array.size and array.max() >= num_classes:
        raise InputError(
            f"Expected `{name}` < {num_classes} (the number of classes), got {array.max()} at position {array.argmax()}"
        )
    return array


def named_indices(
    values, name: str, classnames: list[str], length: int | None = None, unknown: bool = False
) -> np.ndarray:
    """Class indices (N,) from indices or from names; with `unknown`, None and NaN become -1, as -1 stays.

    >>> named_indices(["dog", None], "labels", ["cat", "dog"], unknown=True)
    array([ 1, -1])
    """
    array = values if hasattr(values, "detach") else _any_array(values, name)
    if hasattr(values, "detach") or array.dtype.kind not in "OUS":
        return class_indices(array, name, length, len(classnames), unknown)
    if array.ndim != 1 or (length is not None and len(array) != length):
        want = "(N,)" if length is None else f"(N,) = ({length},)"
        raise InputError(f"Expected `{name}` of shape {want}, got {array.shape}")
    place: dict[str, int] = {}
    for i, text in enumerate(classnames):
        if place.setdefault(text, i) != i:
            raise InputError(
                f"Expected class indices in `{name}`, got names, and {text!r} is in `classnames` more than once"
            )
    return np.array([_named_index(value, name, place, unknown, i) for i, value in enumerate(array.tolist())], np.int64)


def _named_index(value, name: str, place: dict[str, int], unknown: bool, position: int) -> int:
    if isinstance(value, str) and value in place:
        return place[value]
    if isinstance(value, int) and not isinstance(value, bool) and -1 + (not unknown) <= value < len(place):
        return value
    if unknown and (value is None or (isinstance(value, float) and value != value)):
        return -1
    raise InputError(
        f"Expected `{name}` among the {len(place)} classnames, or class indices, got {format_value(value)} at position "
        f"{position}"
    )


def _any_array(values, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
        return array if array.dtype.kind not in "US" else np.asarray(values, dtype=object)  # numbers among texts stay
    except ValueError as error:
        raise InputError(f"Expected `{name}` to be a rectangular array, got {error}") from None


def rows_of(values, name: str, length: int) -> np.ndarray:
    """An array (`length`, K) of any kind, K >= 1.

    >>> rows_of([["cat", "dog"]], "topk", 1).shape
    (1, 2)
    """
    array = as_numpy(values, name) if hasattr(values, "detach") else _any_array(values, name)
    if array.ndim != 2 or len(array) != length or not array.shape[1]:
        raise InputError(f"Expected `{name}` of shape (N, K) = ({length}, K), K >= 1, got {array.shape}")
    return array


def unique_indices(value: npt.ArrayLike, name: str, length: int) -> np.ndarray:
    """Check a non-empty list of different indices from 0 to `length` - 1.

    >>> unique_indices([2, 0], "indices", 3)
    array([2, 0])
    """
    indices = class_indices(value, name)
    if not len(indices) or indices.max() >= length or len(np.unique(indices)) < len(indices):
        raise InputError(
            f"Expected `{name}` as indices from 0 to {length - 1}, each once, got {format_value(indices.tolist())}"
        )
    return indices


def booleans(value: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Check an array of truth values (booleans, or 0 and 1) of `shape`; -1 or NaN would silently count as true.

    >>> booleans([1, 0], "positives", (2,))
    array([ True, False])
    """
    array = as_numpy(value, name)
    if array.shape != shape:
        raise InputError(f"Expected `{name}` of shape {shape}, got {array.shape}")
    others = array[(array != 0) & (array != 1)]
    if len(others):
        raise InputError(f"Expected `{name}` to hold booleans (or 0 and 1), got other values such as {others[0]}")
    return array.astype(bool)


def whole_number(value: object, name: str, lowest: int, highest: int | None = None) -> int:
    """Check an integer argument inside [lowest, highest].

    >>> whole_number(5, "k", 1, 10)
    5
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InputError(f"Expected `{name}` to be a whole number, got {format_value(value)}")
    if value < lowest or (highest is not None and value > highest):
        # A large upper bound only limits the memory used, so it is not mentioned where the value is too small.
        only_lowest = highest is None or (highest > 1000 and value < lowest)
        bounds = f">= {lowest}" if only_lowest else f"between {lowest} and {highest}"
        raise InputError(f"Expected `{name}` {bounds}, got {value}")
    return int(value)


def real_number(value: object, name: str) -> float:
    """Check that an argument is a real number; the caller checks its range and whether it may be NaN.

    >>> real_number(0.5, "temperature")
    0.5
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(f"Expected `{name}` to be a number, got {format_value(value)}")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"Expected `{name}` to be a number up to 1e308, got {format_value(value)}") from None


def generator(seed: int) -> np.random.Generator:
    """NumPy's random number generator for a seed >= 0; the seed is required so that results can be repeated.

    >>> int(generator(0).integers(10))
    8
    """
    return np.random.default_rng(whole_number(seed, "seed", 0))


def listed(values: Iterable[Any], name: str, what: str = "strings") -> list:
    """The items of an argument as a list; a single string raises, because Python would split it into letters.

    >>> listed(("cat", "dog"), "classnames")
    ['cat', 'dog']
    """
    if isinstance(values, str):
        raise InputError(f"Expected `{name}` to be a list of {what}, got the single string {format_value(values)}")
    try:
        return list(values)
    except TypeError:
        raise InputError(f"Expected `{name}` to be a list of {what}, got {format_value(values)}") from None


def text_of(value: object, name: str) -> str:
    """Check that an argument is a non-blank string that can be encoded in UTF-8 (no unpaired surrogates).

    >>> text_of("cat", "classname")
    'cat'
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"Expected `{name}` to be a non-empty string, got {format_value(value)}")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InputError(f"Expected `{name}` to be Unicode, got {format_value(value)}")
    return value


def texts_of(values: Iterable[str], name: str, length: int | None = None) -> list[str]:
    """Check a non-empty list of strings (`text_of`), optionally of a given length.

    >>> texts_of(("cat", "dog"), "titles", 2)
    ['cat', 'dog']
    """
    texts = [text_of(value, name) for value in listed(values, name)]
    if not texts or length not in (None, len(texts)):
        count = f"{length} texts" if length else "at least one text"
        raise InputError(f"Expected `{name}` to hold {count}, got {len(texts)}")
    return texts


def require_attribute(value: Any, name: str, attribute: str, source: str) -> Any:
    """Check that an argument has an `attribute` that every value from `source` has.

    >>> require_attribute([], "texts", "append", "a list")
    []
    """
    if not hasattr(value, attribute):
        raise InputError(f"Expected `{name}` from {source}, got {format_value(value)}")
    return value


def format_value(value: object) -> str:
    """The `repr` of a value for an error message, cut to one line of at most 120 characters.

    >>> format_value("cat")
    "'cat'"
    """
    text = repr(value)
    if len(text) <= 120 and "\n" not in text:
        return text
    return f"{text.splitlines()[0][:100]} ... ({type(value).__name__})"


def one_of(value: object, name: str, allowed: Sequence[str]) -> str:
    """Check that a named option is one of `allowed`.

    >>> one_of("image", "reduction", ("image", "class"))
    'image'
    """
    if not isinstance(value, str) or value not in allowed:  # `in` would compare an array element by element
        raise InputError(f"Expected `{name}` to be one of {', '.join(map(repr, allowed))}, got {format_value(value)}")
    return value
