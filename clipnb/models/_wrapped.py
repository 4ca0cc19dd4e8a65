"""Any two functions as a model: an embedding service, an ONNX session, a model of sentence-transformers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from clipnb._checks import floats, format_value, real_number, text_of
from clipnb.errors import InputError
from clipnb.models._model import Precision
from clipnb.similarity import unit_norm

TEXTS_A_CALL = 256  # texts that a function gets at once
ImageEncoder = Callable[[list[Image.Image]], npt.ArrayLike]
TextEncoder = Callable[[list[str]], npt.ArrayLike]


@dataclass(frozen=True, eq=False)
class WrappedModel:
    """Two functions behind the face of a `Model`; made by `wrap_model`."""

    name: str
    pretrained: str
    image_function: ImageEncoder = field(repr=False)
    text_function: TextEncoder = field(repr=False)
    fingerprint: str | None  # of what determines image vectors; None where nothing is known of it
    text_fingerprint: str | None  # of what determines text vectors; None: they are not cached
    logit_scale: float  # what a cosine is multiplied by where a probability is shown
    logit_bias: float | None  # what is added then, by a model that was trained with a sigmoid
    # Where the images come from; the functions compute where they like.
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    precision: Precision = "fp32"
    exact: None = None
    tokenizer: None = None  # the text function takes strings
    context_length: None = None  # and it is unknown where it cuts them
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def preprocess(self, image: Image.Image) -> Image.Image:
        """The image itself, since the function takes it as it is."""
        return image

    @cached_property
    def dimensions(self) -> int:
        """D, the width of a vector, measured on a text."""
        return self.encode_strings(["a"]).shape[1]

    def encode_pixels(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Unit-norm image vectors (B, D) float32."""
        with self._one_at_a_time:  # a function need not be safe in several threads
            vectors = self.image_function(list(images))
        vectors = _checked(vectors, len(images), "encode_images", "images")
        if vectors.shape[1] != self.dimensions:
            raise InputError(
                f"Expected `encode_images` and `encode_texts` to return vectors of one width D, "
                f"got {vectors.shape[1]} and {self.dimensions}"
            )
        return vectors

    def encode_strings(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm text vectors (B, D) float32."""
        parts = []
        for start in range(0, len(texts), TEXTS_A_CALL):
            part = list(texts[start : start + TEXTS_A_CALL])
            with self._one_at_a_time:
                vectors = self.text_function(part)
            parts.append(_checked(vectors, len(part), "encode_texts", "texts"))
        if len({part.shape[1] for part in parts}) > 1:
            raise InputError("Expected `encode_texts` to return vectors of one width D, got different ones")
        return np.concatenate(parts)


def _checked(vectors: npt.ArrayLike, count: int, function: str, what: str) -> np.ndarray:
    """What a function returned, normalised, if it is one finite vector for each of its inputs."""
    array = floats(vectors, f"result of {function}", 2)
    if array.shape[0] != count or not array.shape[1]:
        raise InputError(
            f"Expected `{function}` to return an array of shape (N, D) = ({count}, D) for {count} {what}, "
            f"got {array.shape}"
        )
    if not array.any(axis=1).all():
        raise InputError(f"Expected `{function}` to return vectors with a direction, got a row of zeros")
    return unit_norm(array.astype(np.float64)).astype(np.float32)


def wrap_model(
    encode_images: ImageEncoder,
    encode_texts: TextEncoder,
    name: str | None = None,
    logit_scale: float = 100.0,
    logit_bias: float | None = None,
) -> WrappedModel:
    """Use any two functions as a model: an embedding service, an ONNX session, another library.

    The result works wherever a loaded model does: `encode_images`, `encode_texts`, `zero_shot_classifier` and
    `audit(model=...)`. Vectors are normalised here, and their number, width and finiteness are checked. The functions
    are called by one thread at a time. Text vectors are not cached between runs, since nothing tells whether a function
    has changed.

    Args:
        encode_images: takes a list of RGB PIL images and returns their vectors (N, D), of any norm.
        encode_texts: takes a list of N strings and returns their vectors (N, D), of any norm.
        name: what the model is called in results. It also stands for the model in a store of vectors, so give
            another name where the functions change; without a name no store can be written.
        logit_scale: what a cosine is multiplied by where a probability is shown, > 0.
        logit_bias: what is added to that by a model that was trained with a sigmoid, such as SigLIP; None: softmax.

    Returns:
        A model for `clipnb.encode_images` and the other functions that take one.

    Raises:
        InputError: an argument is not a function, or a name or number cannot be used. The functions' results are
            checked when they are called.

    >>> import numpy as np
    >>> from clipnb import encode_texts
    >>> def lengths(texts):
    ...     return np.array([[len(text), text.count(" ") + 1] for text in texts])
    >>> model = wrap_model(lambda images: np.array([image.size for image in images]), lengths, name="sizes")
    >>> encode_texts(model, ["a dog", "dog"]).round(2).tolist()
    [[0.9300000071525574, 0.3700000047683716], [0.949999988079071, 0.3199999928474426]]
    """
    for argument, function in (("encode_images", encode_images), ("encode_texts", encode_texts)):
        if not callable(function):
            raise InputError(f"Expected `{argument}` to be a function, got {format_value(function)}")
    if name is not None:
        text_of(name, "name")
    scale, bias = check_logits(logit_scale, logit_bias)
    return WrappedModel(
        name or "wrapped functions",
        "wrapped",
        encode_images,
        encode_texts,
        None if name is None else f"name:{name}",
        None,
        scale,
        bias,
    )


def check_logits(logit_scale: float, logit_bias: float | None) -> tuple[float, float | None]:
    """Return the scale if it is above 0 and the bias if it is finite."""
    if not 0 < real_number(logit_scale, "logit_scale") <= 1e6:
        raise InputError(f"Expected `logit_scale` > 0 and at most 1e6, got {logit_scale}")
    if logit_bias is not None and not abs(real_number(logit_bias, "logit_bias")) <= 1e6:
        raise InputError(f"Expected `logit_bias` between -1e6 and 1e6, got {logit_bias}")
    return float(logit_scale), None if logit_bias is None else float(logit_bias)
