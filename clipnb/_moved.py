"""Names that keep working for one version at the place, or under the name, that they had before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def redirect(old: str, new: str | Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for the module `old` that finds moved or renamed objects and warns about their new place.

    Args:
        old: name of the module that asks.
        new: the module that holds all of its names now, or {name: module} for some of them; "module:new_name" stands
            for an object that also has a new name.

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     old = redirect("clipnb.old", {"dumps": "json", "parse": "json:loads"})
    ...     old("dumps")([1]), old("parse")("[1]")
    ('[1]', [1])
    """

    def get(name: str) -> Any:
        target = new if isinstance(new, str) else new.get(name)
        if target is None or name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        module, _, new_name = target.partition(":")
        value = getattr(import_module(module), new_name or name)
        warnings.warn(f"{old}.{name} has moved to {module}.{new_name or name}", DeprecationWarning, stacklevel=2)
        return value

    return get
