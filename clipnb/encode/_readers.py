"""Images prepared for the network: by Pillow, or by torchcodec on the model's own device."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from clipnb.datasets._images import LabeledImages, orientation
from clipnb.errors import InputError
from clipnb.models import Model, Preprocess, WrappedModel

Item = tuple[int, Any, str | None]  # (position, pixels, None), or (position, None, why it cannot be read)
# The pixels are one tensor, or a list of images where a model takes them as they are.
Batch = tuple[list[int], Any, dict[int, str]]


def collate(items: Sequence[Item]) -> Batch:
    """A batch: (positions that could be read, their pixels (B, 3, H, W) or None, reason by position of the others)."""
    good = [(i, pixels) for i, pixels, reason in items if reason is None]
    return (
        [i for i, _ in good],
        _batch([pixels for _, pixels in good]) if good else None,
        {i: reason for i, _, reason in items if reason is not None},
    )


def _batch(pixels: list[Any]) -> Any:
    """One tensor; a list of images where a model takes them as they are."""
    return torch.stack(pixels) if isinstance(pixels[0], torch.Tensor) else pixels


class Pixels(torch.utils.data.Dataset[Item]):
    """Images decoded by Pillow and transformed; item i is (i, pixels, None) or (i, None, why not)."""

    def __init__(self, data: LabeledImages, model: Model | WrappedModel) -> None:
        self.data = data
        self.model = model

    def __getitem__(self, i: int) -> Item:
        try:
            return i, self.model.preprocess(self.data[i][0]), None
        except InputError as error:
            return i, None, str(error)

    @staticmethod
    def collate(items: Sequence[Item]) -> Any:
        """Collect items in the process that reads."""
        return collate(items)

    def finish(self, batch: Any) -> Batch:
        """Complete a collated batch in the process that runs the network."""
        return batch


class DevicePixels(Pixels):
    """The same, but a JPEG file is only read; it is decoded (on a GPU by nvJPEG) and transformed on the model's device.

    On a GPU, pixels differ from Pillow's by a few of 255 levels, since the decoder and the rounding in resizing do.
    Other formats are left to Pillow, and so are batches with a file that torchcodec refuses.
    """

    def __init__(self, data: LabeledImages, model: Model | WrappedModel) -> None:
        super().__init__(data, model)
        try:
            decoders: Any = importlib.import_module("torchcodec.decoders")
        except (ImportError, RuntimeError):  # not installed, or built for another version of torch
            raise InputError(
                "Expected torchcodec for the decoder 'device', it cannot be imported; pip install 'clipnb[gpu]'"
            ) from None
        if not (isinstance(model.preprocess, Preprocess) and model.preprocess.takes_tensors):
            raise InputError(
                f"Expected the preprocessing of {model.name} to be torchvision's transforms for the decoder 'device', "
                "got another; leave the decoder out"
            )
        self._transformed = model.preprocess
        self._decode: Callable[..., list[torch.Tensor]] = decoders.decode_jpeg

    def __getitem__(self, i: int) -> Item:
        try:
            with self.data.opened(i) as image:
                # torchcodec reads CMYK in another way than Pillow, and rotates nothing.
                rotated = getattr(self.data, "turned", False) and orientation(image) != 1
                if image.format == "JPEG" and image.mode in ("RGB", "L") and not rotated:
                    file: Any = getattr(image, "fp", None)
                    file.seek(0)
                    return i, file.read(), None
        except Exception:  # decoders raise anything; Pillow's way says what is wrong
            pass
        return super().__getitem__(i)

    @staticmethod
    def collate(items: Sequence[Item]) -> list[Item]:
        """Leave the items as they are: files are decoded in the process that runs the network."""
        return list(items)

    def finish(self, batch: list[Item]) -> Batch:
        """Decode the JPEG files of a batch on the model's device."""
        files = {i: content for i, content, _ in batch if isinstance(content, bytes)}
        device = self.model.device
        try:
            decoded = self._decode(list(files.values()), device=device) if files else []
            ready: dict[int, Item] = {i: (i, self._transformed(image), None) for i, image in zip(files, decoded)}
        except RuntimeError:
            ready = {i: super(DevicePixels, self).__getitem__(i) for i in files}
        items = [ready.get(i, (i, pixels, reason)) for i, pixels, reason in batch]
        return collate([(i, pixels if reason else pixels.to(device), reason) for i, pixels, reason in items])
