"""Hugging Face model cards: the scores of a run as `model-index` metadata, with a table for people below."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipnb._checks import require_attribute
from clipnb._files import new_file, write_atomically
from clipnb.errors import InputError

# Scores that a card names, in this order, and what people call them.
METRICS = {
    "accuracy": "Accuracy",
    "recall_at_5": "Recall@5",
    "mean_per_class_accuracy": "Mean per-class accuracy",
    "worst_10_split_half": "Accuracy of the 10 worst classes, chosen on one half of the images",
    "classes_at_zero": "Classes at 0 %",
}


def model_card(summary: Mapping[str, Any]) -> str:
    """Return a model card: `model-index` metadata as Hugging Face defines it, and a table of the same scores.

    Args:
        summary: of a `Report`, or what `clipnb evaluate --json` writes; has the accuracy.

    Raises:
        InputError: there is no accuracy, because no image has a label.

    >>> card = model_card({"model": "ViT-B-32", "dataset": "emoji", "n": 4, "accuracy": 0.5, "accuracy_ci": [0.1, 0.9]})
    >>> card.splitlines()[:4]
    ['---', 'model-index:', '- name: "ViT-B-32"', '  results:']
    """
    require_attribute(summary, "summary", "get", "a report")
    if summary.get("accuracy") is None:
        raise InputError("Expected `summary` with an accuracy, got none: a model card needs scores on labelled images")
    rows = [
        (key, name, summary[key], summary.get(f"{key}_ci"))
        for key, name in METRICS.items()
        if summary.get(key) is not None
    ]
    name = " ".join(str(summary[key]) for key in ("model", "pretrained") if summary.get(key)) or str(
        summary.get("predictions")
    )
    data = str(summary.get("dataset"))
    lines = [
        "---",
        "model-index:",
        f"- name: {_text(name)}",
        "  results:",
        "  - task:",
        '      type: "zero-shot-image-classification"',
        '      name: "Zero-shot image classification"',
        "    dataset:",
        f"      type: {_text(data.partition(':')[0])}",
        f"      name: {_text(data)}",
        "    metrics:",
    ]
    for key, shown, value, interval in rows:
        lines += [f"    - type: {_text(key)}", f"      name: {_text(shown)}", f"      value: {value!r}"]
        if interval:
            lines += ["      args:", f"        interval_95: [{float(interval[0])!r}, {float(interval[1])!r}]"]
    images = summary.get("n")
    lines += ["---", "", f"# {_cell(name)}", "", f"Scores on {_cell(data)} ({images} labelled images), by clipnb.", ""]
    lines += ["| score | value | 95 % interval |", "|---|---|---|"]
    for key, shown, value, interval in rows:
        number = "{:.0f}" if key == "classes_at_zero" else "{:.2%}"
        between = " to ".join(number.format(end) for end in interval) if interval else ""
        lines.append(f"| {shown} | {number.format(value)} | {between} |")
    return "\n".join([*lines, ""])


def write_model_card(path: str | Path, summary: Mapping[str, Any]) -> None:
    """Write `model_card` to a file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_model_card(Path(folder, "README.md"), {"model": "mine", "dataset": "emoji", "n": 4, "accuracy": 0.5})
    ...     Path(folder, "README.md").read_text().count("value: 0.5")
    1
    """
    write_atomically(new_file(path, "path"), model_card(summary).encode())


def _text(text: str) -> str:
    """Return a text as YAML: JSON's strings are YAML's."""
    return json.dumps(text, ensure_ascii=True)


def _cell(text: str) -> str:
    """Return a text that cannot end the line, the cell of a table or begin a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
