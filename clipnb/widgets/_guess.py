"""A question whose answer the reader guesses before it is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._checks import floats, real_number, text_of
from clipnb._format import number_or_none, plain, score_text
from clipnb.errors import InputError
from clipnb.intervals import Score
from clipnb.widgets._base import LiveFigure, in_range, new_figure, read_module

HANDLES = 5  # points of a curve that the reader moves
MAX_POINTS = 400  # of the true curve


class NumberGuess(LiveFigure):
    """Predict a fraction, then reveal it; the guess stays on the figure.

    Args:
        question: what is asked; the answer is a fraction.
        answer: a `Score`, or a fraction in [0, 1].
        chance: the fraction that blind guessing or another baseline reaches; optional.

    The trait `guess` follows the slider, `revealed` the button.

    Raises:
        InputError: the question is empty, or a number is not in [0, 1].

    Example:
        >>> NumberGuess("How many of 100 coins show heads?", 0.5).content["answer"]
        [0.5, None, None]
    """

    _esm = read_module("number.js")
    guess = traitlets.Float(0.5).tag(sync=True)
    revealed = traitlets.Bool(False).tag(sync=True)

    def __init__(self, question: str, answer: Score | float, chance: float | None = None) -> None:
        text_of(question, "question")
        value, low, high = answer if isinstance(answer, Score) else (answer, np.nan, np.nan)
        in_range("answer", value, 0, 1)
        if chance is not None:
            in_range("chance", chance, 0, 1)
        super().__init__({"question": question, "answer": plain([value, low, high]), "chance": chance})

    @traitlets.validate("guess")
    def _check_guess(self, proposal: dict[str, Any]) -> float:
        return in_range("guess", proposal["value"], 0, 1)

    def static_figure(self) -> Figure:
        """The answer and the baseline as bars; with the guess, once it is revealed."""
        value, low, high = self.content["answer"]
        bars = {"answer": (value, score_text(value, low, high, ".1%"))}
        if self.content["chance"] is not None:
            bars = {"baseline": (self.content["chance"], score_text(self.content["chance"], None, None, ".1%")), **bars}
        if self.revealed:
            bars["your guess"] = (self.guess, score_text(self.guess, None, None, ".0%"))
        figure = new_figure(6.4, 0.9 + 0.4 * len(bars))
        ax = figure.subplots()
        drawn = ax.barh(list(bars), [length for length, _ in bars.values()], color=plots.BLUE)
        ax.bar_label(drawn, [text for _, text in bars.values()], padding=4)
        ax.set(xlim=(0, 1.3), xticks=[])
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.set_title(self.content["question"], loc="left", fontsize=10, wrap=True, parse_math=False)
        return figure


class CurveGuess(LiveFigure):
    """Predict the sorted accuracies of all classes, then reveal them; the guess stays on the figure.

    Args:
        question: what is asked.
        per_class: (C,) accuracies, fractions in [0, 1]; NaN (a class without images) is left out.

    The trait `guess` holds the heights of the five points that the reader moves, from the worst class to the best one;
    `revealed` follows the button.

    Raises:
        InputError: the question is empty, there are fewer than two classes, or a value is not in [0, 1].

    Example:
        >>> figure = CurveGuess("How do the classes differ?", [0.0, 1.0, 0.5])
        >>> figure.content["curve"]
        [0.0, 0.5, 1.0]
    """

    _esm = read_module("curve.js")
    guess = traitlets.List(traitlets.Float(min=0, max=1), [0.5] * HANDLES, minlen=HANDLES, maxlen=HANDLES).tag(
        sync=True
    )
    revealed = traitlets.Bool(False).tag(sync=True)

    def __init__(self, question: str, per_class: npt.ArrayLike) -> None:
        text_of(question, "question")
        values = floats(per_class, "per_class", 1, finite=False).astype(float)
        values = np.sort(values[~np.isnan(values)])
        if len(values) < 2:
            raise InputError(f"Expected `per_class` of at least two classes with images, got {len(values)}")
        for value in values[[0, -1]]:
            in_range("per_class", real_number(float(value), "per_class"), 0, 1)
        points = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS)).round().astype(int))
        super().__init__(
            {
                "question": question,
                "classes": len(values),
                "places": points.tolist(),
                "curve": values[points].tolist(),
                "zero": int((values == 0).sum()),
                "mean": number_or_none(values.mean()),
            }
        )

    def static_figure(self) -> Figure:
        """The sorted accuracies; with the guess, once it is revealed."""
        content = self.content
        figure = new_figure(6.4, 3.2)
        ax = figure.subplots()
        places = np.array(content["places"]) + 1
        ax.step(places, content["curve"], where="mid", color=plots.BLUE, label="measured")
        if self.revealed:
            ax.plot(
                np.linspace(1, content["classes"], HANDLES), self.guess, "o--", color=plots.ORANGE, label="your guess"
            )
            ax.legend(frameon=False)
        ax.set(xlabel="classes, worst first", ylabel="accuracy", ylim=(-0.03, 1.03))
        ax.yaxis.set_major_formatter("{x:.0%}")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title(content["question"], loc="left", fontsize=10, wrap=True, parse_math=False)
        return figure
