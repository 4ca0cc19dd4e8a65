"""Classes that are bad and classes that were unlucky, in worlds whose truth is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb.widgets._base import HERE, LiveFigure, in_range, new_figure, read_module

WORLDS = HERE / "luck.json"  # made by tools/book/luck_worlds.py
NAMES = {"naive": "naive", "truly_worst": "truly worst", "listed": "listed", "split_half": "split half"}


class LuckExplorer(LiveFigure):
    """Bad or unlucky? Measured accuracies beside the true ones, for few and many images a class.

    The worlds are simulated, so that the truth is known: 200 classes with a mean true accuracy of 70 %. Each estimate
    of `clipnb.worst.worst_k_report` stands beside the truth that it asks for.

    The traits `images`, `spread` and `k` are positions of the three sliders.

    Raises:
        InputError: a position is out of range.

    Example:
        >>> figure = LuckExplorer()
        >>> figure.content["images"][figure.images], figure.content["spreads"][figure.spread]
        (3, 0.0)
    """

    _esm = read_module("luck.js")
    images = traitlets.Int(0).tag(sync=True)
    spread = traitlets.Int(0).tag(sync=True)
    k = traitlets.Int(1).tag(sync=True)

    def __init__(self) -> None:
        super().__init__(json.loads(WORLDS.read_text(encoding="utf-8")))

    @traitlets.validate("images", "spread", "k")
    def _check_position(self, proposal: dict[str, Any]) -> float:
        name = proposal["trait"].name
        steps = {"images": "images", "spread": "spreads", "k": "ks"}[name]
        return in_range(name, proposal["value"], 0, len(self.content[steps]) - 1)

    def static_figure(self) -> Figure:
        """The measured staircase over the true accuracies, and the estimates beside their truths."""
        content = self.content
        world = content["worlds"][self.images][self.spread]
        n = content["images"][self.images]
        k = content["ks"][self.k]
        places = np.arange(1, len(world["right"]) + 1)
        figure = new_figure(7, 5.2)
        stairs, bars = figure.subplots(2, 1, height_ratios=(3, 2))
        stairs.plot(places, world["truth"], ".", color=plots.ORANGE, markersize=4, label="true accuracy")
        stairs.step(places, np.array(world["right"]) / n, where="mid", color=plots.BLUE, label="measured accuracy")
        stairs.set(xlabel=f"classes, worst first; {n} images each", ylim=(-0.03, 1.03))
        stairs.yaxis.set_major_formatter("{x:.0%}")
        stairs.legend(frameon=False, loc="lower right")
        scores = world["scores"][self.k]
        for row, name in enumerate(NAMES):
            value, low, high = scores[name]
            if low is not None:
                bars.plot([low, high], [row, row], color=plots.BLUE, linewidth=4, alpha=0.4)
            if value is not None:
                bars.plot(value, row, "o", color=plots.BLUE)
            bars.plot(scores["truths"][name], row, "|", color=plots.ORANGE, markersize=22, markeredgewidth=3)
        bars.set_yticks(range(len(NAMES)), NAMES.values())
        bars.set(xlim=(-0.02, 1), xlabel=f"accuracy of the {k} worst; dots are estimates, bars mark the truth")
        bars.xaxis.set_major_formatter("{x:.0%}")
        bars.invert_yaxis()
        for ax in (stairs, bars):
            ax.spines[["top", "right"]].set_visible(False)
        return figure
