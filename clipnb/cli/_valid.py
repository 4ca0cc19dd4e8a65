"""`--valid-labels`: several right answers in `clipnb evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from clipnb.cli._run import Run

if TYPE_CHECKING:
    from clipnb.evaluation import EvaluationResult

valid_labels_option = click.option(
    "--valid-labels",
    "valid_file",
    type=click.Path(path_type=Path),
    help="File with all valid labels of each image: ImageNet ReaL's JSON, a JSON of lists by image id, or a table. "
    "Adds the accuracy that counts any of them as right.",
)


def valid_label_summary(file: Path, run: Run, result: EvaluationResult, shown: int) -> dict[str, Any]:
    """What `--valid-labels` adds to the results of `evaluate`."""
    from clipnb.datasets import load_valid_labels
    from clipnb.multilabel import score_valid_labels

    data, images = run.data, run.images
    valid = dict(zip(data.ids, load_valid_labels(file, data)))
    found = score_valid_labels(result.predictions, [valid[i] for i in images.ids], result.labels, result.num_classes)
    single, several = found.per_class_single, found.per_class_accuracy
    order = np.argsort(-np.nan_to_num(several - single, nan=-1.0), kind="stable")
    summary: dict[str, Any] = {"valid_label_n": found.n, "valid_label_left_out": found.left_out}
    summary |= {
        "valid_label_accuracy": found.accuracy,
        "valid_label_gain": found.gain,
        "valid_label_mean_per_class_accuracy": found.mean_per_class_accuracy,
    }
    summary["valid_label_classes"] = [
        {"classname": data.classnames[c], "accuracy": float(single[c]), "with_valid_labels": float(several[c])}
        for c in order[:shown]
        if several[c] > single[c]
    ]
    return summary
