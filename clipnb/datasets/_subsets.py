"""Parts of a labelled set: the images that have a label, and two halves of every class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from clipnb._checks import class_indices, whole_number
from clipnb.datasets._classnames import scored_classnames
from clipnb.datasets._images import LabeledImages
from clipnb.errors import InputError

NO_LABEL = "images without a label"
MAX_PER_CLASS = 10**6


def labelled(data: LabeledImages, per_class: int = 1) -> LabeledImages:
    """The images of a set that have a label, for every comparison of predictions with labels.

    Args:
        data: from `load_dataset`.
        per_class: labelled images that at least two classes must have.

    Returns:
        `data` itself if every image has a label; otherwise a subset, whose `left_out` lists the others.

    Raises:
        InputError: the set has no classnames or only one, or fewer than two classes have enough labelled images.

    >>> data = LabeledImages("pets", ["a.png", "b.png", "c.png"], np.array([0, -1, 1]), ["cat", "dog"], read=None)
    >>> labelled(data).ids, labelled(data).left_out_line()
    (['a.png', 'c.png'], '1 item of pets is left out: images without a label (1: b.png)')
    """
    whole_number(per_class, "per_class", 1, MAX_PER_CLASS)
    scored_classnames(data)
    known = data.labels >= 0
    counts = np.bincount(data.labels[known], minlength=len(data.classnames))
    if (enough := int((counts >= per_class).sum())) < 2:
        raise InputError(
            f"Expected at least two classes of {data.name} with {per_class} or more labelled images each, got {enough} "
            f"of {len(counts)} (the largest class has {counts.max()}); add images or labels"
        )
    if known.all():
        return data
    unknown = [data.ids[i] for i in np.flatnonzero(~known)]
    return replace(data.take(known), left_out=data.left_out | {NO_LABEL: unknown})


def every_second(labels: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """The second, fourth, ... image of every class: one of two halves, of which the other has the odd image.

    Args:
        labels: (N,) class indices; -1 (unknown) is treated as a class of its own.

    Returns:
        (N,) booleans.

    Raises:
        InputError: `labels` are not class indices.

    >>> every_second([0, 0, 1, 0, 0, 2])
    array([False,  True, False, False,  True, False])
    """
    labels = class_indices(labels, "labels", unknown=True)
    order = np.argsort(labels, kind="stable")
    place_in_class = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    second = np.zeros(len(labels), dtype=bool)
    second[order] = place_in_class % 2 == 1
    return second
