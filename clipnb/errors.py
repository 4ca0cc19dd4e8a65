"""The one exception that stands for "what you gave me cannot be used", and the checks that raise it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

MOST_RESAMPLES = 100_000  # of a bootstrap: beyond it only memory grows
MOST_CLASSES = 10**9
MOST_BYTES = 512 * 2**20  # of a file of text that is read as a whole


class InputError(ValueError):
    """An argument, file or folder that cannot be used; its text is one line: what, where, expected, got, way out.

    >>> InputError("got the name a\\nb")
    InputError('got the name a b')
    """

    def __init__(self, text: str):
        super().__init__(" ".join(text.splitlines()))  # what came may hold more of them


def as_numpy(value, name: str) -> np.ndarray:
    """Return `value` (array, torch tensor on any device, or nested list) as a NumPy array without copying if possible.

    >>> as_numpy([1, 2], "labels")
    array([1, 2])
    """
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        try:
            value = value.detach().cpu()
            value = value.float().numpy() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value.numpy()
        except (NotImplementedError, RuntimeError, TypeError, AttributeError) as error:  # no data (device "meta"), or a sparse layout
            raise InputError(f"Expected `{name}` to hold values in memory, got a tensor without: {str(error).splitlines()[0][:200]}") from None
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
    if array.size and array.max() > MOST_CLASSES:  # whatever the number of classes; 2^64 - 1 would turn into -1
        raise InputError(f"Expected `{name}` to hold class indices, got {array.max()} at position {array.argmax()}")
    array = array.astype(np.int64, copy=False)
    lowest = -1 if unknown else 0
    if array.size and array.min() < lowest:
        hint = " (-1 stands for an unknown label)" if unknown else ""
        raise InputError(f"Expected `{name}` >= {lowest}{hint}, got {array.min()} at position {array.argmin()}")
    if num_classes is not None and array.size and array.max() >= num_classes:
        raise InputError(f"Expected `{name}` < {num_classes} (the number of classes), "
                         f"got {array.max()} at position {array.argmax()}")
    return array


def places_in(value, name: str, length: int) -> np.ndarray:
    """Check different positions in something of `length`, at least one.

    >>> places_in([2, 0], "indices", 3)
    array([2, 0])
    """
    places = class_indices(value, name)
    if not len(places) or places.max() >= length or len(np.unique(places)) < len(places):
        raise InputError(f"Expected `{name}` as indices from 0 to {length - 1}, each once, got {shown(places.tolist())}")
    return places


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
        raise InputError(f"Expected `{name}` to be a whole number, got {shown(value)}")
    if value < lowest or (highest is not None and value > highest):
        guard = highest is not None and highest > 1000 and value < lowest  # that only keeps memory in bounds: no news here
        span = f">= {lowest}" if highest is None or guard else f"between {lowest} and {highest}"
        raise InputError(f"Expected `{name}` {span}, got {value}")
    return int(value)


def real(value, name: str) -> float:
    """Check that an argument is a real number; its range, and NaN, are the caller's to check.

    >>> real(0.5, "temperature")
    0.5
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(f"Expected `{name}` to be a number, got {shown(value)}")
    return value


def generator(seed) -> np.random.Generator:
    """NumPy's generator of random numbers for a seed >= 0; no seed at all would give other numbers every time.

    >>> int(generator(0).integers(10))
    8
    """
    return np.random.default_rng(whole_number(seed, "seed", 0))


def listed(values, name: str, what: str = "strings") -> list:
    """A list of what an argument holds; a single string, which Python would take apart into letters, is refused.

    >>> listed(("cat", "dog"), "classnames")
    ['cat', 'dog']
    """
    if isinstance(values, str):
        raise InputError(f"Expected `{name}` to be a list of {what}, got the single string {shown(values)}")
    try:
        return list(values)
    except TypeError:
        raise InputError(f"Expected `{name}` to be a list of {what}, got {shown(values)}") from None


def text_of(value, name: str) -> str:
    """Check that an argument is a text: a string, not blank, of characters that can be written (no half surrogates).

    >>> text_of("cat", "classname")
    'cat'
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"Expected `{name}` to be a non-empty string, got {shown(value)}")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InputError(f"Expected `{name}` to be Unicode, got {shown(value)}")
    return value


def texts_of(values, name: str, length: int | None = None) -> list[str]:
    """Check a list of texts (`text_of`), at least one, or so many.

    >>> texts_of(("cat", "dog"), "titles", 2)
    ['cat', 'dog']
    """
    texts = [text_of(value, name) for value in listed(values, name)]
    if not texts or length not in (None, len(texts)):
        raise InputError(f"Expected `{name}` to hold {length or 'some'} texts, got {len(texts)}")
    return texts


def path_of(value, name: str) -> Path:
    """Check that an argument can be the path of a file or folder, there or not.

    >>> path_of("a/b", "store").name
    'b'
    """
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        raise InputError(f"Expected `{name}` to be the path of a file or folder, got {shown(value)}")
    try:
        Path(value).expanduser().exists()
    except (OSError, RuntimeError) as error:  # a name too long; ~ of nobody
        raise InputError(f"Expected `{name}` to be the path of a file or folder, got {shown(value)}: {getattr(error, 'strerror', None) or error}") from None
    return Path(value)


def read_text(file: Path, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; one too large to be what it should be is refused unread.

    Raises:
        OSError, UnicodeDecodeError: as reading does; whoever asks says what was expected there.

    >>> len(read_text(Path(__file__))) > 1000
    True
    """
    if (size := file.stat().st_size) > most:
        raise InputError(f"Expected a file of at most {most / 2**20:.0f} MB in {file}, got {size / 2**20:.0f} MB")
    return file.read_text("utf-8-sig")


def having(value, name: str, attribute: str, source: str):
    """Check that an argument is the kind of thing that `source` gives, by an attribute that it cannot do without.

    >>> having([], "texts", "append", "a list")
    []
    """
    if not hasattr(value, attribute):
        raise InputError(f"Expected `{name}` from {source}, got {shown(value)}")
    return value


def shown(value) -> str:
    """A value as a message shows it: what is long is cut, so that a line stays one line.

    >>> shown("cat")
    "'cat'"
    """
    text = repr(value)
    return text if len(text) <= 120 and "\n" not in text else f"{text.splitlines()[0][:100]} ... ({type(value).__name__})"


def one_of(value, name: str, allowed) -> str:
    """Check that a named option is one of `allowed`.

    >>> one_of("image", "reduction", ("image", "class"))
    'image'
    """
    if not isinstance(value, str) or value not in allowed:  # an array would be compared element by element
        raise InputError(f"Expected `{name}` to be one of {', '.join(map(repr, allowed))}, got {shown(value)}")
    return value
