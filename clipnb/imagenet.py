"""The old place of what is in `clipnb.datasets` now; it goes with the next version."""

import warnings

from clipnb import datasets

_MOVED = (
    "check_order",
    "check_readable",
    "imagenet_classnames",
    "open_imagenet",
    "repaired_classnames",
    "synset_names",
    "synsets",
)


def __getattr__(name: str):
    if name not in _MOVED:
        raise AttributeError(f"module 'clipnb.imagenet' has no attribute {name!r}")
    warnings.warn(f"clipnb.imagenet.{name} is now clipnb.datasets.{name}", DeprecationWarning, stacklevel=2)
    return getattr(datasets, name)


def __dir__():
    return sorted(_MOVED)
