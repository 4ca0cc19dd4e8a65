"""Labelled image sets behind one face: `len(data)`, `data[i]` -> (PIL image, label), `ids`, `labels`, `classnames`.

`load_dataset` opens one by its spec; what a set knows about itself (templates, descriptions, what was left out) are
its fields.
"""

from clipnb.datasets._assets import ASSETS, check_asset
from clipnb.datasets._classnames import read_classnames, scored_classnames, with_classes
from clipnb.datasets._emoji import EMOJI_DIR, EMOJI_SPLITS, harder
from clipnb.datasets._imagenet import (
    check_order,
    check_readable,
    imagenet_classnames,
    open_imagenet,
    repaired_classnames,
    synset_names,
    synsets,
)
from clipnb.datasets._images import LabeledImages, flatten
from clipnb.datasets._load import SPECS, load_dataset, load_splits
from clipnb.datasets._pairs import ImageTextPairs, load_pairs
from clipnb.datasets._subsets import every_second, labelled
from clipnb.datasets._valid import load_valid_labels

__all__ = [
    "ASSETS",
    "EMOJI_DIR",
    "EMOJI_SPLITS",
    "SPECS",
    "ImageTextPairs",
    "LabeledImages",
    "check_asset",
    "check_order",
    "check_readable",
    "every_second",
    "flatten",
    "harder",
    "imagenet_classnames",
    "labelled",
    "load_dataset",
    "load_pairs",
    "load_splits",
    "load_valid_labels",
    "open_imagenet",
    "read_classnames",
    "repaired_classnames",
    "scored_classnames",
    "synset_names",
    "synsets",
    "with_classes",
]
