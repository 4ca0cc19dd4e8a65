"""The device to compute on, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from clipnb._checks import text_of
from clipnb._format import first_line
from clipnb._tensors import HAS_TORCH
from clipnb.errors import InputError

if TYPE_CHECKING:
    import torch


def find_device(device: str | torch.device) -> torch.device:
    """The torch device with this name; "auto" is CUDA if there is one, else the CPU.

    Where torch is not installed, the CPU is the only device, by its name.

    >>> str(find_device("cpu"))
    'cpu'
    """
    if not HAS_TORCH:
        if text_of(device, "device") not in ("cpu", "auto"):
            raise InputError(f"Device {device!r} cannot be used here: torch is not installed; try auto or cpu")
        return cast("torch.device", "cpu")
    import torch  # takes a second, and only functions that compute on a device need it

    if not isinstance(device, torch.device):
        text_of(device, "device")
        if device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        result = torch.device(device)
        torch.empty(1, device=result)
    except Exception as error:
        raise InputError(f"Device {device!r} cannot be used here: {first_line(error)}; try auto or cpu") from None
    return result
