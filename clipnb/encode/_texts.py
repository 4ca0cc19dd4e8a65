"""Turn prompts into unit-norm vectors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import torch

from clipnb._checks import listed, require_attribute, text_of, whole_number
from clipnb.encode._plausible import warn_if_alike
from clipnb.encode._textcache import TextCache, cache_folder
from clipnb.errors import InputError
from clipnb.models import Model, WrappedModel
from clipnb.models._prefixes import NODES, trees
from clipnb.similarity import parallel_map

TEXTS_AT_ONCE = 4096  # tokenised, encoded and kept together: what a kill can lose


def encode_texts(model: Model, texts, batch_tokens: int | None = None) -> np.ndarray:
    """Unit-norm text vectors in the caller's order.

    Equal texts are encoded once, texts that this model encoded before are read from the user's cache
    (`clipnb.encode._textcache`). Of the rest, what prompts begin with in common is read once, where the tower allows that exactly
    (`Model.shares_prefixes`); otherwise they are sorted by length, packed into batches by the number of their tokens, and
    cut to the longest of their batch, where it allows that (`Model.trims_exactly`).

    Args:
        model: from `clipnb.load_model`.
        texts: P strings.
        batch_tokens: tokens a batch, padding included (at least one tree of `prefixes.NODES` of them); None: 65,536 on a GPU,
            2,048 on a CPU (so that activations stay in its cache).

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
    batch_tokens = (2048 if model.device.type == "cpu" else 65_536) if batch_tokens is None else batch_tokens
    batch_tokens = whole_number(batch_tokens, "batch_tokens", 1)
    texts = listed(texts, "texts")
    if not texts:
        raise InputError("Expected at least one text, got none")
    for position, text in enumerate(texts):
        text_of(text, f"texts[{position}]")
    unique, folder = list(dict.fromkeys(texts)), cache_folder()
    cache = TextCache(folder / "texts.sqlite", model.text_fingerprint) if folder and model.text_fingerprint else None
    vectors = cache.find(unique) if cache else {}
    missing = [text for text in unique if text not in vectors]
    parts = [missing[start : start + TEXTS_AT_ONCE] for start in range(0, len(missing), TEXTS_AT_ONCE)]
    # Tokenising is one core's work; it goes ahead while the network has the rest. Closed, so that a stop waits for nothing.
    tokenize = model.tokenizer or list  # functions of others take the texts themselves
    with ThreadPoolExecutor(1) as ahead, closing(ahead.map(tokenize, parts)) as tokens:
        for part, ids in zip(parts, tokens):
            found = dict(zip(part, _encode_tokens(model, ids, batch_tokens)))
            vectors |= found
            warn_if_alike(np.stack(list(found.values())), model, "texts")
            if cache:
                cache.keep(found)
    return np.stack([vectors[text] for text in texts])


def _encode_tokens(model: Model | WrappedModel, tokens: torch.Tensor | list[str], batch_tokens: int) -> np.ndarray:
    if isinstance(model, WrappedModel):
        return model.encode_strings(tokens)
    if model.shares_prefixes:
        grown, size = list(trees(tokens.numpy(), model.prompt_lengths(tokens).numpy())), max(1, batch_tokens // NODES)
        order, encode = np.concatenate([tree.prompts for tree in grown]), model.encode_trees
        batches = [grown[start : start + size] for start in range(0, len(grown), size)]
    else:
        lengths = model.prompt_lengths(tokens).numpy() if model.trims_exactly else np.full(*tokens.shape)
        order = lengths.argsort(kind="stable")
        batches = list(_packed(order, lengths, batch_tokens))

        def encode(rows: np.ndarray) -> np.ndarray:
            return model.encode_tokens(tokens[rows, : lengths[rows[-1]]])

    each = parallel_map if model.device.type == "cpu" else map
    vectors = np.concatenate(list(each(encode, batches)))
    return vectors[order.argsort()]


def _packed(order: np.ndarray, lengths: np.ndarray, batch_tokens: int):
    """Cut `order`, which is by ascending length, into batches of at most so many tokens, or of one prompt."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > batch_tokens:
            yield order[start:end]
            start = end
