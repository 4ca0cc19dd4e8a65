"""Time and memory of `clipnb reproduce` at full size, without ImageNet and without OpenAI's weights.

    python -m benchmarks.reproduce              # writes benchmarks/results/reproduce.json and .md
    python -m benchmarks.reproduce --folder D   # keeps images, weights and vectors there, to resume an interrupted run

Generated JPEGs of 1,000 synsets go through ViT-B-16 with random weights, so every score is at chance: only time, memory
and completeness are measured. Then 247 prompt sets are scored on 50,000 images, in synthetic vectors.
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
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

import clipnb
from benchmarks._harness import load, machine, machine_text, own_process, publish_beside, reset_peak, status
from benchmarks.evaluate import CLASSES, IMAGES, PROMPTS, inputs
from clipnb.datasets import imagenet_classnames, synset_names, synsets

MODEL = "ViT-B-16"


def pictures(folder: Path, per_class: int) -> None:
    """A JPEG of 320 x 240 for each synset and number: tinted noise of its class's colour, named as ImageNet names its
    own."""
    for c, synset in enumerate(synsets()):
        tint = np.random.default_rng(c).uniform(40, 215, 3)
        for i in range(per_class):
            number = c * per_class + i + 1
            path = folder / synset / f"ILSVRC2012_val_{number:08}_{synset}.JPEG"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng([c, i]).normal(tint, 30, (240, 320, 3))
                Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(path, quality=85)


def weights(path: Path) -> None:
    """Random weights of MODEL as a checkpoint file."""
    torch.manual_seed(0)
    save_file(open_clip.create_model(MODEL).state_dict(), path)


def texts(path: Path) -> None:
    """For each classname what WordNet calls it: a file of descriptions."""
    names = zip(imagenet_classnames(), synset_names())
    path.write_text(json.dumps({name: [f"{name}, also called {other}." for other in others] for name, others in names}))


def command(folder: Path, per_class: int) -> dict:
    """The results of the whole command on generated images."""
    for path, make in ((folder / "random.safetensors", weights), (folder / "texts.json", texts)):
        if not path.exists():
            make(path)
    pictures(folder / "val", per_class)
    begin = time.perf_counter()
    subprocess.run(
        [
            Path(sys.executable).with_name("clipnb"),
            "reproduce",
            "--imagenet",
            folder,
            "--partial",
            "--model",
            MODEL,
            "--pretrained",
            folder / "random.safetensors",
            "--like",
            "openai",
            "--descriptions",
            folder / "texts.json",
            "--store",
            folder / "store",
            "--json",
            folder / "results.json",
        ],
        check=True,
        env={**os.environ, "CLIPNB_CACHE": str(folder / "cache")},
    )
    return json.loads((folder / "results.json").read_text()) | {"seconds": round(time.perf_counter() - begin, 1)}


def many_prompts() -> dict:
    """Seconds and peak extra MB of 247 prompt sets x 1,000 classes x 50,000 images in this process."""
    vectors, bank, labels = inputs(IMAGES, PROMPTS)
    clipnb.evaluate_prompts(vectors[:64], bank[:1], labels[:64])  # libraries are loaded and warm
    before, begin = reset_peak(), time.perf_counter()
    results = clipnb.evaluate_prompts(vectors, bank, labels)
    return {
        "seconds": round(time.perf_counter() - begin, 1),
        "peak_mb": round(status("VmHWM") - before),
        "accuracy": [round(float(results.accuracy.min()), 4), round(float(results.accuracy.max()), 4)],
    }


def table(results: dict) -> str:
    run, prompts = results["run"], results["many_prompts"]
    spellings = "; ".join(f"{name}: {len(rows)} rows ({', '.join(rows)})" for name, rows in run["rows"].items())
    lines = [
        f"`clipnb reproduce` on {run['images']:,} generated JPEG files of 1,000 synsets, {MODEL} with random "
        f"weights, {run['texts']:,} different "
        f"prompts: {run['seconds']:.0f} s in all.",
        "",
        "| step | seconds (wall) | seconds (processor) | peak MB of the process |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {step['step']} | {step['seconds']} | {step['cpu_seconds']} | {step['peak_mb']} |" for step in run["steps"]
    ]
    lines += [
        "",
        f"The table, {spellings}. Not run: {', '.join(run['not_run']) or 'nothing'}.",
        "",
        f"{PROMPTS} prompt sets x {CLASSES:,} classes x {IMAGES:,} images (synthetic vectors, 512 wide): "
        f"{prompts['seconds']} s, "
        f"{prompts['peak_mb']} MB beside the inputs at the peak.",
        "",
        f"{machine_text(results)}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where pictures, weights and vectors are kept (default: nowhere)")
    parser.add_argument(
        "--many-prompts", action="store_true", help="print seconds and peak extra MB of the many prompts"
    )
    options = parser.parse_args()
    if options.many_prompts:
        print(json.dumps(many_prompts()))
        return
    before = load()
    prompts = json.loads(own_process("reproduce", "--many-prompts"))
    with TemporaryDirectory() as temporary:
        run = command(options.folder or Path(temporary), options.per_class)
    names = dict.fromkeys(name for spelling in run["classnames"].values() for name in spelling)
    templates = dict.fromkeys([*run["templates"], *run["pool"]])
    kept = {
        "images": run["images"],
        "texts": len({template.replace("{}", name) for template in templates for name in names}),
        "seconds": run["seconds"],
        "steps": run["steps"],
        "rows": {name: [row["method"] for row in rows] for name, rows in run["tables"].items()},
        "not_run": run["not_run"],
    }
    results = {
        "machine": machine(("numpy", "torch", "open_clip_torch")),
        "load_average": [before, load()],
        "run": kept,
        "many_prompts": prompts,
    }
    publish_beside("reproduce", results, table)


if __name__ == "__main__":
    main()
