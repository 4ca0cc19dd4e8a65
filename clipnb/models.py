"""Load a CLIP model through open_clip: the embedded default, a registered name with weights, or a local directory."""

from __future__ import annotations

import contextlib
import copy
import difflib
import hashlib
import json
import logging
import math
import pickle
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from clipnb.datasets import check_asset
from clipnb.errors import InputError, one_of, path_of, shown, text_of
from clipnb.prefixes import Tree, trees
from clipnb.towers import read_images, read_trees

EMBEDDED = "clipnb-mini"
EMBEDDED_DIR = Path(__file__).parent / "assets" / EMBEDDED
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded dual encoder and what belongs to it. `name` and `pretrained` say which; call it through `clipnb.encode`."""

    name: str
    pretrained: str
    module: torch.nn.Module = field(repr=False)
    preprocess: object = field(repr=False)  # PIL image -> (3, H, W) float tensor
    tokenizer: object = field(repr=False)  # list of strings -> (B, context) token ids
    device: torch.device
    precision: str  # of the image tower: "fp32", "bf16" or "fp16"; the text tower stays in fp32
    auto: bool = False  # whether `encode_images` may choose another precision

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) over the weights and the preprocessing: equal fingerprints, equal vectors."""
        return _fingerprint(self.module.state_dict(), self.preprocess)

    @cached_property
    def text_fingerprint(self) -> str:
        """The same for text vectors: over what is not the image tower, a sample of the tokenizer, the kind of device."""
        weights = {key: value for key, value in self.module.state_dict().items() if not key.startswith("visual.")}
        return _fingerprint(weights, (self.tokenizer(["A dog's photo, \u72ac: No. 42!"]).tolist(), self.device.type))

    @cached_property
    def trims_exactly(self) -> bool:
        """Whether cutting padding off short prompts leaves their vectors unchanged (measured, not assumed).

        True for towers of transformers, which mask padding. open_clip's own take their full context only: of those that are
        causal, see `shares_prefixes`.
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
        """Whether prompts can be read as trees (`clipnb.prefixes`) without a change to their vectors (measured, not assumed).

        True for causal towers built as open_clip builds its own, which pool at the end-of-text token.
        """
        prompts = ["dog", "a photo of a dog.", "a photo of a dog and a cat.", "a drawing of a very small red fire engine.", "!", "2 \u72ac, " * 5]
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
            pixels = torch.linspace(-2, 2, 3 * math.prod(visual.image_size)).sin().view(1, 3, *visual.image_size).to(self.device, dtype)
            with torch.inference_mode():
                full, short = _unit_norm(self.module.encode_image(pixels)), _unit_norm(read_images(visual, pixels))
        except (AttributeError, RuntimeError, TypeError, ValueError, IndexError):  # a tower that is built in a way unknown to us
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
        return _unit_norm(self.module.encode_text(tokens.to(self.device)))

    @torch.inference_mode()
    def encode_trees(self, trees: list[Tree]) -> np.ndarray:
        """Unit-norm text vectors (P, D) float32 of all prompts of these trees, tree after tree; where `shares_prefixes`."""
        return _unit_norm(read_trees(self.module if hasattr(self.module, "token_embedding") else self.module.text, trees))

    @cached_property
    def dimensions(self) -> int:
        """D, the width of a vector."""
        return self.encode_tokens(self.tokenizer(["a"])).shape[1]

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> np.ndarray:
        """Unit-norm image vectors (B, D) float32 of preprocessed images (B, 3, H, W)."""
        pixels = pixels.to(self.device, non_blocking=True).to(DTYPES[self.precision], memory_format=torch.channels_last)
        return _unit_norm(read_images(self.module.visual, pixels) if self.skips_unread else self.module.encode_image(pixels))

    def cast(self, precision: str) -> Model:
        """This model with its image tower in another precision; the text tower is shared."""
        shared = {id(tensor): tensor for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers())
                  if not name.startswith("visual.")}
        module = copy.deepcopy(self.module, shared)
        module.visual.to(DTYPES[precision])
        return replace(self, module=module, precision=precision, auto=False)


def _fingerprint(weights: dict[str, torch.Tensor], other) -> str:
    digest = hashlib.sha256(repr(other).encode())
    for key, tensor in sorted(weights.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _unit_norm(vectors: torch.Tensor) -> np.ndarray:
    # In fp32 whatever the tower's type: a norm taken in bf16 is off by up to 0.4 %.
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


def load_model(name: str = EMBEDDED, pretrained: str | None = None, device: str = "auto",
               precision: str = "auto", trust_pickle: bool = False) -> Model:
    """Load a CLIP model for inference.

    Args:
        name: "clipnb-mini" (the embedded default, no network needed), a name open_clip knows ("ViT-B-32"), or
            "local-dir:PATH" (a folder with open_clip_config.json).
        pretrained: a tag open_clip knows for that name ("openai"; downloaded on first use), or a path to a
            checkpoint (.safetensors, or a .pt/.bin that holds tensors only). Not used with clipnb-mini.
        device: "auto" (CUDA if there is one, else CPU), "cpu", "cuda", "cuda:1", "mps".
        precision: "fp32", "bf16" or "fp16": the type the image tower's weights are cast to (the text tower's stay in
            fp32). "auto" is fp32, and lets `encode_images` take bf16 where the hardware computes in it and a check on
            the data set's own images finds that it hardly matters. clipnb-mini stays in fp32 under "auto", so that its
            figures are the same on every machine.
        trust_pickle: load a checkpoint that is a pickle with more in it than tensors. Such a file can run any code:
            only for files of your own.

    Returns:
        A `Model` in evaluation mode.

    Raises:
        InputError: the name, tag, file, device or precision is unknown or cannot be loaded; the text says what is.

    >>> model = load_model()
    >>> model.name, model.precision
    ('clipnb-mini', 'fp32')
    """
    if not isinstance(name, str):
        text_of(name, "name")  # raises
    if not isinstance(trust_pickle, bool):  # "no" would count as yes
        raise InputError(f"Expected `trust_pickle` to be True or False, got {trust_pickle!r}")
    where = find_device(device)
    precision = one_of(precision, "precision", ("auto", *DTYPES))
    with _quiet():
        module, preprocess, tokenizer, pretrained = _create(name, pretrained, trust_pickle)
    module = module.eval().requires_grad_(False).to(where, torch.float32)
    auto = precision == "auto" and name != EMBEDDED and computes_bf16(where)
    precision = "fp32" if precision == "auto" else precision
    module.visual.to(DTYPES[precision], memory_format=torch.channels_last)
    return Model(name, pretrained, module, preprocess, tokenizer, where, precision, auto)


def computes_bf16(device: torch.device) -> bool:
    """Whether that device computes in bf16, rather than emulating it.

    >>> computes_bf16(torch.device("meta"))
    False
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # AMX comes with avx512_bf16; a torch that cannot tell is taken to have neither
    return device.type == "cpu" and getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False)


def _create(name: str, pretrained: str | None, trust_pickle: bool):
    import open_clip  # heavy: only loading needs it

    if name == EMBEDDED:
        if pretrained not in (None, "", EMBEDDED):
            raise InputError(f"Expected no `pretrained` with model {EMBEDDED!r} (its weights are shipped), "
                             f"got {pretrained!r}; name the architecture, for example ViT-B-32")
        check_asset(EMBEDDED_DIR / "open_clip_model.safetensors")
        module, preprocess, tokenizer = _from_directory(EMBEDDED_DIR)
        return module, preprocess, tokenizer, "shipped"
    if name.startswith("local-dir:"):
        if pretrained:
            raise InputError(f"Expected no `pretrained` with {name!r} (its weights lie in the folder), got {pretrained!r}")
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "open_clip_config.json").is_file():
            raise InputError(f"Expected a folder with open_clip_config.json, got {folder}")
        return *_from_directory(folder), folder.name
    known = open_clip.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, [EMBEDDED, *known], n=5, cutoff=0.4)
        raise InputError(f"Unknown model {shown(name)}; close: {', '.join(close) or EMBEDDED}; "
                         f"all: {EMBEDDED}, local-dir:PATH, or open_clip.list_models()")
    _check_weights(name, pretrained, open_clip.list_pretrained_tags_by_model(name))
    try:
        module, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(pretrained),
                                                                        weights_only=not trust_pickle)
        return module, preprocess, open_clip.get_tokenizer(name), str(pretrained)
    except pickle.UnpicklingError:
        raise InputError(f"Cannot load model {name!r} with weights {str(pretrained)!r}: expected a file of tensors only, this is damaged or a pickle "
                         "that can run any code; if it is your own: trust_pickle=True, --trust-pickle") from None
    except Exception as error:  # the hub, the file and torch each raise their own kinds
        raise InputError(f"Cannot load model {name!r} with weights {str(pretrained)!r}: "
                         f"{type(error).__name__}: {_first_line(error)}") from error


def _check_weights(name: str, pretrained: str | None, tags: list[str]) -> None:
    if not pretrained:
        raise InputError(f"Expected `pretrained` for model {name!r}: one of {', '.join(tags) or '(no tags)'}, "
                         "or a checkpoint file")
    if pretrained in tags or path_of(pretrained, "pretrained").is_file():
        return
    raise InputError(f"Unknown weights {str(pretrained)!r} for model {name!r}: not a file, and not one of "
                     f"{', '.join(tags) or '(no tags)'}")


def _from_directory(folder: Path):
    import open_clip

    options = {"require_pretrained": True}  # without it a folder without weights gives a random model
    try:
        text = json.loads((folder / "open_clip_config.json").read_text("utf-8"))["model_cfg"]["text_cfg"]
        if "hf_model_name" in text:  # relative in the file; transformers wants the real folder
            options["text_cfg"] = text | {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
        module, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", **options)
        return module, preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")
    except Exception as error:
        raise InputError(f"Cannot load the model in {folder}: {type(error).__name__}: {_first_line(error)}") from error


def find_device(device: str) -> torch.device:
    """The device of that name; "auto" is CUDA if there is one, else the CPU.

    >>> find_device("cpu")
    device(type='cpu')
    """
    if (device if isinstance(device, str) else text_of(device, "device")) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
        torch.empty(1, device=where)
    except Exception as error:
        raise InputError(f"Device {device!r} cannot be used here: {_first_line(error)}; try auto or cpu") from None
    return where


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:300]


@contextlib.contextmanager
def _quiet():
    """Hold back the loaders' progress chatter and load reports; errors still come through."""
    from transformers.utils import logging as hf_logging

    disabled, hf_level = logging.root.manager.disable, hf_logging.get_verbosity()
    logging.disable(logging.CRITICAL)
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(disabled)
        hf_logging.set_verbosity(hf_level)
