"""Class names that collide in a model's text space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import floats, require_attribute, text_of
from clipnb.errors import InputError
from clipnb.widgets._base import LiveFigure, in_range, new_figure, read_module

COLUMNS = ["name", "nearest", "cosine"]


class NameExplorer(LiveFigure):
    """How near each class name is to its nearest other name: how many collide, which, and a name to look up.

    Args:
        neighbours: columns "name", "nearest" and "cosine" of the two names' texts, one row for each class
            (`clipnb.paper.tails.nearest_of_each`).

    The trait `threshold` is the cosine from which names count as colliding, and `name` the name to look up.

    Raises:
        InputError: `neighbours` is no such table.

    Example:
        >>> rows = [("cat", "dog", 0.8), ("dog", "cat", 0.8), ("bus", "dog", 0.6)]
        >>> NameExplorer(pd.DataFrame(rows, columns=COLUMNS)).colliding(0.7)
        2
    """

    _esm = read_module("names.js")
    threshold = traitlets.Float().tag(sync=True)
    name = traitlets.Unicode().tag(sync=True)

    def __init__(self, neighbours: pd.DataFrame) -> None:
        columns = require_attribute(neighbours, "neighbours", "columns", "clipnb.paper.tails.nearest_of_each").columns
        if not set(COLUMNS) <= set(columns) or not len(neighbours):
            raise InputError(
                f"Expected `neighbours` with rows of {', '.join(COLUMNS)}, got {len(neighbours)} of {list(columns)[:4]}"
            )
        cosine = floats(neighbours["cosine"].to_numpy(), "neighbours['cosine']", 1)
        in_range("neighbours['cosine']", float(cosine.min()), -1, 1)
        in_range("neighbours['cosine']", float(cosine.max()), -1, 1)
        order = np.argsort(-cosine, kind="stable")
        rows = [
            [text_of(a, "name"), text_of(b, "nearest"), float(s)]
            for a, b, s in neighbours[COLUMNS].iloc[order].itertuples(index=False)
        ]
        super().__init__({"rows": rows}, threshold=round(float(np.quantile(cosine, 0.9)), 2), name=rows[0][0])

    @traitlets.validate("threshold")
    def _check_threshold(self, proposal: dict[str, Any]) -> float:
        return in_range("threshold", proposal["value"], -1, 1)

    def colliding(self, threshold: float | None = None) -> int:
        """The number of names with another at least this near; at the current threshold if None."""
        least = self.threshold if threshold is None else in_range("threshold", threshold, -1, 1)
        return sum(row[2] >= least for row in self.content["rows"])

    def static_figure(self) -> Figure:
        """The distribution of the cosines, with the threshold."""
        figure = new_figure(6.4, 2.6)
        ax = figure.subplots()
        ax.hist([row[2] for row in self.content["rows"]], bins=40, color=plots.BLUE)
        ax.axvline(self.threshold, color=plots.ORANGE)
        ax.set_title(f"{self.colliding()} names have another at a cosine of {self.threshold:.2f} or more", fontsize=9)
        ax.set(xlabel="cosine to the nearest other name", ylabel="names")
        ax.spines[["top", "right"]].set_visible(False)
        return figure
