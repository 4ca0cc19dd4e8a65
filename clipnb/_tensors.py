"""What stands in for torch where it is not installed: NumPy arrays with the few methods of tensors that are used."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np

HAS_TORCH = find_spec("torch") is not None


class NumpyTensor(np.ndarray):
    """An array that answers as a tensor on the CPU does.

    >>> as_tensor(np.eye(2)).to("cpu").T.contiguous().numpy().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    @property
    def device(self):
        """The CPU: it has the type "cpu", as torch's."""
        return SimpleNamespace(type="cpu")

    def to(self, device) -> NumpyTensor:
        """Return the array itself: there is no other device."""
        return self

    def contiguous(self) -> NumpyTensor:
        """Return a copy in C order, or the array itself if it is."""
        return as_tensor(np.ascontiguousarray(self))

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
