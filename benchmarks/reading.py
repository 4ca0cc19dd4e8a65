"""From a JPEG file to pixels: the transforms of `load_model` beside open_clip's own, in one run.

    python -m benchmarks.reading             # writes benchmarks/results/reading.json and .md

Both decode with Pillow; open_clip resizes with Pillow too, clipnb with torchvision's kernel for 8-bit tensors. One
thread; processor time.
"""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import open_clip
import torch
from PIL import Image

from benchmarks._harness import cell, load, machine, machine_text, publish_beside, ratio, rounds, spread
from clipnb.models import Preprocess

SIZES = ((500, 375), (2000, 1500))
IMAGES, ROUNDS = 8, 9


def jpeg(width: int, height: int, seed: int) -> bytes:
    """A gradient with the grain of a photograph."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.linspace(0, 1, height), np.linspace(0, 1, width))[:, :, None] * rng.uniform(60, 120, 3)
    file = io.BytesIO()
    Image.fromarray(np.clip(slope + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


def run() -> dict:
    """Processor time of each way, taking turns, and how far the pixels are apart in levels of 255."""
    torch.set_num_threads(1)
    before = load()
    peer = open_clip.image_transform(224, is_train=False)
    ours = Preprocess(peer.transforms)
    levels = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1) * 255
    rows = {}
    for width, height in SIZES:
        files = [jpeg(width, height, seed) for seed in range(IMAGES)]

        def read(transform, files=files):
            return [transform(Image.open(io.BytesIO(file))) for file in files]

        times = rounds({"open_clip": partial(read, peer), "ours": partial(read, ours)}, (), ROUNDS)
        apart = [((a - b).abs() * levels).max() for a, b in zip(read(peer), read(ours), strict=True)]
        rows[f"{width} x {height}"] = {
            "ms": {name: spread(1000 * cpu / IMAGES for _, cpu in values) for name, values in times.items()},
            "ratio": ratio(times, "open_clip", "ours", clock=1),
            "levels": round(float(max(apart)), 2),
        }
    return {
        "machine": machine(("torch", "torchvision", "pillow", "open_clip_torch")),
        "load_average": [before, load()],
        "rows": rows,
    }


def page(results: dict) -> str:
    """The results in Markdown."""
    lines = [
        "| JPEG | open_clip, ms an image | ours, ms an image | open_clip / ours, processor time | largest difference |",
        "|---|---|---|---|---|",
    ]
    for size, row in results["rows"].items():
        lines.append(
            f"| {size} | {cell(row['ms']['open_clip'])} | {cell(row['ms']['ours'])} | {cell(row['ratio'])} | "
            f"{row['levels']} of 255 levels |"
        )
    lines += ["", f"{machine_text(results)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    results = run()
    publish_beside("reading", results, page)
