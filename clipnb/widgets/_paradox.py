"""The accuracy paradox."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import text_of, whole_number
from clipnb._format import percent
from clipnb.widgets._base import LiveFigure, in_range, new_figure, read_module


class ParadoxExplorer(LiveFigure):
    """The accuracy paradox: a rare class is hardly recognised, and overall accuracy does not show it.

    Args:
        n: number of images.
        rare_share: share of the rare class, in (0, 0.5].
        rare_recall: share of the rare class that is recognised, in [0, 1].
        common_accuracy: share of all other images that are recognised, in [0, 1].
        rare: name of the rare class.

    The traits `rare_share` and `rare_recall` follow the sliders.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> figure = ParadoxExplorer()
        >>> numbers = figure.numbers()
        >>> [f"{numbers[name]:.0%}" for name in ("accuracy", "rare_recall", "macro")]
        ['98%', '12%', '56%']
    """

    _esm = read_module("paradox.js")
    rare_share = traitlets.Float().tag(sync=True)
    rare_recall = traitlets.Float().tag(sync=True)

    def __init__(
        self,
        n: int = 5000,
        rare_share: float = 0.02,
        rare_recall: float = 0.12,
        common_accuracy: float = 0.9976,
        rare: str = "fire truck",
    ) -> None:
        whole_number(n, "n", 2, 10**9)
        text_of(rare, "rare")
        for name, value, high in (
            ("rare_share", rare_share, 0.5),
            ("rare_recall", rare_recall, 1),
            ("common_accuracy", common_accuracy, 1),
        ):
            in_range(name, value, 0, high)
        super().__init__(
            {"n": n, "common_accuracy": common_accuracy, "rare": rare}, rare_share=rare_share, rare_recall=rare_recall
        )

    @traitlets.validate("rare_share")
    def _check_share(self, proposal: dict[str, Any]) -> float:
        return in_range("rare_share", proposal["value"], 0, 0.5)

    @traitlets.validate("rare_recall")
    def _check_recall(self, proposal: dict[str, Any]) -> float:
        return in_range("rare_recall", proposal["value"], 0, 1)

    def numbers(self) -> dict[str, float]:
        """Whole numbers of images and the four fractions of the current state; the page computes the same.

        Returns:
            dict with the counts rare, found, common, right and the fractions accuracy, rare_recall, macro (mean
            per-class accuracy over the two groups) and baseline (the accuracy of never predicting the rare class).
        """

        def nearest(x: float) -> int:
            return int(np.floor(x + 0.5))

        n = self.content["n"]
        rare = max(1, nearest(n * self.rare_share))
        found = nearest(rare * self.rare_recall)
        common = n - rare
        right = nearest(common * self.content["common_accuracy"])
        return {
            "rare": rare,
            "found": found,
            "common": common,
            "right": right,
            "accuracy": (found + right) / n,
            "rare_recall": found / rare,
            "macro": (found / rare + right / common) / 2,
            "baseline": common / n,
        }

    def static_figure(self) -> Figure:
        """The four fractions as bars."""
        numbers = self.numbers()
        rare = self.content["rare"]
        labels = {
            "accuracy": "overall accuracy",
            "baseline": f"never predicting {rare}",
            "macro": "mean per-class accuracy",
            "rare_recall": f"recall on {rare}",
        }
        figure = new_figure(6.4, 2.4)
        ax = figure.subplots()
        bars = ax.barh(list(labels), [numbers[key] for key in labels], color=[plots.BLUE] * 3 + [plots.ORANGE])
        ax.bar_label(bars, [percent(numbers[key]) for key in labels], padding=4)
        ax.set_yticks(range(len(labels)), labels.values(), parse_math=False)
        ax.set(xlim=(0, 1.15), xticks=[])
        ax.invert_yaxis()
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        return figure
