"""`sentence-transformers:NAME_OR_PATH`: a model of that library that encodes both images and texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from clipnb._checks import format_value
from clipnb.errors import InputError
from clipnb.models._model import fingerprint_of, tensors_of
from clipnb.models._wrapped import WrappedModel

PREFIX = "sentence-transformers:"


def open_sentence_transformers(name: str, device: torch.device, precision: str) -> WrappedModel:
    """The model that `sentence-transformers:NAME_OR_PATH` names.

    Raises:
        InputError: the library is not installed, there is no such model, or a half precision is asked for.
    """
    source = name.removeprefix(PREFIX)
    if not source.strip() or "\0" in source:
        raise InputError(f"Expected {PREFIX}NAME_OR_PATH, got {format_value(name)}")
    if precision != "fp32":
        raise InputError(f"Expected `precision` 'fp32' with {name!r}, got {precision!r}")
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"Expected sentence-transformers for the model {name!r}, it is not installed; "
            "pip install sentence-transformers"
        ) from None
    try:
        module = SentenceTransformer(source, device=str(device)).eval().requires_grad_(False)
    except Exception as error:  # the hub and the files raise their own kinds
        line = " ".join(str(error).split()) or "no details"
        raise InputError(f"Cannot load {name!r}: {type(error).__name__}: {line[:300]}") from error

    def encode(items: list[Any]) -> Any:
        return module.encode(items, convert_to_numpy=True, show_progress_bar=False)

    fingerprint = fingerprint_of(tensors_of(module), [repr(module), _tokenizer_rules(module)])
    scale, bias = (_parameter(module, part) for part in ("logit_scale", "logit_bias"))
    return WrappedModel(
        name,
        Path(source).name,
        encode,
        encode,
        fingerprint,
        fingerprint,
        100.0 if scale is None else float(scale.exp()),
        None if bias is None else float(bias),
    )


def _parameter(module: torch.nn.Module, name: str) -> torch.Tensor | None:
    return next((value for key, value in module.named_parameters() if key.rpartition(".")[2] == name), None)


def _tokenizer_rules(module: Any) -> Any:
    """How texts become tokens, where the tokenizer is a fast one, and the longest text that is not cut."""
    backend = getattr(getattr(module, "tokenizer", None), "backend_tokenizer", None)
    rules = {} if backend is None else json.loads(backend.to_str())
    kept = {part: rule for part, rule in rules.items() if part not in ("truncation", "padding")}
    return [getattr(module, "max_seq_length", None), kept]
