"""A confusion matrix whose cells open."""

from collections.abc import Sequence

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import unique_indices, whole_number
from clipnb._format import number_or_none, thumbnail
from clipnb.errors import InputError
from clipnb.widgets._base import SIDE, LiveFigure, evaluated, in_range, new_figure, ratio, read_module


def _most_confused(confusion: np.ndarray, count: int) -> list[int]:
    """Classes in order of confusion: start at the worst pair, then add the class most confused with those already in."""
    between = confusion + confusion.T
    np.fill_diagonal(between, -1)
    group = sorted(int(c) for c in np.unravel_index(between.argmax(), between.shape))
    while len(group) < count:
        links = between[group].sum(axis=0)
        links[group] = -1
        group.append(int(links.argmax()))
    return group


class ConfusionExplorer(LiveFigure):
    """A confusion matrix whose cells open the pictures that fell in them.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        classes: class indices to show, in this order; the worst-confused group if None.
        count: size of that group.
        per_cell: most pictures of one cell.
        most: most pictures in all.

    The trait `shown` is the number of classes shown, `cell` the open [row, column]; the position after the last class is
    "other". Precision and recall are over all pictures of the class, not only those in the cells.

    Raises:
        InputError: `result` is not of `data`, fewer than two classes, an index out of range, or the data is over 300 kB.
    """

    _esm = read_module("confusion.js")
    shown = traitlets.Int(2).tag(sync=True)
    cell = traitlets.List(traitlets.Int(), [0, 1], minlen=2, maxlen=2).tag(sync=True)

    def __init__(
        self, data, result, classes: Sequence[int] | None = None, count: int = 8, per_cell: int = 8, most: int = 120
    ) -> None:
        labels, predictions = evaluated(data, result, "labels", "predictions")
        confusion = result.confusion
        for name, value in (("count", count), ("per_cell", per_cell), ("most", most)):
            whole_number(value, name, 1)
        if classes is None:
            classes = _most_confused(confusion, min(count, len(confusion)))
        classes = unique_indices(classes, "classes", len(confusion)).tolist()
        if len(classes) < 2:
            raise InputError(f"Expected `classes` with at least two different classes, got {classes}")
        names = data.classnames
        actual_totals, predicted_totals = confusion.sum(axis=1)[classes], confusion.sum(axis=0)[classes]
        right = confusion[classes, classes]
        super().__init__(
            {
                "name": data.name,
                "names": [names[c] for c in classes],
                "counts": confusion[np.ix_(classes, classes)].tolist(),
                "actual_totals": actual_totals.tolist(),
                "predicted_totals": predicted_totals.tolist(),
                "precision": [number_or_none(x) for x in ratio(right, predicted_totals)],
                "recall": [number_or_none(x) for x in ratio(right, actual_totals)],
                "pictures": [
                    {
                        "src": thumbnail(data[i][0], SIDE),
                        "actual": row,
                        "predicted": column,
                        "name": names[labels[i]],
                        "guess": names[predictions[i]],
                    }
                    for i, row, column in _cells(labels, predictions, classes, per_cell, most)
                ],
            },
            shown=len(classes),
        )

    @traitlets.validate("shown")
    def _check_shown(self, proposal):
        return in_range("shown", proposal["value"], 2, len(self.content["names"]))

    def static_figure(self) -> Figure:
        """The matrix of the classes shown, with "other" as the last column."""
        content, m = self.content, self.shown
        inner = np.array(content["counts"])[:m, :m]
        other = np.array(content["actual_totals"])[:m] - inner.sum(axis=1)
        square = np.zeros((m + 1, m + 1), dtype=int)
        square[:m, :m], square[:m, m] = inner, other
        figure = new_figure(3.6 + 0.5 * m, 2.6 + 0.5 * m)
        plots.confusion(square, [*content["names"][:m], "other"], classes=range(m), ax=figure.subplots())
        return figure


def _cells(labels, predictions, classes: list[int], per_cell: int, most: int) -> list[tuple[int, int, int]]:
    """(picture, row, column) of pictures to show: the first of every cell, then the second of every cell, and so on."""
    position = {c: p for p, c in enumerate(classes)}
    other, taken, found = len(classes), {}, []
    for i in np.flatnonzero(labels >= 0):
        row, column = (position.get(int(c), other) for c in (labels[i], predictions[i]))
        turn = taken.get((row, column), 0)
        if (row, column) != (other, other) and turn < per_cell:
            taken[row, column] = turn + 1
            found.append((turn, row, column, int(i)))
    return [(i, row, column) for _, row, column, i in sorted(found)[:most]]
