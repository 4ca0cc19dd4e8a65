"""A correction of class bias as its assumption breaks."""

from __future__ import annotations

from typing import Any

import pandas as pd
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import require_attribute, whole_number
from clipnb._format import percent
from clipnb.errors import InputError
from clipnb.widgets._base import LiveFigure, new_figure, read_module

COLUMNS = ("share", "classes", "images", "method", "accuracy", "accuracy_low", "accuracy_high", "classes_at_zero")


class ShareExplorer(LiveFigure):
    """Accuracy of methods as fewer of the candidate classes occur: the reader breaks a fix by moving the slider.

    Args:
        table: from `clipnb.paper.corrections.over_shares`: rows of "bare" and of each method for every share.

    The trait `position` is the index of the share, in increasing order; it starts at the largest.

    Raises:
        InputError: `table` is no such table.

    Example:
        >>> rows = [(s, 5, 9, m, 0.5, 0.4, 0.6, 1) for s in (0.5, 1.0) for m in ("bare", "nnn")]
        >>> ShareExplorer(pd.DataFrame(rows, columns=COLUMNS)).position
        1
    """

    _esm = read_module("shares.js")
    position = traitlets.Int(0).tag(sync=True)

    def __init__(self, table: pd.DataFrame) -> None:
        columns = require_attribute(table, "table", "columns", "clipnb.paper.corrections.over_shares").columns
        missing = [name for name in COLUMNS if name not in columns]
        if missing or not len(table) or "bare" not in set(table["method"]):
            raise InputError(
                "Expected `table` of clipnb.paper.corrections.over_shares, with rows of 'bare', got one without "
                + (missing[0] if missing else "them")
            )
        steps = []
        for _, rows in table.groupby("share", sort=True):
            first = rows.iloc[0]
            scores = rows[["method", "accuracy", "accuracy_low", "accuracy_high", "classes_at_zero"]]
            steps.append(
                {
                    "share": float(first["share"]),
                    "classes": int(first["classes"]),
                    "images": int(first["images"]),
                    "rows": [
                        {
                            "method": str(method),
                            "accuracy": float(value),
                            "low": float(low),
                            "high": float(high),
                            "zero": int(zero),
                        }
                        for method, value, low, high, zero in scores.itertuples(index=False)
                    ],
                }
            )
        super().__init__({"steps": steps}, position=len(steps) - 1)

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        return whole_number(proposal["value"], "position", 0, len(self.content["steps"]) - 1)

    def static_figure(self) -> Figure:
        """The accuracy of each method over the shares."""
        steps = self.content["steps"]
        figure = new_figure(6.4, 3.2)
        ax = figure.subplots()
        for number, row in enumerate(steps[0]["rows"]):
            values = [step["rows"][number]["accuracy"] for step in steps]
            (line,) = ax.plot([step["share"] for step in steps], values, marker=".", label=row["method"])
            if row["method"] == "bare":
                line.set(color=plots.INK, linestyle=":", marker="")
        ax.axvline(steps[self.position]["share"], color=plots.INK, linewidth=0.8)
        ax.set(xlabel="share of the candidate classes that occur", ylabel="accuracy")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: percent(value, 0))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
        return figure
