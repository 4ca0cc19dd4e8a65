"""Turn images and prompts into unit-norm vectors: the only module that runs a network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from clipnb.embeddings import Embeddings, StoreWriter
from clipnb.errors import InputError, whole_number
from clipnb.models import Model
from clipnb.textcache import TextCache, cache_folder

TEXTS_AT_ONCE = 16_384  # tokenised, encoded and kept together: what a kill can lose
SHARD_SIZE = 4096  # images a shard: small enough to lose little on a kill, large enough for few files


def encode_texts(model: Model, texts, batch_tokens: int | None = None) -> np.ndarray:
    """Unit-norm text vectors in the caller's order.

    Equal texts are encoded once, texts that this model encoded before are read from the user's cache
    (`clipnb.textcache`). The rest are sorted by length, packed into batches by the number of their tokens, and cut to
    the longest of their batch where the tower allows that exactly (`Model.trims_exactly`).

    Args:
        model: from `clipnb.load_model`.
        texts: P strings.
        batch_tokens: tokens a batch, padding included; None: 65,536 on a GPU, 2,048 on a CPU (so that activations stay
            in its cache).

    Returns:
        (P, D) float32, rows of unit norm.

    Raises:
        InputError: `texts` is empty, a single string, or holds something that is not a non-empty string.

    >>> from clipnb import load_model
    >>> vectors = encode_texts(load_model(), ["a photo of a cat.", "a dog"])
    >>> vectors.shape, float(np.linalg.norm(vectors[0]).round(4))
    ((2, 256), 1.0)
    """
    batch_tokens = (2048 if model.device.type == "cpu" else 65_536) if batch_tokens is None else batch_tokens
    batch_tokens = whole_number(batch_tokens, "batch_tokens", 1)
    if isinstance(texts, str):
        raise InputError(f"Expected `texts` to be a list of strings, got the single string {texts!r}")
    texts = list(texts)
    if not texts:
        raise InputError("Expected at least one text, got none")
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"Expected text {position} to be a non-empty string, got {text!r}")
    unique, folder = list(dict.fromkeys(texts)), cache_folder()
    cache = TextCache(folder / "texts.sqlite", model.text_fingerprint) if folder else None
    vectors = cache.find(unique) if cache else {}
    missing = [text for text in unique if text not in vectors]
    for start in range(0, len(missing), TEXTS_AT_ONCE):
        found = _encode_missing(model, missing[start : start + TEXTS_AT_ONCE], batch_tokens)
        vectors |= found
        if cache:
            cache.keep(found)
    return np.stack([vectors[text] for text in texts])


def _encode_missing(model: Model, texts: list[str], batch_tokens: int) -> dict[str, np.ndarray]:
    tokens = model.tokenizer(texts)
    lengths = model.prompt_lengths(tokens) if model.trims_exactly else torch.full((len(texts),), tokens.shape[1])
    order, vectors = lengths.argsort(stable=True), {}
    with torch.inference_mode():
        for rows in _packed(order, lengths, batch_tokens):
            found = model.encode_tokens(tokens[rows, : int(lengths[rows[-1]])])
            vectors |= zip([texts[row] for row in rows], found)
    return vectors


def _packed(order: torch.Tensor, lengths: torch.Tensor, batch_tokens: int):
    """Cut `order`, which is by ascending length, into batches of at most so many tokens, or of one prompt."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > batch_tokens:
            yield order[start:end]
            start = end


def encode_images(model: Model, data, store: str | Path | None = None, batch_size: int | None = None, workers: int = 2,
                  progress: bool = False) -> Embeddings:
    """Unit-norm image vectors of a labelled image set.

    With `store`, vectors are written shard by shard to that folder; a run that was cut off goes on where it
    stopped, a finished store is read back, and a store of another model, precision or data set is refused.

    Args:
        model: from `clipnb.load_model`.
        data: from `clipnb.load_dataset`: `len(data)`, `data[i]` -> (PIL image, label), `ids`, `labels`, `classnames`.
        store: folder of the embeddings store, or None to keep the vectors in memory only.
        batch_size: images a batch; None: 256 on a GPU, 16 on a CPU (activations then stay in its cache).
        workers: threads that read and transform images while the network runs.
        progress: show a progress bar on stderr.

    Returns:
        `Embeddings` with vectors (N, D) float32 of unit norm.

    Raises:
        InputError: an image cannot be read, or the store belongs to something else.

    >>> from clipnb import load_dataset, load_model
    >>> images = encode_images(load_model(), load_dataset("emoji").take(3))
    >>> images.vectors.shape
    (3, 256)
    """
    batch_size = (16 if model.device.type == "cpu" else 256) if batch_size is None else batch_size
    batch_size, workers = whole_number(batch_size, "batch_size", 1), whole_number(workers, "workers", 1)
    provenance = {
        "model": model.name, "pretrained": model.pretrained, "model_fingerprint": model.fingerprint,
        "precision": model.precision, "dataset": data.name, "dataset_fingerprint": data.fingerprint, "n": len(data),
    }
    writer = StoreWriter(store, provenance, data.classnames, SHARD_SIZE) if store is not None else None
    shards = []
    with tqdm(total=len(data), unit=" images", disable=not progress, desc=f"encoding on {model.device}") as bar, \
            ThreadPoolExecutor(workers) as pool, torch.inference_mode():
        for start in range(0, len(data), SHARD_SIZE):
            rows = range(start, min(start + SHARD_SIZE, len(data)))
            if writer and writer.has(start):
                bar.update(len(rows))
                continue
            batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
            vectors = np.concatenate([_update(bar, model.encode_pixels(pixels)) for pixels in
                                      _prefetch(pool, lambda i: model.preprocess(data[i][0]), batches)])
            shard = Embeddings(vectors, data.labels[rows.start : rows.stop], data.ids[rows.start : rows.stop],
                               data.classnames, provenance)
            writer.write(start, shard) if writer else shards.append(shard)
    return Embeddings.load(store) if writer else Embeddings.concatenate(shards)


def _prefetch(pool: ThreadPoolExecutor, load, batches):
    """Yield stacked batches, the next one being read while the current one is encoded."""
    waiting = None
    for batch in [*batches, None]:
        submitted = [pool.submit(load, i) for i in batch] if batch is not None else None
        if waiting is not None:
            yield torch.stack([item.result() for item in waiting])
        waiting = submitted


def _update(bar, vectors):
    bar.update(len(vectors))
    return vectors
