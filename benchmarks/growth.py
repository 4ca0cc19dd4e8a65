"""How time and memory grow with the number of items: encoding, scoring, corrections, predictions and retrieval.

    python -m benchmarks.growth              # writes benchmarks/results/growth.json and .md

Each size runs once, in a process of its own. Processor time is what grows with the items alone: loading libraries and
the model and making the inputs are left out. The exponent is the slope of a straight line through the logarithms of
items and processor time, over the sizes that take at least half a second: 1 is linear, 2 is quadratic.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import clipnb
from benchmarks._harness import load, machine, machine_text, own_process, publish_beside, reset_peak, seconds, status
from benchmarks.evaluate import CLASSES, inputs
from clipnb.embeddings import Embeddings
from clipnb.encode import encode_to_store
from clipnb.predictions import read_predictions
from clipnb.retrieval import evaluate_retrieval

Job = Callable[[], object]
SHARD = 4096  # as `encode_images` writes


def encode(count: int, folder: Path) -> Job:
    """Drawings of the icon set, from their files to vectors in a store."""
    model, data = clipnb.load_model(), clipnb.load_dataset("icons").take(count)
    encode_to_store(model, data.take(8), folder / "warm")
    return lambda: encode_to_store(model, data, folder / "store")


def evaluate_store(count: int, folder: Path) -> Job:
    """A store of vectors scored against 1,000 classes, with the summary."""
    vectors, classifier, labels = inputs(count)
    names = [str(c) for c in range(CLASSES)]
    Embeddings(vectors, labels, [str(i) for i in range(count)], names).save(folder / "store", shard_size=SHARD)
    return lambda: clipnb.evaluate_store(folder / "store", classifier).summary()


def class_bias(count: int, folder: Path) -> Job:
    """NNN's offsets for 1,000 classes from vectors in memory."""
    vectors, classifier, _ = inputs(count)
    return lambda: clipnb.ensemble.class_bias(vectors, classifier, "nnn")


def predictions(count: int, folder: Path) -> Job:
    """A Parquet file of ids, labels and predictions among 1,000 classes, read, scored and summed up."""
    rng, file = np.random.default_rng(0), folder / "predictions.parquet"
    schema = pa.schema({"id": pa.string(), "label": pa.int32(), "prediction": pa.int32()})
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, count, 100_000):
            ids = np.arange(start, min(start + 100_000, count))
            labels = rng.integers(0, CLASSES, len(ids), dtype=np.int32)
            guesses = np.where(rng.random(len(ids)) < 0.7, labels, rng.integers(0, CLASSES, len(ids), dtype=np.int32))
            writer.write_table(pa.table([pa.array(ids).cast(pa.string()), labels, guesses], schema=schema))
    return lambda: read_predictions(file).result().summary()


def retrieval(count: int, folder: Path) -> Job:
    """As many captions as images, each ranked for the other."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, count, 256), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return lambda: evaluate_retrieval(*vectors, np.arange(count))


JOBS: dict[str, tuple[Callable[[int, Path], Job], tuple[int, ...]]] = {
    "encode": (encode, (500, 1_000, 2_000, 4_000, 8_000)),
    "evaluate_store": (evaluate_store, (1_000, 10_000, 100_000, 1_000_000)),
    "class_bias": (class_bias, (1_000, 10_000, 100_000, 1_000_000)),
    "predictions": (predictions, (10_000, 100_000, 1_000_000, 10_000_000)),
    "retrieval": (retrieval, (1_000, 3_000, 10_000, 30_000)),
}


def measure(name: str, count: int) -> dict[str, float]:
    """Wall and processor seconds of one run, and the MB that it adds to this process at its peak."""
    with TemporaryDirectory() as folder:
        make, sizes = JOBS[name]
        Path(folder, "small").mkdir()
        make(sizes[0], Path(folder, "small"))()  # loads what is loaded once
        job = make(count, Path(folder))
        before = reset_peak()
        wall, cpu = seconds(job)
        return {"wall": round(wall, 2), "processor": round(cpu, 2), "peak_mb": round(status("VmHWM") - before)}


def exponent(sizes: list[int], times: list[float]) -> float | None:
    """Slope of log time over log items, of the sizes that take at least half a second; None for fewer than two."""
    points = [(np.log(size), np.log(time)) for size, time in zip(sizes, times, strict=True) if time >= 0.5]
    return round(float(np.polyfit(*zip(*points), 1)[0]), 2) if len(points) > 1 else None


def run() -> dict:
    """All measurements, the small sizes first."""
    before = load()
    rows = {
        name: {size: json.loads(own_process("growth", "--measure", name, size)) for size in sizes}
        for name, (_, sizes) in JOBS.items()
    }
    return {
        "machine": machine(("numpy", "torch", "pyarrow")),
        "load_average": [before, load()],
        "rows": rows,
        "exponent": {
            name: exponent(list(sizes), [row["processor"] for row in sizes.values()]) for name, sizes in rows.items()
        },
    }


def on_paper(results: dict) -> list[str]:
    """Lines of a table of 10^9 items: the processor time of an item at the largest size, multiplied."""
    lines = ["| operation | core hours for 10^9 items |", "|---|---|"]
    for name, sizes in results["rows"].items():
        if name != "retrieval":  # which is quadratic
            largest, row = list(sizes.items())[-1]
            lines.append(f"| `{name}` | {row['processor'] / int(largest) * 1e9 / 3600:,.1f} |")
    return lines


def page(results: dict) -> str:
    """The results in Markdown."""
    lines = [
        "| operation | items | seconds (wall) | seconds (processor) | peak extra MB | exponent |",
        "|---|---|---|---|---|---|",
    ]
    for name, sizes in results["rows"].items():
        for size, row in sizes.items():
            slope = results["exponent"][name] if size == list(sizes)[-1] else ""
            lines.append(
                f"| `{name}` | {int(size):,} | {row['wall']} | {row['processor']} | {row['peak_mb']} | "
                f"{'' if slope is None else slope} |"
            )
    lines += ["", f"{machine_text(results)}.", ""]
    lines += ["A billion items, on paper (not run): what is measured above, multiplied.", "", *on_paper(results)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, metavar=("OPERATION", "ITEMS"))
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], int(options.measure[1]))))
    else:
        results = run()
        publish_beside("growth", results, page)
