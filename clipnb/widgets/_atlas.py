"""Every class as a square."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from clipnb import plots
from clipnb._checks import one_of, unique_indices, whole_number
from clipnb._format import number_or_none
from clipnb.datasets import LabeledImages
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.intervals import proportion
from clipnb.margin import worst_first
from clipnb.widgets._base import LiveFigure, evaluated, in_range, new_figure, read_module

SORTS = ("accuracy", "margin", "margin without labels", "images", "times predicted")
SHEET_BYTES = 150_000  # of the images of all classes together
SIDE = 48  # pixels of an image on the sheet
COLUMNS = 24
ANSWERS = 3  # most frequent wrong answers of a class


class ClassAtlas(LiveFigure):
    """Every class as a square that opens: its accuracy, margin, images, and what they are taken for.

    With the labels off, the squares show what can be known without labels, and the slider flags the classes with the
    lowest margins; with the labels on, one sees which of the flagged classes are bad.

    Args:
        data: LabeledImages.
        result: what `clipnb.evaluate` returned for `data`.
        classes: class indices to show; all classes that have images if None.
        per_class: largest number of images of one class, those of lowest margin; fewer where 150 kB do not hold them
            all, and the worst classes come first.
        labels: whether the figure starts with the labels on.
        sort: one of "accuracy", "margin", "margin without labels", "images", "times predicted"; where it starts.

    The traits `labels`, `sort` and `flagged` (number of flagged classes) follow the controls; `chosen` is the index of
    the open class.

    Raises:
        InputError: `result` is not of `data`, a class is out of range or has no images, or the data is over 300 kB.
    """

    _esm = read_module("atlas.js")
    labels = traitlets.Bool(True).tag(sync=True)
    sort = traitlets.Enum(SORTS, SORTS[0]).tag(sync=True)
    flagged = traitlets.Int(1).tag(sync=True)
    chosen = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        data: LabeledImages,
        result: EvaluationResult,
        classes: Sequence[int] | None = None,
        per_class: int = 3,
        labels: bool = True,
        sort: str = SORTS[0],
    ) -> None:
        actual, predictions, margins = evaluated(data, result, "labels", "predictions", "margins")
        per_class = whole_number(per_class, "per_class", 1)
        one_of(sort, "sort", SORTS)
        accuracy = result.per_class_accuracy
        present = np.flatnonzero(~np.isnan(accuracy))
        shown = np.array(unique_indices(present if classes is None else classes, "classes", len(accuracy)))
        if empty := [data.classnames[c] for c in shown if np.isnan(accuracy[c])]:
            raise InputError(f"Expected `classes` that have images, got without any: {empty}")
        margin = result.cmm["image"][shown]
        label_free = result.cmm["pseudo_image"][shown]
        right = result.confusion[shown, shown]
        count = result.confusion.sum(axis=1)[shown]
        predicted = result.confusion.sum(axis=0)[shown]
        by_accuracy = np.lexsort((margin, accuracy[shown]))
        suspects = worst_first(label_free)
        orders = [
            by_accuracy,
            np.argsort(margin, kind="stable"),
            suspects,
            np.argsort(count, kind="stable"),
            np.argsort(predicted, kind="stable"),
        ]
        depths = range(1, len(shown) + 1)
        sheet, images = _sheet(data, _candidates(shown[by_accuracy], actual, margins, per_class))
        super().__init__(
            {
                "name": data.name,
                "names": list(data.classnames),
                "classes": shown.tolist(),
                "right": right.tolist(),
                "count": count.tolist(),
                "interval": [_rounded(proportion(*pair)[1:]) for pair in zip(right.tolist(), count.tolist())],
                "margin": _rounded(margin),
                "label_free": _rounded(label_free),
                "predicted": predicted.tolist(),
                "answers": [_wrong_answers(result.confusion[c], c) for c in shown],
                "orders": dict(zip(SORTS, (order.tolist() for order in orders), strict=True)),
                "found": [len(np.intersect1d(suspects[:depth], by_accuracy[:depth])) for depth in depths],
                "flagged_mean": [float(accuracy[shown[suspects[:depth]]].mean()) for depth in depths],
                "mean": float(accuracy[shown].mean()),
                "sheet": {"src": sheet, "side": SIDE, "columns": COLUMNS, "rows": -(-len(images) // COLUMNS)},
                "images": [[int(actual[i]), int(predictions[i]), *_rounded([margins[i]])] for i in images],
            },
            labels=labels,
            sort=sort,
            flagged=min(10, len(shown)),
            chosen=int(shown[orders[SORTS.index(sort)][0]]),
        )

    @traitlets.validate("flagged")
    def _check_flagged(self, proposal: dict[str, Any]) -> float:
        return in_range("flagged", proposal["value"], 1, len(self.content["classes"]))

    def shares(self) -> list[float]:
        """Part of each square that is filled, in the order of `classes`: the accuracy, or, with the labels off, the
        margin without labels as a share of the largest one; 0 for a class that is never predicted.
        """
        content = self.content
        if self.labels:
            return [right / count for right, count in zip(content["right"], content["count"], strict=True)]
        values = [value or 0.0 for value in content["label_free"]]
        highest = max(values) or 1.0
        return [value / highest for value in values]

    def static_figure(self) -> Figure:
        """The squares in their current order, filled up to the accuracy; flagged classes have a bold frame."""
        content = self.content
        order = content["orders"][self.sort]
        flagged = set(content["orders"][SORTS[2]][: self.flagged])
        columns = min(len(order), COLUMNS)
        rows = -(-len(order) // columns)
        shares = self.shares()
        filled = "accuracy" if self.labels else "margin without labels"
        figure = new_figure(7, 0.9 + 0.29 * rows)
        ax = figure.subplots()
        for place, position in enumerate(order):
            corner = (place % columns, -(place // columns))
            edge, width = (plots.ORANGE, 2.0) if position in flagged else (plots.GREY, 0.8)
            ax.add_patch(Rectangle(corner, 0.8, 0.8 * shares[position], facecolor=plots.BLUE))
            ax.add_patch(Rectangle(corner, 0.8, 0.8, facecolor="none", edgecolor=edge, linewidth=width))
        ax.set(xlim=(-0.3, columns), ylim=(0.3 - rows, 1.1), aspect="equal")
        ax.axis("off")
        ax.set_title(
            f"{content['name']}: {len(order)} classes by {self.sort}, filled up to the {filled};\n"
            f"a bold frame marks the {self.flagged} flagged without labels",
            fontsize=9,
            loc="left",
            parse_math=False,
        )
        return figure


def _rounded(values: npt.ArrayLike) -> list[float | None]:
    """Plain numbers with five decimals, None for NaN."""
    return [number_or_none(value) for value in np.round(np.asarray(values, dtype=float), 5)]


def _wrong_answers(row: np.ndarray, c: int) -> list[list[int]]:
    """[class, count] of the most frequent wrong answers in a row of the confusion matrix."""
    wrong = row.copy()
    wrong[c] = 0
    best = np.argsort(-wrong, kind="stable")[:ANSWERS]
    return [[int(other), int(wrong[other])] for other in best if wrong[other]]


def _candidates(classes: np.ndarray, labels: np.ndarray, margins: np.ndarray, per_class: int) -> list[int]:
    """The image of lowest margin of every class, then the second of every class, and so on."""
    rows = []
    for place, c in enumerate(classes):
        members = np.flatnonzero(labels == c)
        lowest = members[np.argsort(margins[members], kind="stable")[:per_class]]
        rows += [(rank, place, int(i)) for rank, i in enumerate(lowest)]
    return [i for _, _, i in sorted(rows)]


def _sheet(data: LabeledImages, indices: list[int]) -> tuple[str, list[int]]:
    """The images side by side in one WebP file, as a data URI, and the indices of those that fit in `SHEET_BYTES`."""
    tiles = []
    for i in indices:
        tile = data[i][0].convert("RGB")
        tile.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        tiles.append(tile)
    while True:
        sheet = Image.new("RGB", (SIDE * COLUMNS, SIDE * -(-len(tiles) // COLUMNS)), "white")
        for place, tile in enumerate(tiles):
            left = SIDE * (place % COLUMNS) + (SIDE - tile.width) // 2
            sheet.paste(tile, (left, SIDE * (place // COLUMNS) + (SIDE - tile.height) // 2))
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=50, method=4)
        if len(file.getvalue()) <= SHEET_BYTES or len(tiles) == 1:
            return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode(), indices[: len(tiles)]
        tiles = tiles[: len(tiles) * SHEET_BYTES // len(file.getvalue())]
