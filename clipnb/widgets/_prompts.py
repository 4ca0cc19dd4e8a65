"""Weights of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import floats, texts_of, whole_number
from clipnb._format import plain
from clipnb.ensemble import softmax_weights
from clipnb.intervals import Score
from clipnb.widgets._base import LiveFigure, above_zero, aligned, in_range, new_figure, read_module


class PromptWeightExplorer(LiveFigure):
    """How a softmax turns the scores of prompts into weights, colder or hotter.

    Args:
        prompts: P texts.
        scores: (P,) score of each prompt, larger is better; for example its margin.
        accuracies: (P,) accuracy of each prompt alone, a fraction in [0, 1]; optional.
        temperature: where the slider starts; a fifth of the range of the scores if None.
        top: how many prompts get a bar of their own.
        ensemble: returns the accuracy of the ensemble for (P,) weights; called once for each step of the slider.

    The trait `temperature` follows the slider.

    Raises:
        InputError: shapes differ, a score is not finite, or `temperature` is not positive.

    Example:
        >>> figure = PromptWeightExplorer(["a {}.", "a photo of a {}."], [0.0, 1.0], temperature=1)
        >>> figure.weights().round(3).tolist()
        [0.269, 0.731]
    """

    _esm = read_module("prompts.js")
    temperature = traitlets.Float().tag(sync=True)

    def __init__(
        self,
        prompts: Sequence[str],
        scores: npt.ArrayLike,
        accuracies: npt.ArrayLike | None = None,
        temperature: float | None = None,
        top: int = 12,
        ensemble: Callable[[npt.NDArray[np.float64]], Score] | None = None,
    ) -> None:
        prompts = texts_of(prompts, "prompts")
        top = whole_number(top, "top", 1)
        values = floats(aligned("scores", scores, len(prompts)), "scores", 1).astype(float)
        alone: np.ndarray | None = None
        if accuracies is not None:
            alone = floats(aligned("accuracies", accuracies, len(prompts)), "accuracies", 1).astype(float)
            in_range("accuracies", alone.min(), 0, 1)
            in_range("accuracies", alone.max(), 0, 1)
        if temperature is not None:
            above_zero(temperature)
        self._order = np.argsort(-values, kind="stable")
        spread = float(np.ptp(values)) or 1.0
        steps = [float(f"{spread * factor:.3g}") for factor in np.geomspace(0.01, 10, 31)]
        super().__init__(
            {
                "prompts": [
                    {
                        "text": prompts[p],
                        "score": values[p],
                        "accuracy": None if alone is None else float(alone[p]),
                    }
                    for p in self._order
                ],
                "temperatures": steps,
                "top": top,
                "mean_accuracy": None if alone is None else float(alone.mean()),
                "ensemble": None if ensemble is None else self._accuracies(ensemble, values, steps),
            },
            temperature=min(steps, key=lambda step: abs(step - spread / 5)) if temperature is None else temperature,
        )

    def _accuracies(
        self, ensemble: Callable[[npt.NDArray[np.float64]], Score], scores: np.ndarray, temperatures: list[float]
    ) -> dict[str, Any]:
        """The accuracy of the uniform ensemble, and of the ensemble at each temperature, with intervals."""
        weights = [softmax_weights(scores, temperature) for temperature in temperatures]
        return plain(
            {
                "uniform": ensemble(np.full(len(scores), 1 / len(scores))),
                "by_step": [ensemble(row) for row in weights],
            }
        )

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: dict[str, Any]) -> float:
        return above_zero(proposal["value"])

    def weights(self, temperature: float | None = None) -> npt.NDArray[np.float64]:
        """Weights in the order of `prompts`, (P,), adding up to one; at the current temperature if None."""
        scores = np.array([prompt["score"] for prompt in self.content["prompts"]])
        weights = np.empty(len(scores))
        weights[self._order] = softmax_weights(
            scores, self.temperature if temperature is None else above_zero(temperature)
        )
        return weights

    def effective_number(self, temperature: float | None = None) -> float:
        """Effective number of prompts, 1 / sum of squared weights: from 1 (one decides) to P (uniform)."""
        return float(1 / np.square(self.weights(temperature)).sum())

    def static_figure(self) -> Figure:
        """The weights at the current temperature."""
        prompts = self.content["prompts"]
        weights = self.weights()[self._order]
        figure = new_figure(6.4, 1.4 + 0.3 * min(len(prompts), self.content["top"]))
        plots.weights(weights, [prompt["text"] for prompt in prompts], ax=figure.subplots(), top=self.content["top"])
        figure.suptitle(
            f"temperature {self.temperature:g}: effective number of prompts {self.effective_number():.2f} "
            f"of {len(prompts)}",
            fontsize="medium",
        )
        return figure
