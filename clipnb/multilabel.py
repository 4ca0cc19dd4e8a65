"""Several right answers for one image: right if any valid label is named, and what that changes class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipnb._checks import class_indices, format_value, listed, whole_number
from clipnb.errors import InputError
from clipnb.intervals import Score, mean_over_classes, paired_difference, proportion
from clipnb.metrics import MAX_CLASSES

__all__ = ["ValidLabelResult", "score_valid_labels"]

ValidLabels = Sequence[Sequence[int]]  # for each image the class indices that are right; none: the image is left out


@dataclass(frozen=True)
class ValidLabelResult:
    """Predictions scored against all valid labels of each image. N images with a valid label, C classes."""

    right: np.ndarray  # (N,) whether the prediction is one of the valid labels
    right_single: np.ndarray  # (N,) whether it is the one label that the data set gives
    labels: np.ndarray  # (N,) int64, that label; -1 = unknown
    num_classes: int
    left_out: int  # images without a valid label

    @property
    def n(self) -> int:
        """Number of images that are scored."""
        return len(self.right)

    @property
    def accuracy(self) -> Score:
        """Share of images whose prediction is a valid label ("ReaL accuracy"), in [0, 1], with its 95 % interval."""
        return proportion(int(self.right.sum()), self.n)

    @property
    def gain(self) -> Score:
        """`accuracy` minus the accuracy by single labels on the same images, with its 95 % interval; in [-1, 1]."""
        known = self.labels >= 0
        return paired_difference(self.right[known], self.right_single[known]) if known.any() else Score(float("nan"))

    @property
    def mean_per_class_accuracy(self) -> Score:
        """Mean of `per_class_accuracy` over classes with images, with its 95 % interval; in [0, 1]."""
        return mean_over_classes(*self._counts(self.right))

    @property
    def per_class_accuracy(self) -> npt.NDArray[np.float64]:
        """(C,) share of the images labelled with a class whose prediction is valid; NaN without images."""
        return _ratio(*self._counts(self.right))

    @property
    def per_class_single(self) -> npt.NDArray[np.float64]:
        """(C,) the same by the single label."""
        return _ratio(*self._counts(self.right_single))

    def _counts(self, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known = self.labels >= 0
        images = np.bincount(self.labels[known], minlength=self.num_classes)
        return np.bincount(self.labels[known & right], minlength=self.num_classes), images


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def score_valid_labels(
    predictions: npt.ArrayLike, valid_labels: ValidLabels, labels: npt.ArrayLike, num_classes: int
) -> ValidLabelResult:
    """Score predictions as right if they name any valid label of the image (Beyer et al. 2020, "ReaL").

    Args:
        predictions: (N,) class indices.
        valid_labels: N lists of class indices, in the order of the predictions; an image with an empty list is left
            out.
        labels: (N,) the one label of each image, by which classes are told apart; -1 = unknown.
        num_classes: C >= 1.

    Raises:
        InputError: lengths differ, or an index is outside 0 to C - 1.

    >>> result = score_valid_labels([0, 1, 1], [[0], [0, 1], []], [0, 0, 1], num_classes=2)
    >>> f"{result.accuracy:.0%}", result.left_out, result.per_class_accuracy
    ('100 % [16, 100]', 1, array([ 1., nan]))
    """
    num_classes = whole_number(num_classes, "num_classes", 1, MAX_CLASSES)
    predictions = class_indices(predictions, "predictions", num_classes=num_classes)
    labels = class_indices(labels, "labels", len(predictions), num_classes, unknown=True)
    groups = listed(valid_labels, "valid_labels", "lists of class indices")
    if len(groups) != len(predictions):
        raise InputError(f"Expected `valid_labels` of length N = {len(predictions)}, got {len(groups)}")
    right = np.zeros(len(groups), dtype=bool)
    known = np.zeros(len(groups), dtype=bool)
    for i, group in enumerate(groups):
        try:
            valid = class_indices(group, "valid_labels", num_classes=num_classes)
        except InputError as error:
            raise InputError(f"{error} (image {i}: {format_value(group)})") from None
        known[i], right[i] = len(valid) > 0, predictions[i] in valid
    single = predictions == labels
    return ValidLabelResult(right[known], single[known], labels[known], num_classes, int((~known).sum()))
