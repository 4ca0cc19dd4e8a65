"""Encoding on several processes or machines by Ray Data, with the encoder and the store of one machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clipnb.datasets import load_dataset
from clipnb.embeddings import read_skipped
from clipnb.encode._images import Task, encode_shards, prepare, require_some_readable
from clipnb.errors import InputError


def encode_with_ray(
    load, spec: str, store: str | Path, bad_images: str = "stop", workers: int | None = None, decoder: str | None = None
) -> dict[str, str]:
    """`encode.encode_to_store` by Ray Data (extra `ray`), here or on the cluster that Ray is told of (RAY_ADDRESS).

    A worker loads model and data set once; a task is one shard, which the worker encodes and writes. When a worker dies,
    Ray gives its shard to another; a shard written twice is one file. All nodes must see the same paths.

    Args:
        load: function without arguments that gives the model, on any node.
        spec: of `load_dataset`.
        store, bad_images, decoder: as for `encode.encode_images`.
        workers: how many encode at a time; None: one a GPU, or one for two cores.

    Returns:
        Reason by id of the images that were skipped.

    Raises:
        InputError: Ray is not installed, or as `encode.encode_images`.
    """
    try:
        import ray
    except ImportError:
        raise InputError("Expected Ray for the engine ray, it is not installed; pip install 'clipnb[ray]'") from None
    data = load_dataset(spec)
    task = prepare(load(), data, store, bad_images, decoder)
    if task.shards:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        gpu = task.model.device.type == "cuda"
        workers = workers or max(1, int(ray.cluster_resources().get("GPU" if gpu else "CPU", 1)) // (1 if gpu else 2))
        places = ray.data.from_items(
            [{"place": place} for place in range(len(task.shards))], override_num_blocks=len(task.shards)
        )
        done = places.map_batches(
            _Worker,
            fn_constructor_args=(load, spec, replace(task, model=None)),
            batch_size=1,
            concurrency=workers,
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
    def __init__(self, load, spec: str, task: Task):
        self.data = load_dataset(spec)
        self.task = replace(task, model=load())

    def __call__(self, batch: dict) -> dict:
        rows = self.task.shards[int(batch["place"][0])]
        try:
            (shard,) = encode_shards(self.task, self.data, [rows], workers=0)  # Ray's workers read for themselves
        except InputError as error:  # an answer, so that Ray does not try again
            return {"refused": [str(error)]}
        self.task.writer.write(rows.start, shard)
        return {"refused": [""]}
