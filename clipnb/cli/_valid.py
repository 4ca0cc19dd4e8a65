"""`--valid-labels`: several right answers in `clipnb evaluate`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from clipnb.intervals import Score

valid_labels_option = click.option(
    "--valid-labels",
    "valid_file",
    type=click.Path(path_type=Path),
    help="File with all valid labels of each image: ImageNet ReaL's JSON, a JSON of lists by image id, or a table. "
    "Adds the accuracy that counts any of them as right.",
)


def valid_label_summary(file: Path, data, images, result, shown: int) -> dict:
    """What `--valid-labels` adds to the results of `evaluate`."""
    from clipnb.datasets import load_valid_labels
    from clipnb.multilabel import score_valid_labels

    valid = dict(zip(data.ids, load_valid_labels(file, data)))
    found = score_valid_labels(result.predictions, [valid[i] for i in images.ids], result.labels, result.num_classes)
    single, several = found.per_class_single, found.per_class_accuracy
    order = np.argsort(-np.nan_to_num(several - single, nan=-1.0), kind="stable")
    summary: dict = {"valid_label_n": found.n, "valid_label_left_out": found.left_out}
    scores = {
        "valid_label_accuracy": found.accuracy,
        "valid_label_gain": found.gain,
        "valid_label_mean_per_class_accuracy": found.mean_per_class_accuracy,
    }
    for name, score in scores.items():
        summary |= {name: _number(score.value), f"{name}_ci": _ends(score)}
    summary["valid_label_classes"] = [
        {"classname": data.classnames[c], "accuracy": float(single[c]), "with_valid_labels": float(several[c])}
        for c in order[:shown]
        if several[c] > single[c]
    ]
    return summary


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _ends(score: Score) -> tuple[float, float] | None:
    return (score.low, score.high) if score.has_interval else None
