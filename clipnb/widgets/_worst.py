"""The worst classes beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import unique_indices, whole_number
from clipnb._format import percent, thumbnail
from clipnb.datasets import LabeledImages
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.widgets._base import SIDE, LiveFigure, decode, evaluated, in_range, new_figure, read_module


class WorstStrip(LiveFigure):
    """Images of the worst classes, each with the prediction of the model and its margin.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        classes: class indices, worst first; the `count` classes of lowest accuracy that have images if None.
        per_class: number of images of one class, those of lowest margin.
        count: how many classes to take if `classes` is None.

    The trait `shown` is the number of classes shown.

    Raises:
        InputError: `result` is not of `data`, a class is out of range or has no images, or the data is over 300 kB.
    """

    _esm = read_module("worst.js")
    shown = traitlets.Int(1).tag(sync=True)

    def __init__(
        self,
        data: LabeledImages,
        result: EvaluationResult,
        classes: Sequence[int] | None = None,
        per_class: int = 3,
        count: int = 10,
    ) -> None:
        labels, predictions, margins = evaluated(data, result, "labels", "predictions", "margins")
        accuracy = result.per_class_accuracy
        per_class = whole_number(per_class, "per_class", 1)
        count = whole_number(count, "count", 1)
        with_images = int((~np.isnan(accuracy)).sum())
        first = np.argsort(accuracy, kind="stable")[: min(count, with_images)]
        worst = unique_indices(first if classes is None else classes, "classes", len(accuracy)).tolist()
        empty = [data.classnames[c] for c in worst if np.isnan(accuracy[c])]
        if empty:
            raise InputError(f"Expected `classes` that have images, got without any: {empty}")

        def row(place: int, c: int) -> dict[str, Any]:
            members = np.flatnonzero(labels == c)
            lowest = members[np.argsort(margins[members], kind="stable")[:per_class]]
            return {
                "name": data.classnames[c],
                "accuracy": float(accuracy[c]),
                "right": int((predictions[members] == c).sum()),
                "count": len(members),
                "mean_so_far": float(accuracy[worst[: place + 1]].mean()),
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
            {"name": data.name, "rows": [row(place, c) for place, c in enumerate(worst)]}, shown=min(5, len(worst))
        )

    @traitlets.validate("shown")
    def _check_shown(self, proposal: dict[str, Any]) -> float:
        return in_range("shown", proposal["value"], 1, len(self.content["rows"]))

    def static_figure(self) -> Figure:
        """One row of images for each class."""
        rows = self.content["rows"][: self.shown]
        figure = new_figure(6.4, 1.9 * len(rows))
        for ax, row in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows, strict=True):
            titles = [f"said {image['guess']}\nmargin {image['margin']:.3f}" for image in row["pictures"]]
            plots.image_strip([decode(image["src"]) for image in row["pictures"]], titles, ax=ax, columns=len(titles))
            ax.set_title(
                f"{row['name']}: {percent(row['accuracy'])} ({row['right']} of {row['count']} right)",
                loc="left",
                fontsize=9,
                parse_math=False,
            )
        return figure
