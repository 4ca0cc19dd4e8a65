"""What the chapters share: the look of charts, numbers as text, and sentences that contain numbers of the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipnb import _format

if TYPE_CHECKING:
    from IPython.display import Markdown
    from matplotlib.typing import RcKeyType

STYLE: dict[RcKeyType, Any] = {
    "figure.figsize": (6.4, 3.8),
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

NUMBERS = re.compile(r"[-+−\d]([-+−\d.%\[\], ]| to )*")  # a score with its interval, as text


def style() -> None:
    """Set the look of all charts of a notebook (matplotlib's rcParams), drawn at twice the resolution of the page."""
    import matplotlib.pyplot as plt
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    plt.rcParams.update(STYLE)
    set_matplotlib_formats("retina")


def say(text: str) -> Markdown:
    """Text with numbers of the run in it, shown as Markdown: the cell's source is folded, the sentence is its output.

    >>> say("**69.9 %** of the images").data
    '**69.9 %** of the images'
    """
    from IPython.display import Markdown

    return Markdown(text.strip("\n"))


def show(table: pd.DataFrame, percent: Sequence[str] = (), digits: int = 2) -> pd.DataFrame:
    """A table for the page: numbers as text that does not wrap, "undefined" for NaN, one header row, no row numbers.

    Args:
        table: any result; without an index of its own, its first column heads the rows.
        percent: columns of fractions that are shown as percentages; text among them stays as it is.
        digits: decimals of the other numbers that are not whole.

    >>> print(show(pd.DataFrame({"class": ["cat", "dog"], "images": [3, 4], "recall": [1 / 3, np.nan]}), ["recall"]))
    class  images     recall
    cat         3     33.3 %
    dog         4  undefined
    """
    shown = table.copy()
    for column in shown:
        if not pd.api.types.is_numeric_dtype(shown[column]):
            shown[column] = [_on_one_line(value) for value in shown[column]]
        elif column in percent:
            shown[column] = [_format.percent(value, none="undefined") for value in shown[column]]
        elif pd.api.types.is_float_dtype(shown[column]):
            shown[column] = ["undefined" if np.isnan(x) else f"{x:.{digits}f}" for x in shown[column]]
    if isinstance(table.index, pd.RangeIndex):
        shown = shown.set_index(table.columns[0])
    return shown.rename_axis(index=None, columns=shown.index.name)


def _on_one_line(value: Any) -> Any:
    """A score with its interval that does not wrap in a narrow column; anything else as it is."""
    return value.replace(" ", "\u00a0") if isinstance(value, str) and NUMBERS.fullmatch(value) else value


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage; "undefined" for NaN.

    >>> percent(0.6988), percent(float("nan"))
    ('69.9 %', 'undefined')
    """
    return _format.percent(fraction, digits, none="undefined")


def span(interval: Sequence[float], digits: int = 1) -> str:
    """The two ends of an interval of fractions as percentages; "undefined" where there is none.

    >>> span((0.677, 0.719)), span((0.677, 0.719), digits=0)
    ('67.7 to 71.9 %', '68 to 72 %')
    """
    low, high = interval
    return "undefined" if np.isnan([low, high]).any() else f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign.

    >>> points(0.021), points(-0.1)
    ('+2.1', '−10.0')
    """
    return f"{100 * difference:+.1f}".replace("-", "−")


def difference_chart(
    rows: Sequence[dict[str, Any]], parts: dict[str, str], label: str = "points against the bare name"
) -> None:
    """Each method's paired difference as a dot with its interval, in points, the best on top.

    Args:
        rows: from `paired.compare` or `compare_methods`; the baseline's row has no "difference".
        parts: scores in "difference" -> title; one panel each, ordered by the last one.
        label: of the horizontal axes.
    """
    import matplotlib.pyplot as plt

    from clipnb import plots

    rows = [row for row in rows if set(parts) <= set(row.get("difference", {}))]
    rows = sorted(rows, key=lambda row: row["difference"][list(parts)[-1]]["value"])
    lines = sum(1 + row["method"].count("\n") for row in rows)
    panels = plt.subplots(1, len(parts), sharey=True, squeeze=False, figsize=(8, 0.9 + 0.26 * lines))[1][0]
    for ax, (part, title) in zip(panels, parts.items(), strict=True):
        for place, row in enumerate(rows):
            found = row["difference"][part]
            colour = {"better": plots.BLUE, "worse": plots.ORANGE}.get(found["verdict"], plots.GREY)
            ax.hlines(place, 100 * found["ci"][0], 100 * found["ci"][1], color=colour)
            ax.plot(
                100 * found["value"], place, "o", color=colour, fillstyle="full" if colour != plots.GREY else "none"
            )
        ax.axvline(0, color=plots.INK, linestyle=":", linewidth=1)
        ax.set(title=title, xlabel=label)
    panels[0].set_yticks(range(len(rows)), [row["method"] for row in rows])


def listed(names: Sequence[str], none: str = "none") -> str:
    """Names as a list in a sentence.

    >>> listed(["cat", "dog", "fox"]), listed([])
    ('cat, dog and fox', 'none')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else none


def span_in_points(interval: Sequence[float]) -> str:
    """The two ends of an interval of differences in percentage points.

    >>> span_in_points((0.004, 0.039))
    '+0.4 to +3.9'
    """
    return f"{points(interval[0])} to {points(interval[1])}"


def change(difference: float, interval: Sequence[float]) -> str:
    """A difference of fractions with its interval, for a sentence.

    >>> change(0.021, (0.004, 0.039))
    '+2.1 points, interval +0.4 to +3.9'
    """
    return f"{points(difference)} points, interval {span_in_points(interval)}"


def decimal(value: float) -> str:
    """A number with two decimals, such as a correlation; "undefined" for NaN.

    >>> decimal(0.456)
    '0.46'
    """
    return "undefined" if np.isnan(value) else f"{value:.2f}"
