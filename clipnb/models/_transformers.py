"""`transformers:NAME_OR_PATH`: dual encoders of Hugging Face transformers, with the processor that belongs to them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from clipnb._checks import format_value
from clipnb._files import path_of
from clipnb.errors import InputError
from clipnb.models._model import DTYPES, Model, Precision

PREFIX = "transformers:"
# Model types of transformers, and the name of the family; each has `get_image_features` and `get_text_features`.
FAMILIES = {
    "clip": "CLIP",
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2",
    "altclip": "AltCLIP",
    "chinese_clip": "ChineseCLIP",
    "align": "ALIGN",
}
# Entries of a configuration that change with the library or the place of the file, and not with the vectors.
INCIDENTAL = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "_attn_implementation"}
REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?")  # on the Hugging Face hub
WORDS = ["cat", "dog", "\u732b", "\u72ac"]  # cat and dog in English and Chinese: a tokenizer tells some of them apart
MAX_CONTEXT = 4096  # tokenizers without a limit of their own state 10**30


class Towers(torch.nn.Module):
    """A dual encoder of transformers under the names that open_clip uses: `visual`, `encode_image`, `encode_text`."""

    def __init__(self, whole: torch.nn.Module, mask: Callable[[torch.Tensor], torch.Tensor] | None):
        super().__init__()
        # First, so that the weights of the image tower are named "visual.", which the fingerprint of texts leaves out.
        self.visual = torch.nn.ModuleDict(
            {name: part for name, part in whole.named_children() if name in ("vision_model", "visual_projection")}
        )
        self.whole: Any = whole
        self._mask = mask

    @property
    def logit_scale(self) -> torch.Tensor:
        """The logarithm of what a cosine is multiplied by; ALIGN divides by a temperature instead."""
        scale = getattr(self.whole, "logit_scale", None)
        return -torch.as_tensor(self.whole.temperature).log() if scale is None else scale

    @property
    def logit_bias(self) -> torch.Tensor | None:
        """What a model that was trained with a sigmoid adds to a logit; None for the others."""
        return getattr(self.whole, "logit_bias", None)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors of preprocessed images."""
        if pixels.ndim == 4:
            return _pooled(self.whole.get_image_features(pixel_values=pixels))
        patches, mask, shapes = unpacked(pixels)
        return _pooled(
            self.whole.get_image_features(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)
        )

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Vectors of token ids."""
        mask = {} if self._mask is None else {"attention_mask": self._mask(tokens)}
        return _pooled(self.whole.get_text_features(input_ids=tokens, **mask))


def _pooled(output: Any) -> torch.Tensor:
    # Version 5 of transformers returns an object that holds the projected vectors, version 4 the vectors themselves.
    return getattr(output, "pooler_output", output)


class Tokenizer:
    """Texts to token ids (B, context), filled up and cut as the model's own processor does."""

    def __init__(self, processor: Any, context: int):
        self.tokenizer = processor.tokenizer
        self.context = context
        self._processor = processor

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        return self._encoded(texts, context_length)["input_ids"]

    def _encoded(self, texts: list[str], context_length: int | None = None) -> Any:
        return self._processor(
            text=list(texts),
            padding="max_length",
            truncation=True,
            max_length=context_length or self.context,
            return_tensors="pt",
        )

    @property
    def masks_padding(self) -> bool:
        """Whether the tokenizer hands a mask of the padding to the model: SigLIP's does not."""
        return "attention_mask" in self._encoded(["a"])

    def mask(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L): 1 where a token counts, 0 where it is padding."""
        padding = tokens == self.tokenizer.pad_token_id
        if self.tokenizer.pad_token_id == self.tokenizer.eos_token_id:  # CLIP: the first one ends the text
            padding &= padding.cumsum(dim=1) > 1
        return (~padding).long()


class Preprocess:
    """An image to the pixels that the model's own processor makes of it."""

    def __init__(self, processor: Any):
        self._processor = processor
        own = getattr(processor, "images_kwargs", None) or {}  # of the family, which go before the checkpoint's
        self.settings = _lasting(processor.image_processor.to_dict() | own)

    def __call__(self, image: Any) -> torch.Tensor:
        """(3, H, W) pixels, or packed patches where a model takes images of any shape (`unpacked`)."""
        made = self._processor(images=image, return_tensors="pt")
        pixels = made["pixel_values"][0]
        if "spatial_shapes" not in made:
            return pixels
        shape = made["spatial_shapes"].to(pixels.dtype).expand(len(pixels), 2)
        return torch.cat([pixels, made["pixel_attention_mask"][0][:, None].to(pixels.dtype), shape], dim=1)

    def __repr__(self) -> str:
        return json.dumps(self.settings, sort_keys=True, default=repr)


def unpacked(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(patches (B, P, D), their mask (B, P), height and width in patches (B, 2)) of packed images (B, P, D + 3)."""
    return pixels[..., :-3], pixels[..., -3].long(), pixels[:, 0, -2:].long()


class TransformersModel(Model):
    """A `Model` whose padding is known from its tokenizer."""

    tokenizer: Tokenizer  # pyright: ignore[reportIncompatibleVariableOverride]
    module: Any  # pyright: ignore[reportIncompatibleVariableOverride]

    @cached_property
    def padding_id(self) -> int:
        """The token id that fills a prompt up to the context length."""
        return self.tokenizer.tokenizer.pad_token_id

    def prompt_lengths(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B,) number of tokens of each prompt up to its last one that is not padding."""
        counts = self.tokenizer.mask(tokens) * torch.arange(1, tokens.shape[1] + 1)
        return counts.amax(dim=1).clamp(min=1)


def open_transformers(
    name: str, device: torch.device, precision: Precision, exact: Callable[[], Model] | None
) -> TransformersModel:
    """The model that `transformers:NAME_OR_PATH` names.

    Raises:
        InputError: there is no such model, it is of another family, or its files cannot be read.
    """
    from transformers import AutoConfig, AutoModel, AutoProcessor

    source = name.removeprefix(PREFIX)
    if not source.strip() or "\0" in source:
        raise InputError(f"Expected {PREFIX}NAME_OR_PATH, got {format_value(name)}")
    path_of(source, "name")
    if not Path(source, "config.json").is_file() and (Path(source).is_dir() or not REPOSITORY.fullmatch(source)):
        raise InputError(
            f"Expected a folder with config.json or a repository (ORGANISATION/NAME) after {PREFIX}, "
            f"got {format_value(source)}, where there is no such file"
        )
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if config.model_type not in FAMILIES:
            raise InputError(
                f"Expected a model of {', '.join(FAMILIES.values())} in {name!r}, got the type {config.model_type!r}; "
                "clipnb.wrap_model takes any two functions of images and of texts"
            )
        whole, report = AutoModel.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        tokenizer = Tokenizer(processor, _context(processor, config))
        masks = tokenizer.masks_padding
        if len(torch.unique(tokenizer(WORDS), dim=0)) == 1:  # transformers makes an empty one where files are missing
            raise InputError(
                f"Cannot load {name!r}: its tokenizer has one list of ids for {', '.join(WORDS)}; "
                "are the files of the tokenizer complete (tokenizer.json, or its vocabulary)?"
            )
    except InputError:
        raise
    except Exception as error:  # the hub, the files and the classes of each family raise their own kinds
        raise InputError(_problem(name, source, error)) from error
    if missing := sorted(report["missing_keys"]):
        warnings.warn(
            f"The weights of {name!r} lack {len(missing)} tensors of its architecture, which are random now "
            f"(first: {missing[0]}): its vectors mean nothing",
            stacklevel=3,
        )
    module = Towers(whole, tokenizer.mask if masks else None).eval().requires_grad_(False).to(device, torch.float32)
    module.visual.to(DTYPES[precision])
    preprocess = Preprocess(processor)
    return TransformersModel(
        name,
        Path(source).name,
        module,
        preprocess,
        tokenizer,
        device,
        precision,
        _config(config, preprocess.settings, tokenizer.context),
        exact,
    )


def _context(processor: Any, config: Any) -> int:
    """The number of tokens that every text is filled up to: the processor's, or as many as the model has positions."""
    own = getattr(type(processor), "text_kwargs", None) or {}
    text = config.text_config
    limits = [own.get("max_length"), processor.tokenizer.model_max_length, text.max_position_embeddings]
    if "roberta" in getattr(text, "model_type", "") or config.model_type == "altclip":
        limits[-1] -= text.pad_token_id + 1  # its positions begin after that of the padding
    return int(min(MAX_CONTEXT, *(limit for limit in limits if limit)))


def _config(config: Any, pixels: dict[str, Any], context: int) -> dict[str, Any]:
    """Everything that determines vectors besides the weights, ready for JSON, in the parts that `Model` names."""
    content = _lasting(config.to_diff_dict())
    vision, text = content.pop("vision_config", {}), content.pop("text_config", {})
    size = dict(pixels.get("crop_size") or pixels.get("size") or {})
    shown = {
        "size": list(size.values()) or pixels.get("max_num_patches"),
        "mean": pixels.get("image_mean"),
        "std": pixels.get("image_std"),
        "interpolation": str(pixels.get("resample")),
        "resize_mode": "shortest" if "shortest_edge" in (pixels.get("size") or {}) else "squash",
    }
    whole = {
        "architecture": content,
        "vision": vision,
        "text": text | {"context_length": context},
        "preprocessing": shown | {"processor": pixels},
    }
    return json.loads(json.dumps(whole, default=str))


def _lasting(content: Any) -> Any:
    """A configuration without its incidental entries, at every depth."""
    if isinstance(content, dict):
        return {key: _lasting(value) for key, value in content.items() if key not in INCIDENTAL}
    return [_lasting(part) for part in content] if isinstance(content, (list, tuple)) else content


def _problem(name: str, source: str, error: Exception) -> str:
    line = " ".join(str(error).split()) or "no details"
    if isinstance(error, ImportError) and "sentencepiece" in line.casefold():
        return f"Cannot load {name!r}: its tokenizer needs sentencepiece; pip install sentencepiece protobuf"
    way = (
        ""
        if Path(source).exists()
        else f"; where there is a network, fetch it with `hf download {source} --local-dir FOLDER`, "
        f"then use {PREFIX}FOLDER"
    )
    return f"Cannot load {name!r}: {type(error).__name__}: {line[:300]}{way}"
