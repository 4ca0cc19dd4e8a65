"""Turn images and prompts into unit-norm vectors: the only module that runs a network."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from clipnb.decoding import DevicePixels, Pixels
from clipnb.embeddings import PRECISION_CHECK, Embeddings, StoreWriter, read_provenance, read_skipped
from clipnb.errors import InputError, having, listed, one_of, path_of, text_of, whole_number
from clipnb.models import Model
from clipnb.models._prefixes import NODES, trees
from clipnb.similarity import on_all_cores
from clipnb.textcache import TextCache, cache_folder

TEXTS_AT_ONCE = 4096  # tokenised, encoded and kept together: what a kill can lose
SHARD_SIZE = 4096  # images a shard: small enough to lose little on a kill, large enough for few files
READERS = {"pillow": Pixels, "device": DevicePixels}
PRECISION_SAMPLE = 64  # images on which a half precision is compared with fp32


def encode_texts(model: Model, texts, batch_tokens: int | None = None) -> np.ndarray:
    """Unit-norm text vectors in the caller's order.

    Equal texts are encoded once, texts that this model encoded before are read from the user's cache
    (`clipnb.textcache`). Of the rest, what prompts begin with in common is read once, where the tower allows that exactly
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
    having(model, "model", "encode_tokens", "clipnb.load_model")
    batch_tokens = (2048 if model.device.type == "cpu" else 65_536) if batch_tokens is None else batch_tokens
    batch_tokens = whole_number(batch_tokens, "batch_tokens", 1)
    texts = listed(texts, "texts")
    if not texts:
        raise InputError("Expected at least one text, got none")
    for position, text in enumerate(texts):
        text_of(text, f"texts[{position}]")
    unique, folder = list(dict.fromkeys(texts)), cache_folder()
    cache = TextCache(folder / "texts.sqlite", model.text_fingerprint) if folder else None
    vectors = cache.find(unique) if cache else {}
    missing = [text for text in unique if text not in vectors]
    parts = [missing[start : start + TEXTS_AT_ONCE] for start in range(0, len(missing), TEXTS_AT_ONCE)]
    # Tokenising is one core's work; it goes ahead while the network has the rest. Closed, so that a stop waits for nothing.
    with ThreadPoolExecutor(1) as ahead, closing(ahead.map(model.tokenizer, parts)) as tokens:
        for part, ids in zip(parts, tokens):
            found = dict(zip(part, _encode_tokens(model, ids, batch_tokens)))
            vectors |= found
            if cache:
                cache.keep(found)
    return np.stack([vectors[text] for text in texts])


def _encode_tokens(model: Model, tokens: torch.Tensor, batch_tokens: int) -> np.ndarray:
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

    each = on_all_cores if model.device.type == "cpu" else map
    vectors = np.concatenate(list(each(encode, batches)))
    return vectors[order.argsort()]


def _packed(order: np.ndarray, lengths: np.ndarray, batch_tokens: int):
    """Cut `order`, which is by ascending length, into batches of at most so many tokens, or of one prompt."""
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > batch_tokens:
            yield order[start:end]
            start = end


def encode_images(model: Model, data, store: str | Path | None = None, batch_size: int | None = None,
                  workers: int | None = None, bad_images: str = "stop", progress: bool = False, decoder: str | None = None) -> Embeddings:
    """Unit-norm image vectors of a labelled image set.

    With `store`, vectors are written shard by shard to that folder; a run that was cut off goes on where it
    stopped, a finished store is read back, and a store of another model, precision or data set is refused.

    A model in bf16 or fp16 is compared with itself in fp32 on PRECISION_SAMPLE of the images, spread over the set, for
    which it is loaded once more: `provenance["precision_check"]` holds the share of zero-shot predictions that change.
    It decides nothing.

    Args:
        model: from `clipnb.load_model`.
        data: from `clipnb.load_dataset`: `len(data)`, `data[i]` -> (PIL image, label), `ids`, `labels`, `classnames`.
        store: folder of the embeddings store, or None to keep the vectors in memory only.
        batch_size: images a batch; None: 256 on a GPU, 16 on a CPU (activations then stay in its cache). A batch that does
            not fit into memory is halved, and those after it.
        workers: processes that read and transform images while the network runs. None: on a CPU none, since every core does
            all of it for batches of its own, in a thread (half as fast again); elsewhere as many as there are cores, up to
            16, or none for few images and on systems that cannot fork.
        bad_images: "stop" at the first image that cannot be read, or "skip" it and say so in `skipped`.
        progress: show images/s and the time left on stderr.
        decoder: "pillow", or "device" for machines whose cores cannot feed their GPU: JPEG files are decoded and transformed on
            the model's device (`decoding.DevicePixels`; extra `gpu`). Vectors differ a little, so a store keeps to one of them.
            None: the store's, or "pillow" where there is none yet.

    Returns:
        `Embeddings` with vectors (N, D) float32 of unit norm, without rows for skipped images.

    Raises:
        InputError: an image cannot be read (with "skip": none of them can), or the store belongs to something else.

    >>> from clipnb import load_dataset, load_model
    >>> images = encode_images(load_model(), load_dataset("emoji").take(3))
    >>> images.vectors.shape
    (3, 256)
    """
    if store is not None:
        encode_to_store(model, data, store, batch_size, workers, bad_images, progress, decoder)
        return Embeddings.load(store)
    task = prepare(model, data, None, bad_images, decoder)
    found = Embeddings.concatenate(list(encode_shards(task, data, task.shards, batch_size, workers, progress)))
    not_all(found.skipped, data)
    return found


def encode_to_store(model: Model, data, store: str | Path, batch_size: int | None = None, workers: int | None = None,
                    bad_images: str = "stop", progress: bool = False, decoder: str | None = None) -> dict[str, str]:
    """`encode_images` for a set whose vectors need not fit into memory: they are in the store only.

    Returns:
        Reason by id of the images that were skipped.

    >>> from tempfile import TemporaryDirectory
    >>> from clipnb import load_dataset, load_model
    >>> with TemporaryDirectory() as folder:
    ...     encode_to_store(load_model(), load_dataset("emoji").take(3), folder)
    {}
    """
    task = prepare(model, data, store, bad_images, decoder)
    for rows, shard in zip(task.shards, encode_shards(task, data, task.shards, batch_size, workers, progress)):
        task.writer.write(rows.start, shard)
    skipped = read_skipped(store)
    not_all(skipped, data)
    return skipped


def not_all(skipped: dict[str, str], data) -> None:
    """Refuse a set of which no image could be read."""
    if len(skipped) == len(data):
        raise InputError(f"Expected images in {data.name}, none of {len(data)} can be read: {next(iter(skipped.values()))}")


@dataclass(frozen=True)
class Task:
    """What is to be encoded, settled."""

    model: Model
    provenance: dict
    bad_images: str
    writer: StoreWriter | None
    shards: list[range]  # positions of the images of each shard that is still to be written


def prepare(model: Model, data, store: str | Path | None, bad_images: str, decoder: str | None = None) -> Task:
    """Open the store, and find what is still to be done."""
    one_of(bad_images, "bad_images", ("stop", "skip"))
    if decoder is not None:
        one_of(decoder, "decoder", tuple(READERS))
    having(model, "model", "encode_pixels", "clipnb.load_model"), having(data, "data", "ids", "clipnb.load_dataset")
    if store is not None:
        path_of(store, "store")
    if not len(data):
        raise InputError("Expected at least one image, got none")
    begun = read_provenance(store) or {}
    provenance = {
        "model": model.name, "pretrained": model.pretrained,
        "model_fingerprint": model.fingerprint, "model_settings": model.settings,
        "precision": model.precision, "decoder": decoder or begun.get("decoder", "pillow"),
        "dataset": data.name, "dataset_fingerprint": data.fingerprint, "n": len(data),
    }
    provenance["exif_rotation"] = getattr(data, "exif_rotation", "ignored")
    if model.precision != "fp32":
        provenance[PRECISION_CHECK] = begun.get(PRECISION_CHECK) if begun else _check_precision(model, data)
    writer = StoreWriter(store, provenance, data.classnames, SHARD_SIZE) if store is not None else None
    shards = [range(start, min(start + SHARD_SIZE, len(data))) for start in range(0, len(data), SHARD_SIZE)]
    return Task(model, provenance, bad_images, writer, [rows for rows in shards if not (writer and writer.has(rows.start))])


def encode_shards(task: Task, data, shards: list[range], batch_size: int | None = None, workers: int | None = None,
                  progress: bool = False):
    """Yield `Embeddings` for each of these runs of positions, in order."""
    model, on_cpu = task.model, task.model.device.type == "cpu"
    size = batch_size = (16 if on_cpu else 256) if batch_size is None else whole_number(batch_size, "batch_size", 1, 10**6)
    batches = [[rows[i : i + batch_size] for i in range(0, len(rows), batch_size)] for rows in shards]
    forks = sys.platform == "linux"
    if workers is None:  # four batches are the least that reading ahead is felt with
        workers = 0 if on_cpu or not forks or sum(map(len, batches)) < 4 else min(len(os.sched_getaffinity(0)), 16)
    else:
        workers = whole_number(workers, "workers", 0, 1024)
    reader = READERS[task.provenance["decoder"]](data, model)
    nothing = np.empty((0, model.dimensions), dtype=np.float32)

    def encode(read):
        nonlocal size
        good, pixels, bad = reader.finish(read)
        if bad and task.bad_images == "stop":
            raise InputError(next(iter(bad.values())))
        found, size = _encode_pixels(model, pixels, size) if good else (nothing, size)
        bar.update(len(good) + len(bad))
        return good, found, {data.ids[i]: why for i, why in bad.items()}

    if on_cpu and not workers:
        def encode_all(some):
            return on_all_cores(lambda batch: encode(reader.collate([reader[i] for i in batch])), some)
    else:
        with _interrupt_held_back():
            loader = iter(torch.utils.data.DataLoader(
                reader, batch_sampler=[batch for some in batches for batch in some], collate_fn=reader.collate, num_workers=workers,
                multiprocessing_context="fork" if forks and workers else None, worker_init_fn=_unmoved, pin_memory=model.device.type == "cuda"))

        def encode_all(some):
            return [encode(read) for _, read in zip(some, loader)]

    title = f"{model.name} on {model.device} in {model.precision}"
    with tqdm(total=sum(map(len, shards)), unit=" images", desc=title, disable=not progress) as bar:
        for some in batches:
            parts = encode_all(some)
            rows, skipped = [i for good, _, _ in parts for i in good], {}
            for _, _, bad in parts:
                skipped |= bad
            yield Embeddings(np.concatenate([nothing, *(found for _, found, _ in parts)]), data.labels[rows],
                             [data.ids[i] for i in rows], data.classnames, task.provenance, skipped)


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Deliver a Ctrl-C only afterwards, so that it does not end a worker process that has just started and not this one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which does not fork
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unmoved(_worker) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers and says so
    sys.excepthook = lambda *error: None  # what fails in reading is handed over; the rest is a handshake that the parent's stop broke


def _encode_pixels(model: Model, pixels: torch.Tensor, size: int) -> tuple[np.ndarray, int]:
    """Vectors of a batch, at most `size` images at once, and the size that fitted into memory."""
    while True:
        try:
            return np.concatenate([model.encode_pixels(part) for part in pixels.split(size)]), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        size = (min(size, len(pixels)) + 1) // 2
        tqdm.write(f"clipnb: out of memory on {model.device}; going on with {size} images a batch", file=sys.stderr)


def _check_precision(model: Model, data) -> dict:
    """How a half precision differs from fp32 on a sample: "changed_predictions", a fraction in [0, 1] or None, and "images"."""
    if not data.classnames or model.exact is None:
        return {"changed_predictions": None, "images": 0}
    changed, images = changed_predictions(model.exact(), model, data)
    return {"changed_predictions": changed if images else None, "images": images}


def changed_predictions(model: Model, other: Model, data) -> tuple[float, int]:
    """Estimated share of zero-shot predictions (bare classnames) that change from one precision to another, NaN without images, and on how many images.

    Few images decide few predictions, so every checked image is given the errors of all of them in turn: with n images
    n * n trials, of which n are their own.

    >>> from clipnb import load_dataset, load_model
    >>> model = load_model()
    >>> changed_predictions(model, model, load_dataset("emoji").take(4))
    (0.0, 4)
    """
    sample = np.unique(np.linspace(0, len(data) - 1, PRECISION_SAMPLE).astype(int)).tolist()
    classifier = encode_texts(model, data.classnames)
    scores, shifts = [], []
    batches, reader = [sample[i : i + 16] for i in range(0, len(sample), 16)], Pixels(data, model)
    for good, pixels, _ in on_all_cores(lambda batch: reader.collate([reader[i] for i in batch]), batches):
        if good:
            exact = model.encode_pixels(pixels)
            scores.append(exact @ classifier.T)
            shifts.append((other.encode_pixels(pixels) - exact) @ classifier.T)
    if not scores:
        return float("nan"), 0
    scores, shifts = np.concatenate(scores), np.concatenate(shifts)
    predictions = scores.argmax(axis=1)
    return float(np.mean([(scores + shift).argmax(axis=1) != predictions for shift in shifts])), len(scores)
