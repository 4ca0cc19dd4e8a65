"""The device to compute on, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipnb._checks import text_of
from clipnb._format import first_line
from clipnb.errors import InputError

if TYPE_CHECKING:
    import torch


def find_device(device: str | torch.device) -> torch.device:
    """The torch device with this name; "auto" is CUDA if there is one, else the CPU.

    >>> find_device("cpu")
    device(type='cpu')
    """
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
