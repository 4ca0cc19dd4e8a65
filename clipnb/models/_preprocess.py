"""open_clip's preprocessing at the rate of torchvision's kernel for 8-bit tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image


class Preprocess:
    """PIL image, or (3, H, W) uint8 tensor, -> (3, H, W) float tensor: what open_clip's transforms give.

    An image becomes a tensor before it is resized, not after: torchvision resizes 8-bit tensors as Pillow resizes
    images, but several times as fast on large photographs. A few values differ, by 1 of 255 levels; where a portrait is
    squashed to a square, about a fifth of the values do, by up to 3, since Pillow then resizes in another order.

    steps: open_clip's transforms, the last two of which convert to a tensor and to zero mean and unit variance.
    takes_tensors: whether all steps before these are known to take tensors; otherwise images go through all `steps`.
    """

    def __init__(self, steps: list[Callable[[Any], Any]]) -> None:
        from open_clip.transform import MaybeConvertMode
        from torchvision.transforms import CenterCrop, Resize

        self.steps = steps
        self.takes_tensors = all(isinstance(step, (Resize, CenterCrop, MaybeConvertMode)) for step in steps[:-2])

    def __call__(self, image: Image.Image | torch.Tensor) -> torch.Tensor:
        from torchvision.transforms import Resize
        from torchvision.transforms.v2 import functional

        *geometry, to_tensor, normalize = self.steps
        pixels: Any = image
        if isinstance(image, Image.Image) and self.takes_tensors:
            pixels = functional.pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))
        for step in geometry:
            if isinstance(step, Resize) and isinstance(pixels, torch.Tensor):
                # The transform itself would resize in floating point, which is slower and further from Pillow.
                size: Any = step.size
                pixels = functional.resize(pixels, size, step.interpolation, antialias=True)
            else:
                pixels = step(pixels)
        pixels = pixels.float().div_(255) if isinstance(pixels, torch.Tensor) else to_tensor(pixels)
        return functional.normalize(pixels, normalize.mean, normalize.std, inplace=True)

    def __repr__(self) -> str:
        # A part of the model's fingerprint, so that vectors of other pixels are told apart.
        return f"{'8-bit tensors' if self.takes_tensors else 'Pillow'}: {self.steps}"
