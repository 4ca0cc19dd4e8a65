"""A loaded dual encoder: vectors of texts and images, and the fingerprints of everything that determines them."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from clipnb import _runtime
from clipnb.models._capabilities import Capabilities, measure
from clipnb.models._prefixes import Tree
from clipnb.models._towers import fold_norms, pack_products, read_images, read_trees, unit_norm

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What tokenizers treat differently: case, punctuation, blanks, HTML entities, underscores, Unicode, digits, length.
TOKENIZER_SAMPLES = [
    "A dog's photo, \u72ac: No. 42!",
    "a  fire_truck\t(red) ",
    "Caf\u00e9 cafe\u0301 &amp; 'x' don\u2019t \U0001f415",
    "\ufb01ne ONE1two-three",
    "dog " * 400,
]


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded dual encoder, which `clipnb.encode` runs.

    name, pretrained: which model it is.
    module: open_clip's CLIP. PyTorch types its parts as "Tensor or Module", hence `Any`.
    preprocess: PIL image -> (3, H, W) float tensor.
    tokenizer: list of B strings -> (B, context) token ids.
    device: where both towers are.
    precision: of the image tower; the text tower stays in fp32.
    config: "architecture", "vision", "text" and "preprocessing" with open_clip's defaults filled in.
    exact: gives this model in fp32, where it is in another precision.
    """

    name: str
    pretrained: str
    module: Any = field(repr=False)
    preprocess: Callable[[Image.Image], torch.Tensor] = field(repr=False)
    tokenizer: Callable[[list[str]], torch.Tensor] = field(repr=False)
    device: torch.device
    precision: Precision
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    exact: Callable[[], Model] | None = field(default=None, repr=False)

    @cached_property
    def dimensions(self) -> int:
        """D, the width of a vector, measured on a text."""
        return self.encode_tokens(self.tokenizer(["a"])).shape[1]

    @cached_property
    def capabilities(self) -> Capabilities:
        """Which short ways through its towers are exact, measured when something is first encoded.

        A copy by `dataclasses.replace` measures its own.

        Warns:
            UserWarning: a tower of open_clip's own is not recognised, so that encoding takes the slower way.
        """
        return measure(self)

    @cached_property
    def image_reader(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The shortest exact way from pixels to image vectors (B, D), which are not normalised."""
        if self.capabilities.skips_unread:
            return partial(read_images, pack_products(self.module.visual))
        if self.capabilities.folds_norms:
            return cast("torch.nn.Module", fold_norms(self.module.visual))
        return self.module.encode_image

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) of everything that determines image vectors, except decoding.

        That is the weights in their precision, the architecture's settings (activation, heads, pooling: a state dict
        holds none of them) and the preprocessing. Equal fingerprints mean equal vectors, up to rounding. Versions of
        libraries are left out: they change the last bits, and an update would then discard every store.
        """
        return fingerprint_of(tensors_of(self.module), [_structure(self.module), self.config, repr(self.preprocess)])

    @cached_property
    def text_fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) of everything that determines text vectors.

        That is everything except the image tower, with the tokenizer and the kind of device.
        """
        weights = {name: tensor for name, tensor in tensors_of(self.module).items() if not name.startswith("visual.")}
        config = {part: self.config.get(part) for part in ("architecture", "text")}
        return fingerprint_of(
            weights, [_structure(self.module, without="visual"), config, self._tokenizer_identity(), self.device.type]
        )

    def _tokenizer_identity(self) -> list[Any]:
        """Token ids of samples, which show how texts are cleaned, cut and padded, and the vocabulary, if readable."""
        samples = self.tokenizer(TOKENIZER_SAMPLES).tolist()
        backend = getattr(getattr(self.tokenizer, "tokenizer", None), "backend_tokenizer", None)
        if backend is not None:  # a fast tokenizer of Hugging Face
            rules = json.loads(backend.to_str())
            changing = ("truncation", "padding")  # they change with every call
            return [samples, {part: rule for part, rule in rules.items() if part not in changing}]
        merges = getattr(self.tokenizer, "bpe_ranks", {})  # of open_clip's own tokenizer
        return [samples, list(getattr(self.tokenizer, "encoder", {}).items()), [list(pair) for pair in merges]]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What a reader of results wants to know: activation, preprocessing, context length; ready for JSON.

        >>> from clipnb import load_model
        >>> load_model().settings["activation"], load_model().settings["resize_mode"]
        ('GELU, GELUActivation, ReLU6', 'shortest')
        """
        names = {type(part).__name__ for part in self.module.modules() if not next(part.children(), None)}
        activations = sorted(name for name in names if re.search("GELU|ReLU|SiLU|Swish", name))
        preprocessing = self.config.get("preprocessing", {})
        return {
            "activation": ", ".join(activations) or None,
            "image_size": preprocessing.get("size"),
            **{name: preprocessing.get(name) for name in ("mean", "std", "interpolation", "resize_mode")},
            "context_length": self.config.get("text", {}).get("context_length"),
        }

    @cached_property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by to give a logit."""
        return float(self.module.logit_scale.exp())

    @cached_property
    def logit_bias(self) -> float | None:
        """What is added to a logit by a model that was trained with a sigmoid (SigLIP); None for the others."""
        bias = getattr(self.module, "logit_bias", None)
        return None if bias is None else float(bias)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the image tower's weights."""
        return DTYPES[self.precision]

    @cached_property
    def context_length(self) -> int:
        """Tokens that the tokenizer fills every prompt up to."""
        return self.tokenizer(["a"]).shape[1]

    @cached_property
    def padding_id(self) -> int:
        """The token id that fills a prompt up to the context length."""
        return int(self.tokenizer(["a"])[0, -1])

    def prompt_lengths(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B,) number of tokens of each prompt up to its last one that is not padding."""
        used = tokens != self.padding_id
        return (used * torch.arange(1, tokens.shape[1] + 1)).amax(dim=1).clamp(min=1)

    def trim(self, tokens: torch.Tensor) -> torch.Tensor:
        """Cut the columns that are padding in every prompt of the batch."""
        return tokens[:, : int(self.prompt_lengths(tokens).max())]

    @torch.inference_mode()
    def encode_tokens(self, tokens: torch.Tensor) -> npt.NDArray[np.float32]:
        """Unit-norm text vectors (B, D) float32 of token ids (B, context).

        Token ids may be cut to (B, L) where `capabilities.trims_exactly`.
        """
        return unit_norm(self.module.encode_text(tokens.to(self.device)))

    @torch.inference_mode()
    def encode_trees(self, trees: list[Tree]) -> npt.NDArray[np.float32]:
        """Unit-norm text vectors (P, D) float32 of all prompts of these trees in order.

        They are right where `capabilities.shares_prefixes`.
        """
        tower = self.module if hasattr(self.module, "token_embedding") else self.module.text
        return unit_norm(read_trees(tower, trees))

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> npt.NDArray[np.float32]:
        """Unit-norm image vectors (B, D) float32 of preprocessed images (B, 3, H, W).

        Some models of transformers take patches (B, L, P) instead: whole numbers up to 256, exact in any precision.
        """
        by_convolution = pixels.ndim == 4 and not self.capabilities.skips_unread
        layout = torch.channels_last if by_convolution else torch.contiguous_format
        pixels = pixels.to(self.device, non_blocking=True).to(self.dtype, memory_format=layout)
        with _runtime.full_convolutions(self.device.type == "cuda"):
            return unit_norm(self.image_reader(pixels))

    def cast(self, precision: Precision) -> Model:
        """This model with its image tower in another precision; the text tower is shared."""
        shared = {
            id(tensor): tensor
            for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers())
            if not name.startswith("visual.")
        }
        module = copy.deepcopy(self.module, shared)
        module.visual.to(DTYPES[precision])
        exact = self.exact
        if self.precision == "fp32":
            exact = None if precision == "fp32" else lambda: self
        return replace(self, module=module, precision=precision, exact=exact)


def _structure(module: torch.nn.Module, without: str = "") -> list[str]:
    """The kinds of all parts as PyTorch prints them, activations included, except the part named `without`."""
    return [type(module).__name__, *(f"{name}: {part!r}" for name, part in module.named_children() if name != without)]


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights and buffers, also those that no checkpoint holds, such as the mask of a causal text tower."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def fingerprint_of(weights: dict[str, torch.Tensor], other: object) -> str:
    digest = hashlib.sha256(json.dumps(other, sort_keys=True, default=repr).encode())
    for key, tensor in sorted(weights.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
