"""The old place of what is in `clipnb.datasets` now; it goes with the next version."""

from clipnb._moved import redirect

_MOVED = (
    "check_order",
    "check_readable",
    "imagenet_classnames",
    "open_imagenet",
    "repaired_classnames",
    "synset_names",
    "synsets",
)


__getattr__ = redirect(__name__, _MOVED, "clipnb.datasets")
def __dir__():
    return sorted(_MOVED)
