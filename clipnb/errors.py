"""The one exception that stands for "what you gave me cannot be used", and the checks that raise it."""

from __future__ import annotations

import numpy as np


class InputError(ValueError):
    """An argument, file or folder that cannot be used; its text is one line: what, where, expected, got, way out."""


def as_numpy(value, name: str) -> np.ndarray:
    """Return `value` (array, torch tensor on any device, or nested list) as a NumPy array without copying if possible.

    >>> as_numpy([1, 2], "labels")
    array([1, 2])
    """
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
        value = value.float().numpy() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value.numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Expected `{name}` to be a rectangular array, got {error}") from None
    if array.dtype == object or array.dtype.kind in "USV":
        raise InputError(f"Expected `{name}` to hold numbers, got {array.dtype} ({type(value).__name__})")
    return array


def floats(value, name: str, ndim: int, finite: bool = True) -> np.ndarray:
    """Check a float array of `ndim` dimensions; integers are converted, NaN and inf refused unless `finite=False`.

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


def class_indices(value, name: str, length: int | None = None, num_classes: int | None = None,
                  unknown: bool = False) -> np.ndarray:
    """Check a vector of class indices in [0, num_classes); -1 ("unknown") passes only with `unknown=True`.

    >>> class_indices([0, 2], "labels", num_classes=3)
    array([0, 2])
    """
    array = as_numpy(value, name)
    if array.ndim != 1 or (length is not None and len(array) != length):
        want = "(N,)" if length is None else f"(N,) = ({length},)"
        raise InputError(f"Expected `{name}` of shape {want}, got {array.shape}")
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"Expected `{name}` to hold integers (class indices), got {array.dtype}")
    array = array.astype(np.int64, copy=False)
    lowest = -1 if unknown else 0
    if array.size and array.min() < lowest:
        hint = " (-1 stands for an unknown label)" if unknown else ""
        raise InputError(f"Expected `{name}` >= {lowest}{hint}, got {array.min()} at position {array.argmin()}")
    if num_classes is not None and array.size and array.max() >= num_classes:
        raise InputError(f"Expected `{name}` < {num_classes} (the number of classes), "
                         f"got {array.max()} at position {array.argmax()}")
    return array


def booleans(value, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Check an array of truth values (booleans, or 0 and 1) of `shape`; -1 or NaN would silently count as true.

    >>> booleans([1, 0], "positives", (2,))
    array([ True, False])
    """
    array = as_numpy(value, name)
    if array.shape != shape:
        raise InputError(f"Expected `{name}` of shape {shape}, got {array.shape}")
    if not ((array == 0) | (array == 1)).all():
        raise InputError(f"Expected `{name}` to hold booleans (or 0 and 1), got other values such as "
                         f"{array[(array != 0) & (array != 1)][0]}")
    return array.astype(bool)


def whole_number(value, name: str, lowest: int, highest: int | None = None) -> int:
    """Check an integer argument inside [lowest, highest].

    >>> whole_number(5, "k", 1, 10)
    5
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InputError(f"Expected `{name}` to be a whole number, got {value!r}")
    if value < lowest or (highest is not None and value > highest):
        span = f">= {lowest}" if highest is None else f"between {lowest} and {highest}"
        raise InputError(f"Expected `{name}` {span}, got {value}")
    return int(value)


def one_of(value, name: str, allowed) -> str:
    """Check that a named option is one of `allowed`.

    >>> one_of("image", "reduction", ("image", "class"))
    'image'
    """
    if value not in allowed:
        raise InputError(f"Expected `{name}` to be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value
