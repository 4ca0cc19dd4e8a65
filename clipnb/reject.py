"""The reject option: answer where the model is sure enough, and send the other images to a person.

A threshold is chosen on some images and confirmed on others, since on the images that chose it the precision reads too
high. Images of "none of these" belong to no class that has a prompt: an answer on one of them is wrong, whatever it is,
so it should be rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from clipnb._checks import booleans, class_indices, floats, format_value, real_number, texts_of, whole_number
from clipnb.errors import InputError
from clipnb.intervals import Score, area_under_roc, proportion
from clipnb.metrics import risk_coverage_curve

__all__ = [
    "NoneOfThese",
    "Rejection",
    "accepted_by_class",
    "choose_threshold",
    "confirm",
    "confirm_on_halves",
    "none_of_these",
    "set_aside",
]


@dataclass(frozen=True)
class Rejection:
    """What a threshold, chosen elsewhere, does to N images. Fractions in [0, 1]."""

    wanted: float  # the precision that the threshold was chosen for
    threshold: float  # confidence from which an image is answered; infinity: none is; NaN: it differs between halves
    n: int  # images
    answered: int  # images that the model answers
    coverage: Score  # share that it answers
    precision: Score  # share of right answers among these; NaN where none is answered

    @property
    def rejected(self) -> Score:
        """Share of images sent to a person."""
        return Score(1 - self.coverage.value, 1 - self.coverage.high, 1 - self.coverage.low)

    @property
    def verdict(self) -> str:
        """Whether the wanted precision holds: "kept", "missed", "open" (inside the interval) or "nothing answered"."""
        if not self.answered:
            return "nothing answered"
        if self.precision.low >= self.wanted:
            return "kept"
        return "missed" if self.precision.high < self.wanted else "open"


def choose_threshold(confidence: npt.ArrayLike, right: npt.ArrayLike, precision: float = 0.95) -> float:
    """The lowest confidence from which the answers have the wanted precision on these images.

    Args:
        confidence: (N,) higher = surer; any scale.
        right: (N,) booleans, whether the prediction is right.
        precision: wanted share of right answers among those given, in (0, 1]; a risk of 5 % is a precision of 0.95.

    Returns:
        The threshold that answers the most images; infinity if none has the precision.

    Raises:
        InputError: shapes differ, a confidence is not finite, there is no image, or the precision is out of range.

    >>> choose_threshold([.9, .8, .7, .6], [True, True, False, True], precision=0.7)
    0.6
    >>> choose_threshold([.9, .8, .7, .6], [True, True, False, True], precision=0.8)
    0.8
    """
    precision = check_precision(precision)
    _, risk, thresholds = risk_coverage_curve(confidence, right)
    enough = np.flatnonzero(1 - risk >= precision - 1e-12)
    return float(thresholds[enough[-1]]) if len(enough) else float("inf")


def check_precision(precision: float) -> float:
    """Return a wanted precision if it lies above 0 and is at most 1.

    >>> check_precision(0.95)
    0.95
    """
    if not 0 < real_number(precision, "precision") <= 1:
        raise InputError(f"Expected `precision` above 0 and at most 1, got {precision}")
    return float(precision)


def confirm(confidence: npt.ArrayLike, right: npt.ArrayLike, threshold: float, precision: float = 0.95) -> Rejection:
    """Share answered and precision, with 95 % intervals, of a threshold that other images chose.

    Args:
        confidence: (N,) higher = surer, on the scale of the threshold.
        right: (N,) booleans, whether the prediction is right.
        threshold: from `choose_threshold`; images of at least that confidence are answered.
        precision: what the threshold was chosen for.

    Raises:
        InputError: shapes differ, a confidence is not finite, the threshold is NaN, or there is no image.

    >>> found = confirm([.9, .8, .7, .6], [True, True, False, True], threshold=0.75)
    >>> f"{found.coverage:.0%}", f"{found.precision:.0%}", found.verdict
    ('50 % [7, 93]', '100 % [16, 100]', 'open')
    """
    confidence, right = _checked(confidence, right)
    _check_threshold(threshold)
    return _rejection(confidence >= threshold, right, float(threshold), check_precision(precision))


def confirm_on_halves(
    confidence: npt.ArrayLike, right: npt.ArrayLike, half: npt.ArrayLike, precision: float = 0.95
) -> Rejection:
    """`confirm` where there is one set only: each half is answered by the threshold that the other half chooses.

    Args:
        confidence: (N,) higher = surer; any scale.
        right: (N,) booleans, whether the prediction is right.
        half: (N,) booleans, which half an image belongs to (`clipnb.datasets.every_second`).
        precision: wanted share of right answers among those given, in (0, 1].

    Returns:
        Both halves together; the intervals take the two thresholds as given.

    Raises:
        InputError: shapes differ, a confidence is not finite, or a half is empty.

    >>> found = confirm_on_halves([.9, .8, .7, .6], [True, True, False, False], [0, 1, 0, 1])
    >>> found.answered, found.precision.value
    (1, 1.0)
    """
    confidence, right = _checked(confidence, right)
    half = booleans(half, "half", confidence.shape)
    if half.all() or not half.any():
        raise InputError(f"Expected `half` to hold both halves, got {int(half.sum())} of {len(half)} images in one")
    answered = np.zeros(len(confidence), dtype=bool)
    thresholds = set()
    for mine in (half, ~half):
        threshold = choose_threshold(confidence[~mine], right[~mine], precision)
        answered[mine] = confidence[mine] >= threshold
        thresholds.add(threshold)
    threshold = thresholds.pop() if len(thresholds) == 1 else float("nan")
    return _rejection(answered, right, threshold, check_precision(precision))


@dataclass(frozen=True)
class NoneOfThese:
    """What a threshold does to the images that fit no class, beside those of the classes. Fractions in [0, 1]."""

    n: int  # images that fit no class
    rejected: Score  # share of them that is rejected, as it should be
    others_rejected: Score  # share of the images of the classes that is rejected, too; NaN without any
    auroc: Score  # probability that an image of a class is surer than one that fits none; 0.5 = chance


def set_aside(
    labels: npt.ArrayLike, classnames: Sequence[str], names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], list[str], npt.NDArray[np.bool_]]:
    """Set classes aside that get no prompt: their images belong to "none of these".

    Args:
        labels: (N,) class indices; -1 = unknown.
        classnames: C names.
        names: the classes to set aside.

    Returns:
        (labels, classnames, none): the labels among the other classes, -1 for images that were set aside; the names of
        the other classes; (N,) booleans, which images were set aside.

    Raises:
        InputError: a name is not among the classes, all classes are set aside, or a label is out of range.

    >>> set_aside([0, 1, 2, 1], ["cat", "none", "dog"], ["none"])
    (array([ 0, -1,  1, -1]), ['cat', 'dog'], array([False,  True, False,  True]))
    """
    classnames = texts_of(classnames, "classnames")
    labels = class_indices(labels, "labels", num_classes=len(classnames), unknown=True)
    names = texts_of(names, "names")
    if missing := [name for name in names if name not in classnames]:
        raise InputError(
            f"Expected `names` among the {len(classnames)} classnames {format_value(classnames)}, got "
            f"{format_value(missing[0])}"
        )
    kept = np.array([name not in names for name in classnames])
    if not kept.any():
        raise InputError(f"Expected `names` to leave a class with a prompt, got all {len(classnames)} classes")
    place = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)  # the last is for unknown labels
    left = [name for name, stays in zip(classnames, kept) if stays]
    return place[labels], left, (labels >= 0) & ~np.append(kept, True)[labels]


def none_of_these(confidence: npt.ArrayLike, none: npt.ArrayLike, threshold: float) -> NoneOfThese:
    """How well a threshold, chosen on other images, rejects the images that fit no class.

    The false positive rate of out-of-distribution detection is one minus the share of them that is rejected.

    Args:
        confidence: (N,) higher = surer, on the scale of the threshold.
        none: (N,) booleans, which images fit no class (`set_aside`).
        threshold: from `choose_threshold`; images of at least that confidence are answered.

    Raises:
        InputError: shapes differ, a confidence is not finite, the threshold is NaN, or no image fits no class.

    >>> found = none_of_these([.9, .8, .3, .7, .2], [False, False, False, True, True], threshold=0.75)
    >>> f"{found.rejected:.0%}", f"{found.others_rejected:.0%}", f"{found.auroc:.2f}"
    ('100 % [16, 100]', '33 % [1, 91]', '0.83 [0.31, 0.98]')
    """
    confidence = floats(confidence, "confidence", 1)
    none = booleans(none, "none", confidence.shape)
    _check_threshold(threshold)
    if not none.any():
        raise InputError(f"Expected `none` to mark an image that fits no class, got none of {len(none)}")
    rejected = confidence < threshold
    n, others = int(none.sum()), int((~none).sum())
    return NoneOfThese(
        n,
        proportion(int((rejected & none).sum()), n),
        proportion(int((rejected & ~none).sum()), others),
        area_under_roc(confidence, ~none) if others else Score(float("nan")),
    )


def _checked(confidence: npt.ArrayLike, right: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    confidence = floats(confidence, "confidence", 1)
    right = booleans(right, "right", confidence.shape)
    if not len(confidence):
        raise InputError("Expected at least one image in `confidence`, got none")
    return confidence, right


def _check_threshold(threshold: float) -> None:
    if np.isnan(real_number(threshold, "threshold")):
        raise InputError(f"Expected `threshold` to be a number, got {threshold}")


def _rejection(answered: np.ndarray, right: np.ndarray, threshold: float, precision: float) -> Rejection:
    n, count = len(answered), int(answered.sum())
    return Rejection(
        precision, threshold, n, count, proportion(count, n), proportion(int((answered & right).sum()), count)
    )


def accepted_by_class(
    confidence: npt.ArrayLike,
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int,
    threshold: float,
    none: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """What a threshold leaves of every class: how many of its images are answered, and how right the answers are.

    Args:
        confidence: (N,) higher = surer, on the scale of the threshold.
        predictions: (N,) class indices.
        labels: (N,) class indices; -1 is left out.
        num_classes: C >= 1.
        threshold: images of at least that confidence are answered.
        none: (N,) booleans, which images fit no class (`set_aside`); their label is not read. None: no image.

    Returns:
        A row for each class: `images` and `answered` count the images of the class; `coverage` is their ratio; `named`
        counts the answers that name the class, and `precision` is the share of them that is right, with the ends of its
        95 % interval in `precision_low` and `precision_high`. NaN where a class has no images or no answers. With
        `none`, `fit_none` counts the answers that name the class on images that fit none.

    Raises:
        InputError: shapes differ, an index is out of range, or a confidence is not finite.

    >>> accepted_by_class([.9, .2, .8], [0, 0, 1], [0, 0, 0], 2, threshold=0.5)["coverage"].round(2).tolist()
    [0.67, nan]
    """
    confidence = floats(confidence, "confidence", 1)
    num_classes = whole_number(num_classes, "num_classes", 1, 10**7)
    predictions = class_indices(predictions, "predictions", len(confidence), num_classes)
    labels = class_indices(labels, "labels", len(confidence), num_classes, unknown=True)
    _check_threshold(threshold)
    fits_none = np.zeros(len(labels), dtype=bool) if none is None else booleans(none, "none", labels.shape)
    known = (labels >= 0) & ~fits_none
    accepted = confidence >= threshold
    answered = known & accepted
    images, kept = (np.bincount(labels[rows], minlength=num_classes) for rows in (known, answered))
    fit_none = np.bincount(predictions[fits_none & accepted], minlength=num_classes)
    named = np.bincount(predictions[answered], minlength=num_classes) + fit_none
    right = np.bincount(labels[answered & (predictions == labels)], minlength=num_classes)
    scores = [proportion(int(good), int(count)) for good, count in zip(right, named)]
    table = pd.DataFrame(
        {
            "class": range(num_classes),
            "images": images,
            "answered": kept,
            "coverage": np.divide(kept, images, out=np.full(num_classes, np.nan), where=images > 0),
            "named": named,
            "precision": [score.value for score in scores],
            "precision_low": [score.low for score in scores],
            "precision_high": [score.high for score in scores],
        }
    )
    return table if none is None else table.assign(fit_none=fit_none)
