"""Turn images into unit-norm vectors, in memory or shard by shard into a store."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from clipnb._checks import one_of, require_attribute, whole_number
from clipnb._files import path_of
from clipnb.embeddings import PRECISION_CHECK, Embeddings, StoreWriter, read_provenance, read_skipped
from clipnb.encode._imagecache import keep_vectors, read_vectors
from clipnb.encode._plausible import warn_if_alike
from clipnb.encode._precision import check_precision
from clipnb.encode._readers import DevicePixels, Pixels
from clipnb.errors import InputError
from clipnb.models import Model
from clipnb.similarity import parallel_map

SHARD_SIZE = 4096  # images a shard: small enough to lose little on a kill, large enough for few files
READERS = {"pillow": Pixels, "device": DevicePixels}


def encode_images(
    model: Model,
    data,
    store: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    bad_images: str = "stop",
    progress: bool = False,
    decoder: str | None = None,
) -> Embeddings:
    """Unit-norm image vectors of a labelled image set.

    With `store`, vectors are written shard by shard to that folder; a run that was cut off goes on where it
    stopped, a finished store is read back, and a store of another model, precision or data set is refused.

    Without `store`, vectors of the shipped sets are kept in the user's cache (`cache_folder`), so that a model encodes
    each of these sets once.

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
    kept = read_vectors(model, data) if decoder is None else None
    if kept is not None:
        return Embeddings(kept, data.labels, list(data.ids), data.classnames, task.provenance)
    images = Embeddings.concatenate(list(encode_shards(task, data, task.shards, batch_size, workers, progress)))
    require_some_readable(images.skipped, data)
    if decoder is None and not images.skipped:
        keep_vectors(model, data, images.vectors)
    return images


def encode_to_store(
    model: Model,
    data,
    store: str | Path,
    batch_size: int | None = None,
    workers: int | None = None,
    bad_images: str = "stop",
    progress: bool = False,
    decoder: str | None = None,
) -> dict[str, str]:
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
    require_some_readable(skipped, data)
    return skipped


def require_some_readable(skipped: dict[str, str], data) -> None:
    """Refuse a set of which no image could be read."""
    if len(skipped) == len(data):
        raise InputError(
            f"Expected images in {data.name}, none of {len(data)} can be read: {next(iter(skipped.values()))}"
        )


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
    (
        require_attribute(model, "model", "encode_pixels", "clipnb.load_model"),
        require_attribute(data, "data", "ids", "clipnb.load_dataset"),
    )
    if store is not None:
        path_of(store, "store")
    if not len(data):
        raise InputError("Expected at least one image, got none")
    if store is not None and model.fingerprint is None:
        raise InputError(
            "Expected a model with a name for a store, got functions without one: "
            "wrap_model(encode_images=..., encode_texts=..., name='...')"
        )
    begun = read_provenance(store) or {}
    provenance = {
        "model": model.name,
        "pretrained": model.pretrained,
        "model_fingerprint": model.fingerprint,
        "model_settings": model.settings,
        "precision": model.precision,
        "decoder": decoder or begun.get("decoder", "pillow"),
        "dataset": data.name,
        "dataset_fingerprint": data.fingerprint,
        "n": len(data),
    }
    provenance["exif_rotation"] = getattr(data, "exif_rotation", "ignored")
    if model.precision != "fp32":
        provenance[PRECISION_CHECK] = begun.get(PRECISION_CHECK) if begun else check_precision(model, data)
    writer = StoreWriter(store, provenance, data.classnames, SHARD_SIZE) if store is not None else None
    shards = [range(start, min(start + SHARD_SIZE, len(data))) for start in range(0, len(data), SHARD_SIZE)]
    return Task(
        model, provenance, bad_images, writer, [rows for rows in shards if not (writer and writer.has(rows.start))]
    )


def encode_shards(
    task: Task,
    data,
    shards: list[range],
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = False,
):
    """Yield `Embeddings` for each of these runs of positions, in order."""
    model, on_cpu = task.model, task.model.device.type == "cpu"
    size = batch_size = (
        (16 if on_cpu else 256) if batch_size is None else whole_number(batch_size, "batch_size", 1, 10**6)
    )
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

    if on_cpu and not workers and model.tokenizer is not None:  # functions of others are called by one thread

        def encode_all(some):
            return parallel_map(lambda batch: encode(reader.collate([reader[i] for i in batch])), some)
    else:
        with _interrupt_held_back():
            loader = iter(
                torch.utils.data.DataLoader(
                    reader,
                    batch_sampler=[batch for some in batches for batch in some],
                    collate_fn=reader.collate,
                    num_workers=workers,
                    multiprocessing_context="fork" if forks and workers else None,
                    worker_init_fn=_unmoved,
                    pin_memory=model.device.type == "cuda",
                )
            )

        def encode_all(some):
            return [encode(read) for _, read in zip(some, loader)]

    title = f"{model.name} on {model.device} in {model.precision}"
    with tqdm(total=sum(map(len, shards)), unit=" images", desc=title, disable=not progress) as bar:
        for some in batches:
            parts = encode_all(some)
            rows, skipped = [i for good, _, _ in parts for i in good], {}
            for _, _, bad in parts:
                skipped |= bad
            vectors = np.concatenate([nothing, *(found for _, found, _ in parts)])
            if some is batches[0]:
                warn_if_alike(vectors, model, "images")
            yield Embeddings(
                vectors,
                data.labels[rows],
                [data.ids[i] for i in rows],
                data.classnames,
                task.provenance,
                skipped,
            )


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
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent ends its workers and says so
    sys.excepthook = lambda *error: (
        None
    )  # what fails in reading is handed over; the rest is a handshake that the parent's stop broke


def _encode_pixels(model: Model, pixels: torch.Tensor | list, size: int) -> tuple[np.ndarray, int]:
    """Vectors of a batch, at most `size` images at once, and the size that fitted into memory."""
    while True:
        try:
            parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
            return np.concatenate([model.encode_pixels(part) for part in parts]), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        size = (min(size, len(pixels)) + 1) // 2
        tqdm.write(f"clipnb: out of memory on {model.device}; going on with {size} images a batch", file=sys.stderr)
