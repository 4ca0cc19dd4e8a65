"""Turn images into unit-norm vectors, in memory or shard by shard into a store."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from tqdm.auto import tqdm

from clipnb import _runtime
from clipnb._checks import one_of, require_attribute, whole_number
from clipnb._files import path_of
from clipnb.datasets import LabeledImages
from clipnb.embeddings import PRECISION_CHECK, Embeddings, StoreWriter, read_provenance, read_skipped
from clipnb.encode._imagecache import keep_vectors, read_vectors
from clipnb.encode._plausible import warn_if_alike
from clipnb.encode._precision import check_precision
from clipnb.encode._readers import DevicePixels, Pixels
from clipnb.errors import InputError
from clipnb.models import Model, WrappedModel
from clipnb.similarity import parallel_map

SHARD_SIZE = 4096  # images a shard: small enough to lose little on a kill, large enough for few files
READERS: dict[str, type[Pixels]] = {"pillow": Pixels, "device": DevicePixels}
MIN_BATCHES = 4  # with fewer batches, worker processes take longer to start than they save
MAX_WORKERS = 16

BadImages = Literal["stop", "skip"]
Decoder = Literal["pillow", "device"]
# Of one batch: positions that could be read, their vectors, and the reason by id of the others.
EncodedBatch = tuple[list[int], np.ndarray, dict[str, str]]


def encode_images(
    model: Model | WrappedModel,
    data: LabeledImages,
    store: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    bad_images: BadImages = "stop",
    progress: bool = False,
    decoder: Decoder | None = None,
) -> Embeddings:
    """Unit-norm image vectors of a labelled image set.

    With `store`, vectors are written shard by shard to that folder; a run that was cut off resumes where it stopped, a
    finished store is read back, and a store of another model, precision or data set is refused.

    Without `store`, vectors of the shipped sets are kept in the user's cache (`cache_folder`), so that a model encodes
    each of these sets once.

    A model in bf16 or fp16 is compared with itself in fp32 on PRECISION_SAMPLE of the images, spread over the set, for
    which it is loaded once more: `provenance["precision_check"]` holds the share of zero-shot predictions that change.
    The result of this check does not change the precision.

    Args:
        model: from `clipnb.load_model`.
        data: from `clipnb.load_dataset`: `len(data)`, `data[i]` -> (PIL image, label), `ids`, `labels`, `classnames`.
        store: folder of the embeddings store, or None to keep the vectors in memory only.
        batch_size: images a batch; None: 256 on a GPU, 16 on a CPU (activations then stay in its cache). A batch that
            does not fit into memory is halved, and so are those after it.
        workers: processes that read and transform images while the network runs. None: on a CPU none, since every core
            does all of it for batches of its own, in a thread (half as fast again); elsewhere as many as there are
            cores, up to 16, or none for few images and on systems that cannot fork.
        bad_images: "stop" at the first image that cannot be read, or "skip" it and list it in `skipped`.
        progress: show images/s and the time left on stderr.
        decoder: "pillow", or "device" for machines whose cores cannot feed their GPU: JPEG files are decoded and
            transformed on the model's device (extra `gpu`). Vectors differ a little, so a store keeps to one of them.
            None: the store's, or "pillow" for a new store.

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
    job = prepare(model, data, None, bad_images, decoder)
    kept = read_vectors(model, data) if decoder is None else None
    if kept is not None:
        return Embeddings(kept, data.labels, list(data.ids), data.classnames, job.provenance)
    result = encode_in_memory(job, data, batch_size, workers, progress)
    if decoder is None and not result.skipped:
        keep_vectors(model, data, result.vectors)
    return result


def encode_to_store(
    model: Model | WrappedModel,
    data: LabeledImages,
    store: str | Path,
    batch_size: int | None = None,
    workers: int | None = None,
    bad_images: BadImages = "stop",
    progress: bool = False,
    decoder: Decoder | None = None,
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
    job = prepare(model, data, store, bad_images, decoder)
    return fill_store(job, data, batch_size, workers, progress)


@dataclass(frozen=True)
class EncodingJob:
    """An encoding job with all choices made."""

    model: Model | WrappedModel
    provenance: dict[str, Any]
    bad_images: BadImages
    writer: StoreWriter | None
    shards: list[range]  # positions of the images of each shard that is still to be written


def prepare(
    model: Model | WrappedModel,
    data: LabeledImages,
    store: str | Path | None,
    bad_images: BadImages,
    decoder: Decoder | None = None,
    shard_size: int | None = None,
) -> EncodingJob:
    """Check the options of `encode_images`, open the store, and list the shards that it does not hold yet.

    A shard has `shard_size` images, SHARD_SIZE if it is None.
    """
    one_of(bad_images, "bad_images", ("stop", "skip"))
    if decoder is not None:
        one_of(decoder, "decoder", tuple(READERS))
    require_attribute(model, "model", "encode_pixels", "clipnb.load_model")
    require_attribute(data, "data", "ids", "clipnb.load_dataset")
    if store is not None:
        path_of(store, "store")
    if not len(data):
        raise InputError("Expected at least one image, got none")
    if store is not None and model.fingerprint is None:
        raise InputError(
            "Expected a model with a name for a store, got functions without one: "
            "wrap_model(encode_images=..., encode_texts=..., name='...')"
        )
    earlier = (read_provenance(store) if store is not None else None) or {}
    provenance = {
        "model": model.name,
        "pretrained": model.pretrained,
        "model_fingerprint": model.fingerprint,
        "model_settings": model.settings,
        "precision": model.precision,
        "decoder": decoder or earlier.get("decoder", "pillow"),
        "dataset": data.name,
        "dataset_fingerprint": data.fingerprint,
        "n": len(data),
        "exif_rotation": getattr(data, "exif_rotation", "ignored"),
    }
    if model.precision != "fp32":
        provenance[PRECISION_CHECK] = earlier.get(PRECISION_CHECK) if earlier else check_precision(model, data)
    size = shard_size or SHARD_SIZE
    writer = StoreWriter(store, provenance, data.classnames, size) if store is not None else None
    shards = [range(start, min(start + size, len(data))) for start in range(0, len(data), size)]
    missing = [rows for rows in shards if not (writer and writer.has(rows.start))]
    return EncodingJob(model, provenance, bad_images, writer, missing)


def encode_in_memory(
    job: EncodingJob,
    data: LabeledImages,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Embeddings:
    """Run a job without a store."""
    shards = encode_shards(job, data, job.shards, batch_size, workers, progress)
    result = Embeddings.concatenate(list(shards))
    require_some_readable(result.skipped, data)
    return result


def fill_store(
    job: EncodingJob,
    data: LabeledImages,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> dict[str, str]:
    """Run a job with a store, one shard at a time; reason by id of the images that the store skips."""
    writer = cast("StoreWriter", job.writer)
    for rows, shard in zip(job.shards, encode_shards(job, data, job.shards, batch_size, workers, progress)):
        writer.write(rows.start, shard)
    skipped = read_skipped(writer.folder)
    require_some_readable(skipped, data)
    return skipped


def require_some_readable(skipped: dict[str, str], data: LabeledImages) -> None:
    """Refuse a set of which no image could be read."""
    if len(skipped) == len(data):
        raise InputError(
            f"Expected images in {data.name}, none of {len(data)} can be read: {next(iter(skipped.values()))}"
        )


def encode_shards(
    job: EncodingJob,
    data: LabeledImages,
    shards: list[range],
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Iterator[Embeddings]:
    """Yield `Embeddings` for each of these runs of positions, in order."""
    model = job.model
    on_cpu = model.device.type == "cpu"
    if batch_size is None:
        batch_size = 16 if on_cpu else 256
    batch_size = whole_number(batch_size, "batch_size", 1, 10**6)
    batches = [[rows[i : i + batch_size] for i in range(0, len(rows), batch_size)] for rows in shards]
    can_fork = sys.platform == "linux"
    if workers is not None:
        workers = whole_number(workers, "workers", 0, 1024)
    elif on_cpu or not can_fork or sum(map(len, batches)) < MIN_BATCHES:
        workers = 0
    else:
        workers = min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    reader = READERS[job.provenance["decoder"]](data, model)
    no_vectors = np.empty((0, model.dimensions), dtype=np.float32)
    if isinstance(model, Model):
        _ = model.image_reader  # found once, not by every thread
    size = batch_size  # images that fit into memory at once

    def encode(read: Any) -> EncodedBatch:
        nonlocal size
        good, pixels, bad = reader.finish(read)
        if bad and job.bad_images == "stop":
            raise InputError(next(iter(bad.values())))
        vectors = no_vectors
        if pixels is not None:
            vectors, size = _encode_pixels(model, pixels, size)
        bar.update(len(good) + len(bad))
        return good, vectors, {data.ids[i]: reason for i, reason in bad.items()}

    def encode_in_threads(rows: list[range]) -> list[EncodedBatch]:
        return parallel_map(lambda batch: encode(reader.collate([reader[i] for i in batch])), rows)

    def encode_behind_workers(rows: list[range]) -> list[EncodedBatch]:
        return [encode(read) for _, read in zip(rows, loader)]

    encode_all: Callable[[list[range]], list[EncodedBatch]] = encode_in_threads
    if workers or not on_cpu or model.tokenizer is None:  # functions of others are called by one thread
        encode_all = encode_behind_workers
        with _runtime.interrupt_deferred():
            loader = iter(
                torch.utils.data.DataLoader(
                    reader,
                    batch_sampler=cast("Iterable[list[int]]", [batch for rows in batches for batch in rows]),
                    collate_fn=reader.collate,
                    num_workers=workers,
                    multiprocessing_context="fork" if can_fork and workers else None,
                    worker_init_fn=_runtime.silence_worker,
                    pin_memory=model.device.type == "cuda",
                )
            )
    title = f"{model.name} on {model.device} in {model.precision}"
    with tqdm(total=sum(map(len, shards)), unit=" images", desc=title, disable=not progress) as bar:
        for shard in batches:
            parts = encode_all(shard)
            rows = [i for good, _, _ in parts for i in good]
            vectors = np.concatenate([no_vectors, *(part for _, part, _ in parts)])
            if shard is batches[0]:
                warn_if_alike(vectors, model, "images")
            yield Embeddings(
                vectors,
                data.labels[rows],
                [data.ids[i] for i in rows],
                data.classnames,
                job.provenance,
                {name: reason for _, _, bad in parts for name, reason in bad.items()},
            )


def _encode_pixels(model: Model | WrappedModel, pixels: Any, size: int) -> tuple[np.ndarray, int]:
    """Vectors of a batch, at most `size` images at once, and the size that fitted into memory."""
    while True:
        try:
            parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
            return np.concatenate([model.encode_pixels(part) for part in parts]), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        size = (min(size, len(pixels)) + 1) // 2
        tqdm.write(f"clipnb: out of memory on {model.device}; continuing with {size} images a batch", file=sys.stderr)
