"""Small array operations that several rooms share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def divide_or_nan(part: np.ndarray, whole: np.ndarray) -> npt.NDArray[np.float64]:
    """Elementwise `part` / `whole`, NaN where `whole` is not above 0.

    >>> divide_or_nan(np.array([1, 0]), np.array([2, 0]))
    array([0.5, nan])
    """
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def count_by_class(target: np.ndarray, num_classes: int) -> npt.NDArray[np.int64]:
    """Number of images of each class, (C,); a target of -1 is left out.

    >>> count_by_class(np.array([0, -1, 0]), 2)
    array([2, 0])
    """
    return np.bincount(target[target >= 0], minlength=num_classes)
