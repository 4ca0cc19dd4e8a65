"""The reject option: which images the model answers, and which go to a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import booleans, floats, generator, unique_indices
from clipnb._format import percent
from clipnb.datasets import LabeledImages
from clipnb.errors import InputError
from clipnb.intervals import proportion
from clipnb.reject import check_precision
from clipnb.widgets._base import LiveFigure, aligned, in_range, new_figure, pictures, read_module

STEPS = 100  # of the slider: percent of the images that are answered
SHOWN = 30


class RejectExplorer(LiveFigure):
    """Answer only the images of which the model is surest, and see how many of the answers are right.

    Args:
        data: LabeledImages.
        confidence: (N,) of each prediction, higher = surer (`margin.prediction_confidence`).
        right: (N,) bool, True where the prediction is right.
        indices: images to show; 30 at random if None.
        precision: wanted share of right answers, drawn as a line.

    The trait `answered` follows the slider: the share of images that are answered, in percent. It starts at 100. Images
    of one confidence are answered together. Numbers are over all images.

    Raises:
        InputError: a shape does not fit `data`, a confidence is not finite, or the data is over 300 kB.
    """

    _esm = read_module("reject.js")
    answered = traitlets.Int(STEPS).tag(sync=True)

    def __init__(
        self,
        data: LabeledImages,
        confidence: npt.ArrayLike,
        right: npt.ArrayLike,
        indices: Sequence[int] | None = None,
        precision: float = 0.95,
    ) -> None:
        values = floats(aligned("confidence", confidence, len(data)), "confidence", 1).astype(float)
        correct = booleans(right, "right", values.shape)
        if not len(values):
            raise InputError("Expected at least one image in `data`, got none")
        total = len(values)
        descending = -np.sort(-values)
        thresholds = descending[np.ceil(np.arange(1, STEPS + 1) * total / STEPS).astype(int) - 1]
        answered = total - np.searchsorted(np.sort(values), thresholds)
        hits = int(correct.sum()) - np.searchsorted(np.sort(values[correct]), thresholds)
        scores = [proportion(int(k), int(n)) for k, n in zip(hits, answered)]
        sample = np.sort(generator(0).choice(total, size=min(SHOWN, total), replace=False))
        chosen = unique_indices(sample if indices is None else indices, "indices", total).tolist()
        super().__init__(
            {
                "dataset": data.name,
                "total": total,
                "wanted": check_precision(precision),
                "thresholds": thresholds.tolist(),
                "answered": answered.tolist(),
                "right": hits.tolist(),
                "precision": [score.value for score in scores],
                "low": [score.low for score in scores],
                "high": [score.high for score in scores],
                "pictures": pictures(data, sorted(chosen, key=lambda i: -values[i]), confidence=values, right=correct),
            }
        )

    @traitlets.validate("answered")
    def _check_answered(self, proposal: dict[str, Any]) -> float:
        return in_range("answered", proposal["value"], 1, STEPS)

    def static_figure(self) -> Figure:
        """Share of right answers against the share of images that are answered, with the current state as a dot."""
        content = self.content
        coverage = np.array(content["answered"]) / content["total"]
        here = self.answered - 1
        figure = new_figure(6.4, 3.6)
        ax = figure.subplots()
        ax.fill_between(coverage, content["low"], content["high"], color=plots.GREY, alpha=0.4, label="95 % interval")
        ax.plot(coverage, content["precision"], color=plots.BLUE)
        ax.plot(coverage[here], content["precision"][here], "o", color=plots.INK, markersize=9)
        ax.axhline(content["wanted"], color=plots.INK, linestyle=":", label=f"wanted: {percent(content['wanted'], 0)}")
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of images answered", ylabel="right among the answers")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, loc="lower left")
        right = percent(content["precision"][here])
        figure.suptitle(f"{percent(coverage[here])} answered, {right} of these right", fontsize="medium")
        return figure
