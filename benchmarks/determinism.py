"""How many predictions change with batch size, precision and device: clipnb-mini on the emoji test drawings.

python -m benchmarks.determinism        # writes benchmarks/results/determinism.json and .md
"""

from __future__ import annotations

import numpy as np
import torch

import clipnb
from benchmarks._harness import machine, machine_text, publish

IMAGES = 471  # every fourth of the 1,884 test drawings


def predictions(model, data, batch_size: int):
    images = clipnb.encode_images(model, data, batch_size=batch_size, workers=0)
    result = clipnb.evaluate(images.vectors, clipnb.zero_shot_classifier(model, data.classnames), images.labels)
    return images.vectors, result.predictions, result.accuracy


def run() -> dict:
    data = clipnb.load_dataset("emoji")
    data = data.take(np.arange(0, len(data), 4)[:IMAGES])
    model = clipnb.load_model(device="cpu", precision="fp32")
    settings = [
        ("batch of 16, the default on a CPU, again", model, 16),
        ("batch of 1", model, 1),
        ("batch of 64", model, 64),
    ]
    settings += [
        (f"precision {precision}", clipnb.load_model(device="cpu", precision=precision), 16) for precision in ("bf16",)
    ]
    if torch.cuda.is_available():
        settings += [
            (f"device cuda, {precision}", clipnb.load_model(device="cuda", precision=precision), 256)
            for precision in ("fp32", "bf16", "fp16")
        ]
    vectors, predicted, accuracy = predictions(model, data, 16)
    rows = []
    for name, other, batch_size in settings:
        v, p, a = predictions(other, data, batch_size)
        rows.append(
            {
                "setting": name,
                "changed": int((p != predicted).sum()),
                "accuracy": a,
                "largest": float(np.abs(v - vectors).max()),
            }
        )
    return {
        "machine": machine(("numpy", "torch"))
        | ({"GPU": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "images": len(data),
        "accuracy": accuracy,
        "rows": rows,
        "cuda": torch.cuda.is_available(),
    }


def table(results: dict) -> str:
    lines = [
        f"clipnb-mini on {results['images']} emoji drawings, compared with fp32 on a CPU in batches of 16 "
        f"({results['accuracy']:.1%} right). "
        "The same command run again on the same machine writes the same bytes: stores, reports (except for the "
        "time stamp) and figures (`test_promises.py`, `test_report.py`).",
        "",
        "| setting | predictions that change | right | largest change of a vector's entry |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['setting']} | {row['changed']} of {results['images']} | {row['accuracy']:.1%} | {row['largest']:.1e} |"
        for row in results["rows"]
    ]
    note = (
        ""
        if results["cuda"]
        else " This machine has no GPU: the device was not compared; run `python -m benchmarks.determinism` where "
        "there is one."
    )
    return "\n".join([*lines, "", machine_text(results) + "." + note]) + "\n"


if __name__ == "__main__":
    results = run()
    publish("determinism", results, table(results))
