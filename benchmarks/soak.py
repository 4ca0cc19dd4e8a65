"""Encode, evaluate and audit a small set repeatedly in one process, and measure whether memory, open files, processes
or files left behind grow.

    python -m benchmarks.soak --minutes 60      # writes benchmarks/results/soak.json and .md

The first tenth of the time warms up and is not counted. The slope is a straight line through the means of twenty equal
parts of the rest, because single rounds are not independent observations. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy import stats

import clipnb
from benchmarks._harness import machine, machine_text, publish, status
from clipnb.embeddings import Embeddings

PARTS = 20
MEASURED = {
    "memory": "MB resident",
    "files": "open file descriptors",
    "processes": "child processes",
    "threads": "threads",
    "left": "files left behind",
}


def photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "fire_truck", "sea_lion"):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")


def one_round(model, spec: str, folder: Path, number: int) -> None:
    """What a person does in an afternoon, and the wrong things too; every file is removed afterwards."""
    with TemporaryDirectory(dir=folder) as place:
        store, data = Path(place, "store"), clipnb.load_dataset(spec)
        images = clipnb.encode_images(model, data, store, batch_size=16, workers=1)  # a process of its own reads
        classifier = clipnb.zero_shot_classifier(
            model, data.classnames, [f"a photo of a {{}}, number {number}."]
        )  # never cached
        whole, parts = (
            clipnb.evaluate(images.vectors, classifier, images.labels),
            clipnb.evaluate_store(store, classifier),
        )
        assert abs(whole.accuracy - parts.accuracy) * len(images) < 1.5 and whole.summary()  # at most one near tie
        report = clipnb.audit(data, model, store=store)
        report.to_html(Path(place, "report.html"))
        report.to_json(Path(place, "report.json"))
        next(store.glob("part-*")).write_bytes(b"broken")
        try:
            Embeddings.load(store)
        except clipnb.InputError:
            return
        raise AssertionError("a broken shard was taken for whole")


def reading(folder: Path) -> dict[str, float]:
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "memory": status("VmRSS"),
        "files": len(os.listdir("/proc/self/fd")),
        "processes": len(children),
        "threads": len(os.listdir("/proc/self/task")),
        "left": sum(1 for _ in folder.iterdir()),
    }


def growth(hours, values) -> dict:
    """Slope an hour with its 95 % interval, from the means of PARTS equal parts."""
    x, y = ([float(np.mean(part)) for part in np.array_split(v, PARTS)] for v in (hours, values))
    if min(y) == max(y):
        return {"first": y[0], "last": y[-1], "highest": max(values), "an_hour": 0.0, "an_hour_ci": [0.0, 0.0]}
    line = stats.linregress(x, y)
    half = stats.t.ppf(0.975, PARTS - 2) * line.stderr
    return {
        "first": y[0],
        "last": y[-1],
        "highest": max(values),
        "an_hour": line.slope,
        "an_hour_ci": [line.slope - half, line.slope + half],
    }


def run(minutes: float) -> dict:
    os.environ["CLIPNB_CACHE"] = ""
    with TemporaryDirectory() as photos, TemporaryDirectory() as folder:
        photographs(Path(photos, "photos"))
        model, begin, times, readings, rounds = clipnb.load_model(device="cpu"), time.monotonic(), [], [], 0
        while (spent := (time.monotonic() - begin) / 60) < minutes:
            one_round(model, f"folder:{photos}/photos", Path(folder), rounds)
            rounds += 1
            if spent > minutes / 10:
                times.append(spent / 60)
                readings.append(reading(Path(folder)))
    results = {name: growth(times, [r[name] for r in readings]) for name in MEASURED}
    return {
        "machine": machine(("numpy", "torch", "pyarrow")),
        "minutes": minutes,
        "rounds": rounds,
        "counted": len(readings),
        "growth": results,
    }


def table(results: dict) -> str:
    lines = [
        f"{results['minutes']:g} minutes, {results['rounds']} rounds in one process, the last {results['counted']} "
        f"of them counted. Each encodes "
        "80 pictures into a store, evaluates them from memory and from the store, audits them, and is refused a "
        "broken shard.",
        "",
        "| what | first part | last part | highest | slope an hour (95 % interval) |",
        "|---|---|---|---|---|",
    ]
    for name, what in MEASURED.items():
        g = results["growth"][name]
        low, high = g["an_hour_ci"]
        lines.append(
            f"| {what} | {g['first']:.1f} | {g['last']:.1f} | {g['highest']:.1f} | {g['an_hour']:+.2f} ({low:+.2f} "
            f"to {high:+.2f}) |"
        )
    return "\n".join([*lines, "", machine_text(results) + "."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    results = run(parser.parse_args().minutes)
    publish("soak", results, table(results))


if __name__ == "__main__":
    main()
