"""How values are shown to people and written as JSON: one way for each kind of value."""

from __future__ import annotations

import base64
import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

MAX_LINE = 300  # characters of an error that are quoted
MAX_DIGITS = 4  # decimals of a score with a very narrow interval


def percent(fraction: float | None, decimals: int = 1, none: str = "-") -> str:
    """Return a fraction in percent, or `none` where it is undefined.

    >>> percent(0.6985), percent(0.0016, decimals=2), percent(float("nan"))
    ('69.8 %', '0.16 %', '-')
    """
    if fraction is None or math.isnan(fraction):
        return none
    return f"{100 * fraction:.{decimals}f} %"


def score_text(value: float | None, low: float | None, high: float | None, spec: str, unit: str = "") -> str:
    """Return a value with the ends of its interval: the value alone, the range alone, or both; "-" for neither.

    Args:
        value: the score; None or NaN where it is undefined.
        low: lower end of its interval; None or NaN where there is none.
        high: upper end.
        spec: format specification of one number; with a percent sign, numbers are shown in percent.
        unit: text after a value or a range.

    >>> score_text(0.699, 0.677, 0.719, ".1%"), score_text(None, 0.1, 0.2, ".1%"), score_text(0.5, None, None, ".3f")
    ('69.9 % [67.7, 71.9]', '10.0 to 20.0 %', '0.500')

    Ends that differ are not shown as one number:

    >>> score_text(0.0001, 0.0, 0.0004, ".1%")
    '0.01 % [0.00, 0.04]'
    """
    if spec.endswith("%"):
        unit = " %"

    def text(number: float) -> str:
        return format(number, spec).removesuffix("%")

    if value is not None and math.isnan(value):
        value = None
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "-" if value is None else text(value) + unit
    if value is None:
        return f"{text(low)} to {text(high)}{unit}"
    digits = re.search(r"(?<=\.)\d(?=[f%]$)", spec)
    if digits and low != high and text(low) == text(high) and int(digits[0]) < MAX_DIGITS:
        return score_text(value, low, high, spec.replace(f".{digits[0]}", f".{int(digits[0]) + 1}"), unit)
    return f"{text(value)}{unit} [{text(low)}, {text(high)}]"


def first_line(error: BaseException) -> str:
    r"""Return what an error says, as one line of bounded length; its type if it says nothing.

    >>> first_line(ValueError("two\nlines")), first_line(KeyError())
    ('two', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:MAX_LINE]


def number_or_none(value: float) -> float | None:
    """Return a plain float, or None for NaN, which JSON does not have.

    >>> number_or_none(np.float32(0.5)), number_or_none(float("nan"))
    (0.5, None)
    """
    return None if np.isnan(value) else float(value)


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: mappings, lists and plain numbers, None for what is not finite.

    >>> plain({"a": np.array([1.0, np.nan]), 2: (np.int64(3),)})
    {'a': [1.0, None], '2': [3]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def thumbnail(image: Image.Image, side: int) -> str:
    """Return a WebP copy of an image, at most `side` pixels wide and high, as a data URI.

    >>> from PIL import Image
    >>> thumbnail(Image.new("RGB", (9, 9)), side=4)[:23]
    'data:image/webp;base64,'
    """
    from PIL import Image

    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
