"""What a model's towers can do faster without a change to their vectors: measured once for a model, never assumed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipnb import _runtime
from clipnb.models._prefixes import trees
from clipnb.models._towers import fold_norms, read_images, unit_norm

if TYPE_CHECKING:
    from clipnb.models._model import Model

# Prompts of different lengths, some of which begin alike.
PROMPTS = (
    "dog",
    "a photo of a dog.",
    "a photo of a dog and a cat.",
    "a drawing of a very small red fire engine.",
    "!",
    "2 \u72ac, " * 5,
)
TOLERANCE = 1e-5  # largest difference of unit-norm vectors that counts as none, in fp32
# The classes of open_clip 3 whose parts `_towers` reads by name. Another tower has no short way by design; if one of
# these cannot be read, open_clip has changed, and the warning says so.
KNOWN_TOWERS = ("CLIP", "TextTransformer", "VisionTransformer")
# What PyTorch and open_clip raise where a tower is built in another way than `_towers` expects.
UNKNOWN_BUILD = (AttributeError, RuntimeError, TypeError, ValueError, IndexError)


@dataclass(frozen=True)
class Capabilities:
    """Which short ways through a model's towers leave its vectors unchanged.

    - `shares_prefixes`: prompts can be read as trees (`_prefixes`). True for causal towers built as open_clip builds
      its own, which pool at the end-of-text token.
    - `trims_exactly`: padding can be cut off short prompts. True for towers of transformers, which mask padding;
      open_clip's own accept their full context only.
    - `skips_unread`: the last block of the image tower can be computed for the class token alone. True for vision
      transformers built as open_clip builds its own, which pool at the class token.
    - `folds_norms`: the batch norms of the image tower can be merged into its convolutions. True for most convolutional
      towers with batch norms.
    """

    shares_prefixes: bool
    trims_exactly: bool
    skips_unread: bool
    folds_norms: bool


def measure(model: Model) -> Capabilities:
    """Run a few prompts and one image through both towers, each in all ways, and compare the vectors.

    Warns once if a tower of open_clip's own is not recognised, so that the slow way is taken.
    """
    tokens = model.tokenizer(list(PROMPTS))
    full = model.encode_tokens(tokens)
    unrecognised: list[str] = []
    capabilities = Capabilities(
        _shares_prefixes(model, tokens, full, unrecognised),
        _trims_exactly(model, tokens, full),
        _skips_unread(model, unrecognised),
        _folds_norms(model),
    )
    if unrecognised:
        warnings.warn(
            f"The {' and the '.join(unrecognised)} of {model.name} is built in a way that this version of clipnb does "
            "not recognise: its vectors are right, but encoding is slower",
            stacklevel=2,
        )
    return capabilities


def _shares_prefixes(model: Model, tokens: torch.Tensor, full: np.ndarray, unrecognised: list[str]) -> bool:
    try:
        grown = list(trees(tokens.numpy(), model.prompt_lengths(tokens).numpy(), nodes=24))
        vectors = model.encode_trees(grown)
    except UNKNOWN_BUILD:
        if _is_known(getattr(model.module, "text", model.module)):
            unrecognised.append("text tower")
        return False
    order = np.concatenate([tree.prompts for tree in grown])
    return bool(np.abs(full[order] - vectors).max() < TOLERANCE)


def _trims_exactly(model: Model, tokens: torch.Tensor, full: np.ndarray) -> bool:
    for count in (1, 4, len(PROMPTS)):  # alone, with longer ones, and with the longest
        try:
            vectors = model.encode_tokens(model.trim(tokens[:count]))
        except (RuntimeError, IndexError):  # a tower that needs its full length
            return False
        if np.abs(full[:count] - vectors).max() >= TOLERANCE:
            return False
    return True


def _skips_unread(model: Model, unrecognised: list[str]) -> bool:
    tower: Any = getattr(model.module, "visual", None)
    try:
        return _equals(model, partial(read_images, tower))
    except UNKNOWN_BUILD:
        if _is_known(tower):
            unrecognised.append("image tower")
        return False


def _folds_norms(model: Model) -> bool:
    try:
        folded = fold_norms(model.module.visual)
        return folded is not None and _equals(model, folded)
    except UNKNOWN_BUILD:
        return False


@torch.inference_mode()
def _equals(model: Model, encode: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether `encode` gives the vector of an image that the whole tower gives."""
    size = np.broadcast_to(model.module.visual.image_size, 2).tolist()
    pixels = torch.linspace(-2, 2, 3 * math.prod(size)).sin().view(1, 3, *size).to(model.device, model.dtype)
    with _runtime.full_convolutions(model.device.type == "cuda"):  # as `Model.encode_pixels` computes them
        difference = np.abs(unit_norm(model.module.encode_image(pixels)) - unit_norm(encode(pixels))).max()
    return bool(difference < max(TOLERANCE, 10 * torch.finfo(model.dtype).eps))


def _is_known(tower: Any) -> bool:
    """Whether a tower is one of open_clip's own classes whose short way should work."""
    kind = type(tower)
    return kind.__module__.startswith("open_clip.") and kind.__name__ in KNOWN_TOWERS
