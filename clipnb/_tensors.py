"""What stands in for torch where it is not installed: NumPy arrays with the few methods of tensors that are used."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import scipy  # loads scipy.special when it is first used

HAS_TORCH = find_spec("torch") is not None


class NumpyTensor(np.ndarray):
    """An array that answers as a tensor on the CPU does.

    >>> as_tensor(np.eye(2)).to("cpu").T.contiguous().numpy().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    @property
    def device(self) -> SimpleNamespace:
        """The CPU: it has the type "cpu", as torch's."""
        return SimpleNamespace(type="cpu")

    def to(self, device: object) -> NumpyTensor:
        """Return the array itself: there is no other device."""
        return self

    def contiguous(self) -> NumpyTensor:
        """Return a copy in C order, or the array itself if it is."""
        return as_tensor(np.ascontiguousarray(self))

    def amax(self, dim: int) -> NumpyTensor:
        """Return the maximum along an axis."""
        return as_tensor(self.numpy().max(axis=dim))

    def softmax(self, dim: int) -> NumpyTensor:
        """Return the softmax along an axis."""
        return as_tensor(scipy.special.softmax(self.numpy(), axis=dim))

    def sum(self, dim: int | None = None) -> NumpyTensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the sum along an axis, or of all."""
        return as_tensor(np.asarray(self.numpy().sum(axis=dim)))

    def numpy(self) -> np.ndarray:
        """Return the plain array, which shares its memory."""
        return self.view(np.ndarray)


def as_tensor(array: np.ndarray) -> NumpyTensor:
    """Return an array that answers as a tensor, which shares its memory.

    >>> as_tensor(np.zeros(2)).device.type
    'cpu'
    """
    return array.view(NumpyTensor)


def count_cores() -> int:
    """Return how many cores this process may use.

    >>> count_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
