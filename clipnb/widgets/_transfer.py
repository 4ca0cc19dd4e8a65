"""A threshold chosen on some images and judged on others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import booleans, floats, one_of, text_of, whole_number
from clipnb.errors import InputError
from clipnb.widgets._base import LiveFigure, in_range, new_figure, read_module
from clipnb.widgets._threshold import round_steps

BINS = 25
MAX_COST = 20
SETS = {"chosen_on": "validation", "judged_on": "test"}


class TransferExplorer(LiveFigure):
    """Two sets of images, one threshold: what mistakes cost where it is chosen and where it is judged.

    Args:
        chosen_on: (scores, positives) of the validation images: (N,) similarities to the query, and (N,) bool, True
            where the image shows what is searched for.
        judged_on: the same of the test images.
        name: name of what is searched for.

    The trait `threshold` follows the line, `miss_cost` and `false_cost` the sliders. The figure starts at the cheapest
    threshold on the validation images.

    Raises:
        InputError: shapes differ, a score is not finite, or a set has no positive or nothing else.

    Example:
        >>> figure = TransferExplorer(([0.1, 0.2, 0.3], [0, 1, 1]), ([0.12, 0.3, 0.1], [0, 1, 1]))
        >>> figure.costs()
        {'validation': 0, 'test': 2}
    """

    _esm = read_module("transfer.js")
    threshold = traitlets.Float().tag(sync=True)
    miss_cost = traitlets.Int(1).tag(sync=True)
    false_cost = traitlets.Int(1).tag(sync=True)

    def __init__(
        self,
        chosen_on: tuple[npt.ArrayLike, npt.ArrayLike],
        judged_on: tuple[npt.ArrayLike, npt.ArrayLike],
        name: str = "dog",
        miss_cost: int = 1,
        false_cost: int = 1,
    ) -> None:
        text_of(name, "name")
        for argument, cost in {"miss_cost": miss_cost, "false_cost": false_cost}.items():
            whole_number(cost, argument, 1, MAX_COST)
        sets = {
            SETS[argument]: _checked(argument, pair)
            for argument, pair in {"chosen_on": chosen_on, "judged_on": judged_on}.items()
        }
        every_score = np.concatenate([scores for scores, _ in sets.values()])
        thresholds, decimals = round_steps(every_score.min(), every_score.max())
        edges = np.linspace(every_score.min(), every_score.max() + 1e-9, BINS + 1)
        content = {
            "name": name,
            "thresholds": thresholds.tolist(),
            "decimals": decimals,
            "max_cost": MAX_COST,
            "edges": edges.tolist(),
            "sets": {part: _counts(scores, wanted, thresholds, edges) for part, (scores, wanted) in sets.items()},
        }
        super().__init__(content, miss_cost=miss_cost, false_cost=false_cost)
        self.threshold = self.cheapest("validation")

    @traitlets.validate("miss_cost", "false_cost")
    def _check_cost(self, proposal: dict[str, Any]) -> float:
        return in_range(proposal["trait"].name, proposal["value"], 1, MAX_COST)

    def costs(self) -> dict[str, int]:
        """Cost of the mistakes at the current threshold, on the validation and on the test images."""
        step = int(np.abs(np.array(self.content["thresholds"]) - self.threshold).argmin())
        return {part: int(self._costs(part)[step]) for part in SETS.values()}

    def cheapest(self, part: str) -> float:
        """The lowest of the thresholds whose mistakes cost least on "validation" or "test"."""
        one_of(part, "part", tuple(SETS.values()))
        return self.content["thresholds"][int(self._costs(part).argmin())]

    def _costs(self, part: str) -> np.ndarray:
        """Cost at every threshold."""
        counts = self.content["sets"][part]
        return self.miss_cost * np.array(counts["misses"]) + self.false_cost * np.array(counts["false_hits"])

    def static_figure(self) -> Figure:
        """Both histograms with the line, and the costs of the mistakes there."""
        content = self.content
        figure = new_figure(6.4, 4.6)
        costs = self.costs()
        for ax, (part, counts) in zip(figure.subplots(2, 1, sharex=True), content["sets"].items(), strict=True):
            for kind, colour in (("others", plots.GREY), ("wanted", plots.BLUE)):
                shares = np.array(counts[kind]) / max(1, sum(counts[kind]))
                ax.stairs(shares, content["edges"], color=colour, fill=kind == "others", label=kind)
            ax.axvline(self.threshold, color=plots.ORANGE, linewidth=2)
            ax.set(ylabel="share of the group")
            ax.set_title(f"{part}: {counts['images']} images, the mistakes cost {costs[part]}", loc="left", fontsize=10)
            ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel(f"score for “{content['name']}”; the line is the threshold", parse_math=False)
        figure.axes[0].legend(frameon=False)
        return figure


def _checked(argument: str, pair: tuple[npt.ArrayLike, npt.ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and positives of one set."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"Expected `{argument}` as a pair (scores, positives), got {type(pair).__name__}")
    scores = floats(pair[0], f"{argument}[0]", 1).astype(float)
    wanted = booleans(pair[1], f"{argument}[1]", scores.shape)
    if not wanted.any() or wanted.all():
        raise InputError(
            f"Expected positives and others in `{argument}`, got {wanted.sum()} of {len(wanted)} positives"
        )
    return scores, wanted


def _counts(scores: np.ndarray, wanted: np.ndarray, thresholds: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    """Mistakes at every threshold, and the histograms of the two groups."""
    return {
        "images": len(scores),
        "positives": int(wanted.sum()),
        "misses": np.searchsorted(np.sort(scores[wanted]), thresholds).tolist(),
        "false_hits": (int((~wanted).sum()) - np.searchsorted(np.sort(scores[~wanted]), thresholds)).tolist(),
        "wanted": np.histogram(scores[wanted], edges)[0].tolist(),
        "others": np.histogram(scores[~wanted], edges)[0].tolist(),
    }
