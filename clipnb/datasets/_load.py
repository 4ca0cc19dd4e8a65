"""`load_dataset`: one opener for each kind of source."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from clipnb._checks import text_of
from clipnb.datasets._emoji import open_emoji
from clipnb.datasets._folder import open_folder
from clipnb.datasets._icons import open_icons
from clipnb.datasets._imagenet import open_spec
from clipnb.datasets._images import LabeledImages
from clipnb.datasets._subsets import every_second, labelled
from clipnb.datasets._table import open_table
from clipnb.datasets._torchvision import open_torchvision
from clipnb.datasets._webdataset import open_webdataset
from clipnb.errors import InputError

# A kind of data set is added here: its name, and a function of the whole spec and of the part after the colon.
OPENERS: dict[str, Callable[[str, str], LabeledImages]] = {
    "emoji": open_emoji,
    "folder": open_folder,
    "icons": open_icons,
    "imagenet": open_spec,
    "imagenet-partial": partial(open_spec, partial=True),
    "table": open_table,
    "torchvision": open_torchvision,
    "webdataset": open_webdataset,
}
SPECS = (
    "emoji, emoji:SPLIT, icons, icons:validation, folder:PATH, imagenet:PATH, imagenet-partial:PATH, table:FILE, "
    "torchvision:NAME:PATH, webdataset:PATTERN"
)


def load_dataset(spec: str = "icons") -> LabeledImages:
    """Open a labelled image set by its spec.

    Every item of the source is an image of the set, or listed in its `left_out` with the reason. Classnames are read
    in composed Unicode, without blanks around them. In `folder:`, `table:` and `webdataset:` images are rotated as
    their EXIF tag says; the others are read as in published runs, which ignore the tag.

    Args:
        spec: "icons" (the embedded test split: 294 classes, each with 12 images or more; also "icons:validation"),
            "emoji" (embedded: 628 classes of three images; also "emoji:validation", "emoji:train-sample", "emoji:hard"
            with rotated, shrunk and tinted views of the test drawings, "emoji:unseen" with other concepts),
            "folder:PATH" (one folder a class; its name is the classname, "_" read as a space; a folder of images
            alone is an unlabelled set; links are followed, hidden files are not images),
            "imagenet:PATH" (`open_imagenet`: the validation set, complete; "imagenet-partial:PATH": any number of
            images a class),
            "table:FILE" (CSV, TSV, JSON lines or Parquet with the columns path, relative to the table, and label,
            empty where unknown; or Parquet with the images inside, as Hugging Face stores them; FILE may be a pattern),
            "torchvision:NAME:PATH" (a torchvision set already on disk), "webdataset:PATTERN" (tar shards with
            images, .cls files or labels in .json, and a classnames.txt beside them).

    Raises:
        InputError: the spec, folder or split is unknown, empty or inconsistent.

    >>> data = load_dataset("emoji")
    >>> len(data.classnames) >= 500, data.labels.dtype
    (True, dtype('int64'))
    """
    kind, _, rest = (spec if isinstance(spec, str) else text_of(spec, "spec")).partition(":")
    if kind not in OPENERS:
        raise InputError(f"Unknown data set {spec!r}; known: {SPECS}")
    data = OPENERS[kind](spec, rest)
    if not len(data):
        raise InputError(
            f"Expected images in {spec}, found none" + (f"; {data.left_out_line()}" if data.left_out else "")
        )
    return data


def load_splits(spec: str = "icons") -> tuple[LabeledImages, LabeledImages]:
    """One set to make choices on and another to report on: (validation, test), with the same classes.

    The shipped sets have a validation split, drawn by other makers. Any other set is cut in two: the second, fourth,
    ... image of every class is validation. Images without a label are in neither half.

    Args:
        spec: as for `load_dataset`.

    Raises:
        InputError: as `load_dataset`, or fewer than two classes have two labelled images.

    >>> validation, test = load_splits("icons")
    >>> validation.name, test.name, validation.classnames == test.classnames
    ('icons:validation', 'icons', True)
    """
    data = load_dataset(spec)
    if data.validation is not None:
        return load_dataset(data.validation), data
    data = labelled(data, per_class=2)
    second = every_second(data.labels)
    return data.take(second), data.take(~second)
