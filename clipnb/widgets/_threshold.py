"""A gallery searched with a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._arrays import divide_or_nan
from clipnb._checks import booleans, floats, text_of, unique_indices
from clipnb._format import number_or_none, percent
from clipnb.datasets import LabeledImages
from clipnb.errors import InputError
from clipnb.widgets._base import LiveFigure, aligned, new_figure, pictures, read_module


class ThresholdExplorer(LiveFigure):
    """Search a gallery with a threshold: images enter and leave, precision and recall change.

    Args:
        data: LabeledImages.
        scores: (N,) similarity of each image to the query; an image is found if its score is at least the threshold.
        positives: (N,) bool, True where the image shows what is searched for.
        indices: images to show; if None, up to 36: positives spread over all ranks, and the best-scored others.
        name: name of what is searched for.

    The trait `threshold` follows the slider, whose steps are about a hundred round numbers from the lowest positive to
    above the highest score; it starts where F1 is largest. Counts are over all images.

    Raises:
        InputError: a shape does not fit `data`, a score is not finite, there is no positive, or the data is over 300
            kB.
    """

    _esm = read_module("threshold.js")
    threshold = traitlets.Float().tag(sync=True)

    def __init__(
        self,
        data: LabeledImages,
        scores: npt.ArrayLike,
        positives: npt.ArrayLike,
        indices: Sequence[int] | None = None,
        name: str = "dog",
    ) -> None:
        text_of(name, "name")
        values = floats(aligned("scores", scores, len(data)), "scores", 1).astype(float)
        relevant = booleans(positives, "positives", values.shape)
        if not relevant.any():
            raise InputError("Expected `positives` with at least one True, got none")
        thresholds, decimals = round_steps(values[relevant].min(), values.max())
        total = len(values)
        wanted = int(relevant.sum())
        found = total - np.searchsorted(np.sort(values), thresholds)
        tp = wanted - np.searchsorted(np.sort(values[relevant]), thresholds)
        f1 = 2 * tp / (found + wanted)
        if indices is None:
            chosen = _gallery(values, relevant)
            others = "the best-scored "
        else:
            chosen = unique_indices(indices, "indices", total).tolist()
            others = ""
        drawn = int(relevant[chosen].sum())
        super().__init__(
            {
                "name": name,
                "dataset": data.name,
                "thresholds": thresholds.tolist(),
                "decimals": decimals,
                "tp": tp.tolist(),
                "fp": (found - tp).tolist(),
                "fn": (wanted - tp).tolist(),
                "tn": (total - found - wanted + tp).tolist(),
                "precision": [number_or_none(x) for x in divide_or_nan(tp, found)],
                "recall": (tp / wanted).tolist(),
                "f1": f1.tolist(),
                "base_rate": wanted / total,
                "picked": f"{drawn} of the {wanted} positives and {others}{len(chosen) - drawn} "
                f"of the {total - wanted} others, by score",
                "pictures": pictures(data, sorted(chosen, key=lambda i: -values[i]), score=values, positive=relevant),
            },
            threshold=float(thresholds[f1.argmax()]),
        )

    def static_figure(self) -> Figure:
        """The curve with the current threshold as a dot."""
        content = self.content
        t = int(np.abs(np.array(content["thresholds"]) - self.threshold).argmin())
        defined = [i for i, value in enumerate(content["precision"]) if value is not None]
        figure = new_figure(6.4, 4)
        ax = plots.precision_recall(
            [content["precision"][i] for i in defined],
            [content["recall"][i] for i in defined],
            ax=figure.subplots(),
            base_rate=content["base_rate"],
        )
        if t in defined:
            ax.plot(content["recall"][t], content["precision"][t], "o", color=plots.INK, markersize=9)
        figure.suptitle(
            f"“{content['name']}” from a score of {content['thresholds'][t]}: "
            f"precision {percent(content['precision'][t], none='undefined')}, recall "
            f"{percent(content['recall'][t], none='undefined')}",
            fontsize="medium",
            parse_math=False,
        )
        return figure


def round_steps(low: float, high: float) -> tuple[np.ndarray, int]:
    """About a hundred round numbers from just below `low` to just above `high`, and their decimals."""
    raw = (high - low) / 100 or 0.001
    magnitude = 10.0 ** np.floor(np.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw)
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    return np.round(np.arange(np.floor(low / step), np.floor(high / step) + 2) * step, decimals), decimals


def _gallery(scores: np.ndarray, positives: np.ndarray, count: int = 36) -> list[int]:
    """Half positives, spread over all their ranks, and half the best-scored others."""
    best_first = np.argsort(-scores, kind="stable")
    wanted = best_first[positives[best_first]]
    others = best_first[~positives[best_first]]
    spread = np.unique(np.linspace(0, len(wanted) - 1, min(count // 2, len(wanted))).round().astype(int))
    return [*wanted[spread].tolist(), *others[: count - len(spread)].tolist()]
