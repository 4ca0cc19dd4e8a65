"""Pictures made ready for the network: by Pillow, or by torchcodec on the model's own device."""

from __future__ import annotations

import torch

from clipnb.datasets._images import orientation
from clipnb.errors import InputError
from clipnb.models import Model


def collate(items):
    """(positions that could be read, their pixels (B, 3, H, W) or None, reason by position of the others) of a reader's items."""
    good = [(i, pixels) for i, pixels, why in items if why is None]
    return (
        [i for i, _ in good],
        _batch([pixels for _, pixels in good]) if good else None,
        {i: why for i, _, why in items if why is not None},
    )


def _batch(pixels):
    """One tensor; a list of images where a model takes them as they are."""
    return torch.stack(pixels) if isinstance(pixels[0], torch.Tensor) else pixels


class Pixels(torch.utils.data.Dataset):
    """Images decoded by Pillow and transformed; item i is (i, pixels, None) or (i, None, why not)."""

    collate = staticmethod(collate)  # in the process that reads

    def __init__(self, data, model: Model):
        self.data, self.model = data, model

    def __getitem__(self, i: int):
        try:
            return i, self.model.preprocess(self.data[i][0]), None
        except InputError as error:
            return i, None, str(error)

    def finish(self, batch):
        """What is left to be done to a batch in the process of the network."""
        return batch


class DevicePixels(Pixels):
    """The same, but a JPEG file is only read; it is decoded (on a GPU by nvJPEG) and transformed on the model's device.

    Pixels differ from Pillow's by a few of 255 levels, since decoders and the rounding in resizing do. Other formats are left to
    Pillow, and so are batches with a file that torchcodec refuses.
    """

    collate = staticmethod(list)

    def __init__(self, data, model: Model):
        super().__init__(data, model)
        try:
            from torchcodec.decoders import decode_jpeg
        except (ImportError, RuntimeError):  # not there, or not for this torch
            raise InputError(
                "Expected torchcodec for the decoder 'device', it cannot be imported; pip install 'clipnb[gpu]'"
            ) from None
        if not hasattr(getattr(model, "preprocess", None), "transforms"):
            raise InputError(
                f"Expected the preprocessing of {model.name} to be a list of transforms for the decoder 'device', got one function"
            )
        self._decode = decode_jpeg

    def __getitem__(self, i: int):
        try:
            with self.data.opened(i) as image:
                # torchcodec reads CMYK otherwise than Pillow, and turns nothing.
                turned = getattr(self.data, "turned", False) and orientation(image) != 1
                if image.format == "JPEG" and image.mode in ("RGB", "L") and not turned:
                    image.fp.seek(0)
                    return i, image.fp.read(), None
        except Exception:  # decoders raise anything; Pillow's way says what is wrong
            pass
        return super().__getitem__(i)

    def finish(self, batch):
        files, device = {i: read for i, read, _ in batch if isinstance(read, bytes)}, self.model.device
        try:
            decoded = self._decode(list(files.values()), device=device) if files else []
            ready = {i: (i, self._transformed(pixels), None) for i, pixels in zip(files, decoded)}
        except RuntimeError:
            ready = {i: super(DevicePixels, self).__getitem__(i) for i in files}
        items = [ready.get(i, (i, read, why)) for i, read, why in batch]
        return collate([(i, read if why else read.to(device), why) for i, read, why in items])

    def _transformed(self, pixels: torch.Tensor) -> torch.Tensor:
        from torchvision.transforms import ToTensor  # heavy: open_clip loads it when a model is

        for (
            step
        ) in self.model.preprocess.transforms:  # open_clip's take tensors, but then none of them scales to 0 to 1
            pixels = pixels / 255 if isinstance(step, ToTensor) else step(pixels)
        return pixels
