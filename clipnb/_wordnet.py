"""ImageNet's synset ids and WordNet's names for them, read from the installed timm (which open_clip depends on)."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

HAS_NAMES = find_spec("timm") is not None and find_spec("open_clip") is not None  # with the extra `model`


@cache
def synsets() -> tuple[str, ...]:
    """The 1,000 synset ids of ImageNet in the order of the labels.

    >>> synsets()[:2]
    ('n01440764', 'n01443537')
    """
    from timm.data.imagenet_info import ImageNetInfo  # slow to import

    return tuple(ImageNetInfo().label_names())


@cache
def synset_names() -> tuple[tuple[str, ...], ...]:
    """WordNet's names for each of the 1,000 synsets.

    >>> synset_names()[0]
    ('tench', 'Tinca tinca')
    """
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(tuple(names.split(", ")) for names in ImageNetInfo().label_descriptions())


def name_of(synset: str) -> str | None:
    """The name of a synset: open_clip's for ImageNet's 1,000, WordNet's first for the others of ImageNet-21k.

    >>> name_of("n02084071"), name_of("n01443537"), name_of("n99999999")
    ('dog', 'goldfish', None)
    """
    if synset in synsets():
        import open_clip  # slow to import

        return open_clip.IMAGENET_CLASSNAMES[synsets().index(synset)]
    return _further_names().get(synset)


@cache
def _further_names() -> dict[str, str]:
    """WordNet's first name for every synset of ImageNet-21k."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    names = (description.split(",")[0].strip() for description in info.label_descriptions())
    return dict(zip(info.label_names(), names, strict=True))
