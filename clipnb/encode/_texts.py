"""Turn prompts into unit-norm vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clipnb._checks import listed, require_attribute, text_of, whole_number
from clipnb.encode._plausible import warn_if_alike
from clipnb.encode._textcache import TextCache, cache_folder
from clipnb.errors import InputError
from clipnb.models import Model, WrappedModel
from clipnb.models._prefixes import MAX_NODES, Tree, trees
from clipnb.similarity import parallel_map

TEXTS_AT_ONCE = 4096  # tokenised, encoded and kept together: a killed run loses at most these


def encode_texts(
    model: Model | WrappedModel, texts: Sequence[str], batch_tokens: int | None = None
) -> npt.NDArray[np.float32]:
    """Unit-norm text vectors in the caller's order.

    Equal texts are encoded once, and texts that this model encoded before are read from the user's cache
    (`clipnb.encode.cache_folder`). Of the rest, common beginnings are read once, where the tower allows that exactly
    (`Model.capabilities`); otherwise prompts are sorted by length, packed into batches by the number of their tokens,
    and cut to the longest of their batch, where the tower allows that.

    Args:
        model: from `clipnb.load_model` or `clipnb.wrap_model`.
        texts: P strings.
        batch_tokens: tokens a batch, padding included (at least 256 where beginnings are shared); None: 65,536 on a
            GPU, 2,048 on a CPU (so that activations stay in its cache).

    Returns:
        (P, D) float32, rows of unit norm.

    Raises:
        InputError: `texts` is empty, a single string, or holds something that is not a non-empty string.

    >>> from clipnb import load_model
    >>> vectors = encode_texts(load_model(), ["a photo of a cat.", "a dog"])
    >>> vectors.shape, float(np.linalg.norm(vectors[0]).round(4))
    ((2, 256), 1.0)
    """
    require_attribute(model, "model", "text_fingerprint", "clipnb.load_model")
    if batch_tokens is None:
        batch_tokens = 2048 if model.device.type == "cpu" else 65_536
    batch_tokens = whole_number(batch_tokens, "batch_tokens", 1)
    texts = listed(texts, "texts")
    if not texts:
        raise InputError("Expected at least one text, got none")
    for position, text in enumerate(texts):
        text_of(text, f"texts[{position}]")
    unique = list(dict.fromkeys(texts))
    folder = cache_folder()
    cache = TextCache(folder / "texts.sqlite", model.text_fingerprint) if folder and model.text_fingerprint else None
    vectors = cache.find(unique) if cache else {}
    missing = [text for text in unique if text not in vectors]
    if not missing:  # a model whose network is not open yet stays so
        return np.stack([vectors[text] for text in texts])
    parts = [missing[start : start + TEXTS_AT_ONCE] for start in range(0, len(missing), TEXTS_AT_ONCE)]
    # Tokenising occupies one core, so it runs ahead in a thread while the network has the others.
    ahead = ThreadPoolExecutor(1)
    try:
        for part, ids in zip(parts, ahead.map(model.tokenizer or list, parts)):
            new = dict(zip(part, _encode_tokens(model, ids, batch_tokens)))
            vectors |= new
            warn_if_alike(np.stack(list(new.values())), model, "texts")
            if cache:
                cache.keep(new)
    finally:
        ahead.shutdown(cancel_futures=True)  # after a stop, nothing more is tokenised
    return np.stack([vectors[text] for text in texts])


def _encode_tokens(model: Model | WrappedModel, tokens: Any, batch_tokens: int) -> np.ndarray:
    if isinstance(model, WrappedModel):  # its function takes the texts themselves
        return model.encode_strings(tokens)
    each = parallel_map if model.device.type == "cpu" else map
    if model.capabilities.shares_prefixes:
        grown = list(trees(tokens.numpy(), model.prompt_lengths(tokens).numpy()))
        size = max(1, batch_tokens // MAX_NODES)
        groups: list[list[Tree]] = [grown[start : start + size] for start in range(0, len(grown), size)]
        order = np.concatenate([tree.prompts for tree in grown])
        parts = list(each(model.encode_trees, groups))
    else:
        lengths = np.full(len(tokens), tokens.shape[1])
        if model.capabilities.trims_exactly:
            lengths = model.prompt_lengths(tokens).numpy()
        order = lengths.argsort(kind="stable")
        parts = list(each(partial(_encode_rows, model, tokens, lengths), _packed(order, lengths, batch_tokens)))
    return np.concatenate(parts)[order.argsort()]


def _encode_rows(model: Model, tokens: torch.Tensor, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Vectors of these rows, which are by ascending length."""
    return model.encode_tokens(tokens[rows, : lengths[rows[-1]]])


def _packed(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Cut `order`, which is by ascending length, into batches of at most `batch_tokens` tokens, or of one prompt."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > batch_tokens:
            yield order[start:end]
            start = end
