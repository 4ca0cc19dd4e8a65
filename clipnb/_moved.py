"""Names that keep working for one version after they moved or changed."""

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


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module whose names have changed: it finds them under the new name and warns.

    Args:
        module: name of the module.
        names: {old name: new name}.

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     renamed("json", {"to_text": "dumps"})("to_text")([1])
    '[1]'
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {module}.{names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(module), names[name])

    return get
