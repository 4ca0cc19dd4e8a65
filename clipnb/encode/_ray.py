"""Encoding on several processes or machines by Ray Data, with the encoder and the store of one machine."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from clipnb import _runtime
from clipnb.datasets import load_dataset
from clipnb.embeddings import StoreWriter, read_skipped
from clipnb.encode._images import BadImages, Decoder, EncodingJob, encode_shards, prepare, require_some_readable
from clipnb.errors import InputError
from clipnb.models import Model, WrappedModel


def encode_with_ray(
    load: Callable[[], Model | WrappedModel],
    spec: str,
    store: str | Path,
    bad_images: BadImages = "stop",
    workers: int | None = None,
    decoder: Decoder | None = None,
    shard_size: int | None = None,
) -> dict[str, str]:
    """`encode_to_store` by Ray Data (extra `ray`), on this machine or on the cluster at RAY_ADDRESS.

    A worker loads model and data set once, then encodes and writes one shard at a time. When a worker dies, Ray gives
    its shard to another; a shard written twice is one file. All nodes must see the same paths.

    Args:
        load: function without arguments that gives the model, on any node.
        spec: of `load_dataset`.
        store: folder of the embeddings store.
        bad_images: as for `encode_images`.
        workers: how many encode at a time; None: one a GPU, or one for two cores.
        decoder: as for `encode_images`.
        shard_size: images a shard; None: as for `encode_images`.

    Returns:
        Reason by id of the images that were skipped.

    Raises:
        InputError: Ray is not installed, or as `encode_images`.
    """
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError:
        raise InputError("Engine 'ray' needs Ray, which is not installed: pip install 'clipnb[ray]'") from None
    data = load_dataset(spec)
    job = prepare(load(), data, store, bad_images, decoder, shard_size)
    if job.shards:
        with _runtime.ray_session(ray):
            gpu = job.model.device.type == "cuda"
            slots = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 1))
            places = ray.data.from_items(
                [{"place": place} for place in range(len(job.shards))], override_num_blocks=len(job.shards)
            )
            done = places.map_batches(
                _Worker,
                fn_constructor_args=(load, spec, (job.provenance, job.bad_images, job.writer, job.shards)),
                batch_size=1,
                concurrency=workers or max(1, slots if gpu else slots // 2),
                num_cpus=0 if gpu else 1,
                num_gpus=1 if gpu else 0,
            )
            refused = sorted(row["refused"] for row in done.take_all() if row["refused"])
        if refused:
            raise InputError(refused[0])
    skipped = read_skipped(store)
    require_some_readable(skipped, data)
    return skipped


class _Worker:
    """Encodes and writes shards; it loads the model and the data set for itself."""

    def __init__(self, load: Callable[[], Model | WrappedModel], spec: str, choices: tuple[Any, ...]) -> None:
        self.data = load_dataset(spec)
        self.job = EncodingJob(load(), *choices)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        rows = self.job.shards[int(batch["place"][0])]
        try:
            (shard,) = encode_shards(self.job, self.data, [rows], workers=0)  # Ray's workers read for themselves
        except InputError as error:  # returned, so that Ray does not try again
            return {"refused": [str(error)]}
        cast("StoreWriter", self.job.writer).write(rows.start, shard)
        return {"refused": [""]}
