"""Print the README's result table, or write it into the README with --write."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import clipnb
from clipnb._format import percent

README = Path(__file__).parents[2] / "README.md"
ROWS = {
    "accuracy": "accuracy",
    "recall_at_5": "Recall@5",
    "mean_per_class_accuracy": "mean per-class accuracy",
    "worst_10": "accuracy of the ten worst, naive",
    "worst_10_truly_worst": "accuracy of the truly worst ten",
    "worst_10_split_half": "accuracy of ten classes chosen on half of the images",
    "harmonic_mean": "harmonic mean of the classes",
}


def table() -> str:
    """The Markdown table of the embedded model on the embedded test split."""
    model, data = clipnb.load_model(), clipnb.load_dataset("icons")
    images = clipnb.encode_images(model, data)
    summary = clipnb.evaluate(
        images.vectors, clipnb.zero_shot_classifier(model, data.classnames), images.labels
    ).summary()
    lines = ["| score | value | 95 % interval |", "|---|---|---|"]
    for key, name in ROWS.items():
        value, ends = summary[key], summary[f"{key}_ci"]
        interval = " to ".join(map(percent, ends)) if ends else ""
        lines.append(f"| {name} | {percent(value, none='(too few images)')} | {interval} |")
    lines += [
        f"| **classes at 0 %** | **{summary['classes_at_zero']} of {summary['classes']}** | |",
        f"| chance | {percent(summary['chance'], 2)} | |",
        f"| images | {summary['n']} | |",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--write" in sys.argv:
        block = f"<!-- results -->\n{table()}\n<!-- /results -->"
        text = README.read_text("utf-8")
        README.write_text(re.sub(r"<!-- results -->.*?<!-- /results -->", lambda _: block, text, flags=re.S), "utf-8")
    else:
        print(table())
