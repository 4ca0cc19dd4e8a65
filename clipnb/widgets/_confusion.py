"""A confusion matrix whose cells open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._arrays import divide_or_nan
from clipnb._checks import unique_indices, whole_number
from clipnb._format import number_or_none, thumbnail
from clipnb.datasets import LabeledImages
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.widgets._base import SIDE, LiveFigure, evaluated, in_range, new_figure, read_module


def _most_confused(confusion: np.ndarray, count: int) -> list[int]:
    """Classes in order of confusion: the worst pair, then one by one the class most confused with those before."""
    between = confusion + confusion.T
    np.fill_diagonal(between, -1)
    group = sorted(int(c) for c in np.unravel_index(between.argmax(), between.shape))
    while len(group) < count:
        links = between[group].sum(axis=0)
        links[group] = -1
        group.append(int(links.argmax()))
    return group


class ConfusionExplorer(LiveFigure):
    """A confusion matrix whose cells open the images that fell in them.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        classes: class indices to show, in this order; the worst-confused group if None.
        count: size of that group.
        per_cell: largest number of images in one cell.
        max_images: largest number of images in all cells together.

    The trait `shown` is the number of classes shown, `cell` the open [row, column]; the position after the last class
    is "other". Precision and recall are over all images of the class, not only those in the cells.

    Raises:
        InputError: `result` is not of `data`, there are fewer than two classes, an index is out of range, or the data
            is over 300 kB.
    """

    _esm = read_module("confusion.js")
    shown = traitlets.Int(2).tag(sync=True)
    cell = traitlets.List(traitlets.Int(), [0, 1], minlen=2, maxlen=2).tag(sync=True)

    def __init__(
        self,
        data: LabeledImages,
        result: EvaluationResult,
        classes: Sequence[int] | None = None,
        count: int = 8,
        per_cell: int = 8,
        max_images: int = 120,
    ) -> None:
        labels, predictions = evaluated(data, result, "labels", "predictions")
        confusion = result.confusion
        for name, value in (("count", count), ("per_cell", per_cell), ("max_images", max_images)):
            whole_number(value, name, 1)
        if classes is None:
            classes = _most_confused(confusion, min(count, len(confusion)))
        group = unique_indices(classes, "classes", len(confusion)).tolist()
        if len(group) < 2:
            raise InputError(f"Expected `classes` with at least two different classes, got {group}")
        names = data.classnames
        actual_totals = confusion.sum(axis=1)[group]
        predicted_totals = confusion.sum(axis=0)[group]
        right = confusion[group, group]
        super().__init__(
            {
                "name": data.name,
                "names": [names[c] for c in group],
                "counts": confusion[np.ix_(group, group)].tolist(),
                "actual_totals": actual_totals.tolist(),
                "predicted_totals": predicted_totals.tolist(),
                "precision": [number_or_none(x) for x in divide_or_nan(right, predicted_totals)],
                "recall": [number_or_none(x) for x in divide_or_nan(right, actual_totals)],
                "pictures": [
                    {
                        "src": thumbnail(data[i][0], SIDE),
                        "actual": row,
                        "predicted": column,
                        "name": names[labels[i]],
                        "guess": names[predictions[i]],
                    }
                    for i, row, column in _cells(labels, predictions, group, per_cell, max_images)
                ],
            },
            shown=len(group),
        )

    @traitlets.validate("shown")
    def _check_shown(self, proposal: dict[str, Any]) -> float:
        return in_range("shown", proposal["value"], 2, len(self.content["names"]))

    def static_figure(self) -> Figure:
        """The matrix of the classes shown, with "other" as the last column."""
        content = self.content
        m = self.shown
        inner = np.array(content["counts"])[:m, :m]
        other = np.array(content["actual_totals"])[:m] - inner.sum(axis=1)
        square = np.zeros((m + 1, m + 1), dtype=int)
        square[:m, :m] = inner
        square[:m, m] = other
        figure = new_figure(3.6 + 0.5 * m, 2.6 + 0.5 * m)
        plots.confusion(square, [*content["names"][:m], "other"], classes=range(m), ax=figure.subplots())
        return figure


def _cells(
    labels: np.ndarray, predictions: np.ndarray, classes: list[int], per_cell: int, max_images: int
) -> list[tuple[int, int, int]]:
    """(image, row, column) of images to show: the first of every cell, then the second of every cell, and so on."""
    position = {c: p for p, c in enumerate(classes)}
    other = len(classes)
    taken: dict[tuple[int, int], int] = {}
    candidates: list[tuple[int, int, int, int]] = []
    for i in np.flatnonzero(labels >= 0):
        row = position.get(int(labels[i]), other)
        column = position.get(int(predictions[i]), other)
        rank = taken.get((row, column), 0)
        if (row, column) != (other, other) and rank < per_cell:
            taken[row, column] = rank + 1
            candidates.append((rank, row, column, int(i)))
    return [(i, row, column) for _, row, column, i in sorted(candidates)[:max_images]]
