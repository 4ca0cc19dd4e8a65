"""How much memory and time large inputs take, each in a process of its own: a million vectors, 10,000 classes,
100,000 prompts.

    python -m benchmarks.load                    # writes benchmarks/results/load.json and .md
    python -m benchmarks.load million classes    # these only; the others stay as they were measured

A run takes some minutes and 2 GB of disk for the store.

Memory is the highest resident set of the whole process, libraries and all. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks._harness import RESULTS, machine, machine_text, publish, status
from clipnb.embeddings import Embeddings, StoreWriter
from clipnb.similarity import unit_norm

LIMIT_MB = 1500  # of the first
LOADS = {
    "million": "1,000,000 vectors (D = 512) x 1,000 classes, from a store: `evaluate_store` and `summary`",
    "classes": "20,000 vectors (D = 512) x 10,000 classes: `evaluate` and `summary`",
    "prompts": "100,000 different prompts by clipnb-mini: `encode_texts`, kept in the cache",
    "again": "the same 100,000 prompts, read from the cache",
}


def rows(rng, count: int, width: int = 512) -> np.ndarray:
    return unit_norm(rng.standard_normal((count, width), dtype=np.float32))


def write_million(folder: Path) -> None:
    rng, size = np.random.default_rng(0), 16_384
    writer = StoreWriter(folder, {"n": 1_000_000}, [f"class {c}" for c in range(1000)], size)
    for start in range(0, 1_000_000, size):
        count = min(size, 1_000_000 - start)
        writer.write(
            start,
            Embeddings(rows(rng, count), rng.integers(0, 1000, count), [str(start + i) for i in range(count)], []),
        )


def million(folder: Path) -> dict:
    import clipnb

    results = clipnb.evaluate_store(folder / "store", rows(np.random.default_rng(1), 1000))
    return {"n": results.n, "accuracy": results.summary()["accuracy"]}


def classes(folder: Path) -> dict:
    import clipnb

    rng = np.random.default_rng(0)
    results = clipnb.evaluate(rows(rng, 20_000), rows(rng, 10_000), rng.integers(0, 10_000, 20_000))
    return {"n": results.n, "accuracy": results.summary()["accuracy"]}


def prompts(folder: Path) -> dict:
    import clipnb

    os.environ["CLIPNB_CACHE"] = str(folder)
    return {
        "n": len(
            clipnb.encode_texts(
                clipnb.load_model(device="cpu"), [f"a drawing of thing number {i}." for i in range(100_000)]
            )
        )
    }


again = prompts


def libraries(folder: Path) -> dict:
    import clipnb

    clipnb.encode_texts(clipnb.load_model(device="cpu"), ["a dog"])
    return {}


def measure(name: str, folder: Path) -> dict:
    load, begin = os.getloadavg()[0], time.perf_counter()
    results = globals()[name](folder)
    return results | {
        "seconds": round(time.perf_counter() - begin, 1),
        "peak_mb": round(status("VmHWM")),
        "load_average": round(load, 1),
    }


def table(results: dict) -> str:
    lines = ["| load | seconds | other work then (load average) | peak MB of the process |", "|---|---|---|---|"]
    for name, what in LOADS.items():
        if name in results["loads"]:
            lines.append(
                f"| {what} | "
                f"{' | '.join(str(results['loads'][name][key]) for key in ('seconds', 'load_average', 'peak_mb'))} |"
            )
    return (
        "\n".join(
            [
                *lines,
                "",
                f"The limit of the first is {LIMIT_MB} MB; libraries, clipnb-mini and one text alone take "
                f"{results['libraries_mb']} MB. " + machine_text(results) + ".",
            ]
        )
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "loads", nargs="*", choices=[*LOADS, []], help="what to measure (default: all); again needs prompts"
    )
    parser.add_argument("--one", nargs=2, metavar=("LOAD", "FOLDER"), help="measure one and print it")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Path(options.one[1]))))
        return
    chosen, before = options.loads or list(LOADS), RESULTS / "load.json"
    loads = json.loads(before.read_text())["loads"] if before.is_file() else {}
    with TemporaryDirectory() as folder:

        def one(name: str) -> dict:
            run = subprocess.run(
                [sys.executable, __file__, "--one", name, folder], check=True, capture_output=True, text=True
            )
            print(name, run.stdout, file=sys.stderr, flush=True)
            return json.loads(run.stdout.splitlines()[-1])

        if "million" in chosen:
            write_million(Path(folder, "store"))
        loads |= {name: one(name) for name in LOADS if name in chosen}
        results = {
            "machine": machine(("numpy", "torch", "pyarrow")),
            "libraries_mb": one("libraries")["peak_mb"],
            "loads": loads,
        }
    publish("load", results, table(results))
    assert loads["million"]["peak_mb"] <= LIMIT_MB


if __name__ == "__main__":
    main()
