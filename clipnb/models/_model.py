"""A loaded dual encoder: vectors of texts and images, and the fingerprints of everything that determines them."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from clipnb.models._prefixes import Tree, trees
from clipnb.models._towers import read_images, read_trees

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
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
    """A loaded dual encoder; `name` and `pretrained` say which one. Call it through `clipnb.encode`."""

    name: str
    pretrained: str
    module: torch.nn.Module = field(repr=False)
    preprocess: object = field(repr=False)  # PIL image -> (3, H, W) float tensor
    tokenizer: object = field(repr=False)  # list of strings -> (B, context) token ids
    device: torch.device
    precision: str  # of the image tower: "fp32", "bf16" or "fp16"; the text tower stays in fp32
    config: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # "architecture", "vision", "text", "preprocessing", defaults filled in
    exact: Callable[[], Model] | None = field(
        default=None, repr=False
    )  # gives this model in fp32, where it is in another precision

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) of everything that determines image vectors, decoding apart.

        That is the weights in their precision, the architecture's settings (activation, heads, pooling: a state dict
        holds none of them) and the preprocessing. Equal fingerprints mean equal vectors, up to rounding. Versions of
        libraries are left out: they change the last bits, and an update would then discard every store.
        """
        return fingerprint_of(tensors_of(self.module), [_structure(self.module), self.config, repr(self.preprocess)])

    @cached_property
    def text_fingerprint(self) -> str:
        """The same for text vectors: everything except the image tower, with the tokenizer and the kind of device."""
        weights = {name: tensor for name, tensor in tensors_of(self.module).items() if not name.startswith("visual.")}
        config = {part: self.config.get(part) for part in ("architecture", "text")}
        return fingerprint_of(
            weights, [_structure(self.module, without="visual"), config, self._tokenizer_identity(), self.device.type]
        )

    def _tokenizer_identity(self) -> list:
        """Token ids of samples, which show how texts are cleaned, cut and padded, and the vocabulary, if readable."""
        samples = self.tokenizer(TOKENIZER_SAMPLES).tolist()
        backend = getattr(getattr(self.tokenizer, "tokenizer", None), "backend_tokenizer", None)
        if backend is not None:  # a fast tokenizer of Hugging Face
            rules = json.loads(backend.to_str())
            return [
                samples,
                {part: rule for part, rule in rules.items() if part not in ("truncation", "padding")},
            ]  # those change with every call
        merges = getattr(self.tokenizer, "bpe_ranks", {})  # of open_clip's own tokenizer
        return [samples, list(getattr(self.tokenizer, "encoder", {}).items()), [list(pair) for pair in merges]]

    @property
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

    @cached_property
    def trims_exactly(self) -> bool:
        """Whether cutting padding off short prompts leaves their vectors unchanged (measured, not assumed).

        True for towers of transformers, which mask padding. open_clip's own take their full context only: of those that
        are causal, see `shares_prefixes`.
        """
        prompts = ["dog", "a photo of a dog.", "a drawing of a very small red fire engine.", "!", "2 \u72ac, " * 5]
        tokens = self.tokenizer(prompts)
        full = self.encode_tokens(tokens)
        for rows in ([0], [0, 1, 2], [0, 1, 2, 3, 4]):  # alone, with longer ones, and with the longest
            try:
                cut = self.encode_tokens(self.trim(tokens[rows]))
            except (RuntimeError, IndexError):  # a tower that asks for its full length
                return False
            if np.abs(full[rows] - cut).max() >= 1e-5:
                return False
        return True

    @cached_property
    def shares_prefixes(self) -> bool:
        """Whether reading prompts as trees (`_prefixes`) leaves their vectors unchanged (measured, not assumed).

        True for causal towers built as open_clip builds its own, which pool at the end-of-text token.
        """
        prompts = [
            "dog",
            "a photo of a dog.",
            "a photo of a dog and a cat.",
            "a drawing of a very small red fire engine.",
            "!",
            "2 \u72ac, " * 5,
        ]
        tokens = self.tokenizer(prompts)
        try:
            grown = list(trees(tokens.numpy(), self.prompt_lengths(tokens).numpy(), nodes=24))
            vectors = self.encode_trees(grown)
        except (AttributeError, RuntimeError, TypeError, IndexError):  # a tower that is built in a way unknown to us
            return False
        full = self.encode_tokens(tokens[np.concatenate([tree.prompts for tree in grown])])
        return bool(np.abs(full - vectors).max() < 1e-5)

    @cached_property
    def skips_unread(self) -> bool:
        """Whether the image tower's last block can be computed for the class token alone (measured, not assumed).

        True for vision transformers built as open_clip builds its own, which pool at the class token.
        """
        visual, dtype = self.module.visual, DTYPES[self.precision]
        try:
            pixels = (
                torch.linspace(-2, 2, 3 * math.prod(visual.image_size))
                .sin()
                .view(1, 3, *visual.image_size)
                .to(self.device, dtype)
            )
            with torch.inference_mode():
                full, short = (
                    unit_norm_array(self.module.encode_image(pixels)),
                    unit_norm_array(read_images(visual, pixels)),
                )
        except (
            AttributeError,
            RuntimeError,
            TypeError,
            ValueError,
            IndexError,
        ):  # a tower that is built in a way unknown to us
            return False
        return bool(np.abs(full - short).max() < max(1e-5, 10 * torch.finfo(dtype).eps))

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
    def encode_tokens(self, tokens: torch.Tensor) -> np.ndarray:
        """Unit-norm text vectors (B, D) float32 of token ids (B, context), or (B, L) where `trims_exactly`."""
        return unit_norm_array(self.module.encode_text(tokens.to(self.device)))

    @torch.inference_mode()
    def encode_trees(self, trees: list[Tree]) -> np.ndarray:
        """Unit-norm text vectors (P, D) float32 of all prompts of these trees in order; where `shares_prefixes`."""
        return unit_norm_array(
            read_trees(self.module if hasattr(self.module, "token_embedding") else self.module.text, trees)
        )

    @cached_property
    def dimensions(self) -> int:
        """D, the width of a vector."""
        return self.encode_tokens(self.tokenizer(["a"])).shape[1]

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> np.ndarray:
        """Unit-norm image vectors (B, D) float32 of preprocessed images (B, 3, H, W)."""
        pixels = pixels.to(self.device, non_blocking=True).to(DTYPES[self.precision], memory_format=torch.channels_last)
        return unit_norm_array(
            read_images(self.module.visual, pixels) if self.skips_unread else self.module.encode_image(pixels)
        )

    def cast(self, precision: str) -> Model:
        """This model with its image tower in another precision; the text tower is shared."""
        shared = {
            id(tensor): tensor
            for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers())
            if not name.startswith("visual.")
        }
        module = copy.deepcopy(self.module, shared)
        module.visual.to(DTYPES[precision])
        exact = self.exact if self.precision != "fp32" else None if precision == "fp32" else lambda: self
        return replace(self, module=module, precision=precision, exact=exact)


def _structure(module: torch.nn.Module, without: str = "") -> list[str]:
    """The kinds of all parts as PyTorch prints them, activations included; of the parts named `without`, nothing."""
    return [type(module).__name__, *(f"{name}: {part!r}" for name, part in module.named_children() if name != without)]


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights and buffers, those that no checkpoint holds included, such as the mask of a causal text tower."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def fingerprint_of(weights: dict[str, torch.Tensor], other) -> str:
    digest = hashlib.sha256(json.dumps(other, sort_keys=True, default=repr).encode())
    for key, tensor in sorted(weights.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def unit_norm_array(vectors: torch.Tensor) -> np.ndarray:
    # In fp32 whatever the tower's type: a norm taken in bf16 is off by up to 0.4 %.
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
