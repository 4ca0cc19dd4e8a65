"""What the live figures share: data, checks, thumbnails and static figures."""

import base64
import io
import json
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from clipnb._checks import (
    as_numpy,
    real_number,
    require_attribute,
)
from clipnb.errors import InputError

HERE = Path(__file__).parent
LIMIT = 300_000  # bytes of one figure's data
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

    def __init__(self, content: dict, **state) -> None:
        size = len(json.dumps(content, allow_nan=False).encode())
        if size > LIMIT:
            raise InputError(
                f"Expected at most {LIMIT // 1000} kB of data for {type(self).__name__}, got {size // 1000} kB: "
                "show fewer pictures, classes or prompts"
            )
        super().__init__(content=content, **state)

    def _repr_mimebundle_(self, **options) -> tuple[dict, dict]:
        """The live figure, and its picture for viewers and exports that run no script."""
        data, metadata = super()._repr_mimebundle_(**options)
        picture = io.BytesIO()
        self.static_figure().savefig(picture, format="png")
        return {**data, "image/png": base64.b64encode(picture.getvalue()).decode()}, metadata


def in_range(name: str, value, low, high):
    if not low <= real_number(value, name) <= high:
        raise InputError(f"Expected `{name}` from {low} to {high}, got {value}")
    return value


def above_zero(temperature):
    if not 0 < real_number(temperature, "temperature") < np.inf:
        raise InputError(f"Expected `temperature` above 0, got {temperature}")
    return temperature


def aligned(name: str, values, length: int) -> np.ndarray:
    values = as_numpy(values, name)
    if values.shape != (length,):
        raise InputError(f"Expected `{name}` of shape (N,) = ({length},), got {values.shape}")
    return values


def evaluated(data, result, *names: str) -> list[np.ndarray]:
    """These arrays of `result`, one value a picture of `data`."""
    (
        require_attribute(data, "data", "classnames", "clipnb.load_dataset"),
        require_attribute(result, "result", "per_class_accuracy", "clipnb.evaluate"),
    )
    return [aligned(f"result.{name}", getattr(result, name), len(data)) for name in names]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that a notebook shows where it is returned, and not a second time at the end of the cell."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    return figure


def decode(src: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))


def ratio(part, whole) -> np.ndarray:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
