"""A confusion matrix that the reader changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure

from clipnb import metrics, plots
from clipnb._arrays import divide_or_nan
from clipnb._checks import floats, texts_of
from clipnb._format import number_or_none
from clipnb.errors import InputError
from clipnb.widgets._base import LiveFigure, in_range, new_figure, read_module

MAX_COUNT = 9999  # of images in one cell
MAX_FACTOR = 20


class ConfusionEditor(LiveFigure):
    """A small confusion matrix with editable counts: recall by row, precision by column, micro and macro averages.

    Args:
        confusion: (C, C) whole numbers, rows are actual classes; 2 to 6 classes.
        classnames: C names.

    The trait `counts` holds the cells, `factor` how many times as common the first class is as in `counts`.

    Raises:
        InputError: the matrix is not square, has too few or too many classes, or a count is not a whole number.

    Example:
        >>> figure = ConfusionEditor([[9, 1], [2, 8]], ["cat", "dog"])
        >>> figure.factor = 10
        >>> numbers = figure.numbers()
        >>> round(numbers["micro"], 3), round(numbers["macro"], 3)
        (0.891, 0.85)
    """

    _esm = read_module("editor.js")
    counts = traitlets.List(traitlets.List(traitlets.Int(min=0, max=MAX_COUNT))).tag(sync=True)
    factor = traitlets.Int(1).tag(sync=True)

    def __init__(self, confusion: npt.ArrayLike, classnames: Sequence[str]) -> None:
        names = texts_of(classnames, "classnames")
        counts = floats(confusion, "confusion", 2)
        if not 2 <= len(names) <= 6 or counts.shape != (len(names), len(names)):
            raise InputError(
                f"Expected `confusion` of shape (C, C) for 2 to 6 `classnames`, got {counts.shape} for {len(names)}"
            )
        if (counts != np.round(counts)).any() or counts.min() < 0 or counts.max() > MAX_COUNT:
            raise InputError(
                f"Expected `confusion` of whole numbers from 0 to {MAX_COUNT}, got {counts.min():g} to {counts.max():g}"
            )
        cells = counts.astype(int).tolist()
        super().__init__(
            {"names": names, "counts": cells, "max_count": MAX_COUNT, "max_factor": MAX_FACTOR}, counts=cells
        )

    @traitlets.validate("factor")
    def _check_factor(self, proposal: dict[str, Any]) -> float:
        return in_range("factor", proposal["value"], 1, MAX_FACTOR)

    def matrix(self) -> npt.NDArray[np.int64]:
        """(C, C) counts with the first class `factor` times as common."""
        matrix = np.array(self.counts, dtype=np.int64)
        matrix[0] *= self.factor
        return matrix

    def numbers(self) -> dict[str, Any]:
        """The scores of `matrix`, which the page computes as well.

        Returns:
            dict with lists "recall" and "precision" (None where undefined), and fractions "micro" (accuracy), "macro"
            (mean per-class accuracy) and "baseline" (accuracy of always predicting the most common class); None if
            there are no images.
        """
        matrix = self.matrix()
        right, actual, total = np.diag(matrix), matrix.sum(axis=1), matrix.sum()
        recall = divide_or_nan(right, actual)
        return {
            "recall": [number_or_none(x) for x in recall],
            "precision": [number_or_none(x) for x in metrics.per_class_precision(matrix)],
            "micro": float(right.sum() / total) if total else None,
            "macro": float(np.nanmean(recall)) if total else None,
            "baseline": float(actual.max() / total) if total else None,
        }

    def static_figure(self) -> Figure:
        """The matrix with the first class `factor` times as common."""
        figure = new_figure(4.6, 3.8)
        plots.confusion(self.matrix(), self.content["names"], ax=figure.subplots())
        return figure
