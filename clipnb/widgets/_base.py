"""Shared by the live figures: data, checks, thumbnails and static figures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from clipnb._checks import as_numpy, real_number
from clipnb._format import thumbnail
from clipnb.datasets import LabeledImages
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult

HERE = Path(__file__).parent
MAX_BYTES = 300_000  # of one figure's data
SIDE = 64  # pixels of a thumbnail's longer side


def read_module(name: str) -> str:
    """The module of one figure: the shared helpers, then its own file."""
    return "\n".join((HERE / file).read_text(encoding="utf-8") for file in ("figure.js", name))


class LiveFigure(anywidget.AnyWidget):
    """A figure whose data is fixed (`content`) and whose state is a few synced traits.

    Each kind has `static_figure()`: its current state as a matplotlib figure, for print.

    Raises:
        InputError: the data is over 300 kB.
    """

    _css = HERE / "figure.css"
    content = traitlets.Dict().tag(sync=True)

    def __init__(self, content: dict[str, Any], **state: Any) -> None:
        size = len(json.dumps(content, allow_nan=False).encode())
        if size > MAX_BYTES:
            raise InputError(
                f"Expected at most {MAX_BYTES // 1000} kB of data for {type(self).__name__}, got {size // 1000} kB: "
                "show fewer images, classes or prompts"
            )
        super().__init__(content=content, **state)

    def static_figure(self) -> Figure:
        """The current state as a matplotlib figure, for print."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live figure, and an image of it for viewers and exports that run no script."""
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = cast("tuple[dict[str, Any], dict[str, Any]]", bundle)
        still = io.BytesIO()
        self.static_figure().savefig(still, format="png")
        return {**data, "image/png": base64.b64encode(still.getvalue()).decode()}, metadata


def in_range(name: str, value: float, low: float, high: float) -> float:
    """Check that a number is inside [low, high]."""
    if not low <= real_number(value, name) <= high:
        raise InputError(f"Expected `{name}` from {low} to {high}, got {value}")
    return value


def above_zero(temperature: float) -> float:
    """Check that a temperature is a positive number."""
    if not 0 < real_number(temperature, "temperature") < np.inf:
        raise InputError(f"Expected `temperature` above 0, got {temperature}")
    return temperature


def aligned(name: str, values: npt.ArrayLike, length: int) -> np.ndarray:
    """Check an array of one value for each of `length` images or prompts."""
    array = as_numpy(values, name)
    if array.shape != (length,):
        raise InputError(f"Expected `{name}` of shape (N,) = ({length},), got {array.shape}")
    return array


def evaluated(data: LabeledImages, result: EvaluationResult, *names: str) -> list[np.ndarray]:
    """The named arrays of `result`, with one value for each image of `data`."""
    return [aligned(f"result.{name}", getattr(result, name), len(data)) for name in names]


def pictures(data: LabeledImages, indices: Iterable[int], **values: np.ndarray) -> list[dict[str, Any]]:
    """Thumbnail and class name of each of these images, with its entry in every array of `values`."""
    return [
        {
            "src": thumbnail(data[i][0], SIDE),
            "name": data.classnames[data.labels[i]] if data.labels[i] >= 0 else "unknown",
            **{name: array[i].item() for name, array in values.items()},
        }
        for i in indices
    ]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that a notebook shows where it is returned, and not a second time at the end of the cell."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    return figure


def decode(src: str) -> Image.Image:
    """The image in a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))
