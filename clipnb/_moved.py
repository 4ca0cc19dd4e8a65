"""Names that other modules hold now and that keep working for one version where they were."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any


def redirect(old: str, names: Iterable[str], new: str) -> Callable[[str], Any]:
    """A `__getattr__` for module `old` that takes these names from module `new`, with a warning that says so.

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     redirect("clipnb.old", ["dumps"], "json")("dumps")([1])
    '[1]'
    """
    moved = frozenset(names)

    def get(name: str) -> Any:
        if name not in moved:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warnings.warn(f"{old}.{name} has moved to {new}.{name}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(new), name)

    return get
