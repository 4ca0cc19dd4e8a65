"""The worst classes beside each other."""

from collections.abc import Sequence

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import unique_indices, whole_number
from clipnb._format import percent, thumbnail
from clipnb.errors import InputError
from clipnb.widgets._base import SIDE, LiveFigure, decode, evaluated, in_range, new_figure, read_module


class WorstStrip(LiveFigure):
    """Pictures of the worst classes, each with what the model said and by which margin.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        classes: class indices, worst first; the `count` classes of lowest accuracy that have pictures if None.
        per_class: pictures of one class, those of lowest margin.
        count: how many classes to take if `classes` is None.

    The trait `shown` is the number of classes shown.

    Raises:
        InputError: `result` is not of `data`, a class is out of range or has no pictures, or the data is over 300 kB.
    """

    _esm = read_module("worst.js")
    shown = traitlets.Int(1).tag(sync=True)

    def __init__(self, data, result, classes: Sequence[int] | None = None, per_class: int = 3, count: int = 10) -> None:
        labels, predictions, margins = evaluated(data, result, "labels", "predictions", "margins")
        accuracy, per_class, count = (
            result.per_class_accuracy,
            whole_number(per_class, "per_class", 1),
            whole_number(count, "count", 1),
        )
        if classes is None:
            classes = np.argsort(accuracy, kind="stable")[: min(count, int((~np.isnan(accuracy)).sum()))]
        classes = unique_indices(classes, "classes", len(accuracy)).tolist()
        empty = [data.classnames[c] for c in classes if np.isnan(accuracy[c])]
        if empty:
            raise InputError(f"Expected `classes` that have pictures, got without any: {empty}")

        def row(place: int, c: int) -> dict:
            members = np.flatnonzero(labels == c)
            lowest = members[np.argsort(margins[members], kind="stable")[:per_class]]
            return {
                "name": data.classnames[c],
                "accuracy": float(accuracy[c]),
                "right": int((predictions[members] == c).sum()),
                "count": len(members),
                "mean_so_far": float(accuracy[classes[: place + 1]].mean()),
                "pictures": [
                    {
                        "src": thumbnail(data[int(i)][0], SIDE),
                        "guess": data.classnames[predictions[i]],
                        "right": bool(predictions[i] == c),
                        "margin": float(margins[i]),
                    }
                    for i in lowest
                ],
            }

        super().__init__(
            {"name": data.name, "rows": [row(place, c) for place, c in enumerate(classes)]}, shown=min(5, len(classes))
        )

    @traitlets.validate("shown")
    def _check_shown(self, proposal):
        return in_range("shown", proposal["value"], 1, len(self.content["rows"]))

    def static_figure(self) -> Figure:
        """One row of pictures a class."""
        rows = self.content["rows"][: self.shown]
        figure = new_figure(6.4, 1.9 * len(rows))
        for ax, row in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows, strict=True):
            titles = [f"said {picture['guess']}\nmargin {picture['margin']:.3f}" for picture in row["pictures"]]
            plots.image_strip(
                [decode(picture["src"]) for picture in row["pictures"]], titles, ax=ax, columns=len(titles)
            )
            ax.set_title(
                f"{row['name']}: {percent(row['accuracy'])} ({row['right']} of {row['count']} right)",
                loc="left",
                fontsize=9,
                parse_math=False,
            )
        return figure
