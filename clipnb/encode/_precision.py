"""How many predictions a half precision changes, measured against fp32 on a sample of the images."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipnb.datasets import LabeledImages
from clipnb.encode._readers import Pixels
from clipnb.encode._texts import encode_texts
from clipnb.models import Model, WrappedModel
from clipnb.similarity import parallel_map

PRECISION_SAMPLE = 64  # images on which a half precision is compared with fp32


def check_precision(model: Model | WrappedModel, data: LabeledImages) -> dict[str, Any]:
    """How a half precision differs from fp32 on a sample of the images.

    Returns:
        dict with "changed_predictions", a fraction in [0, 1] or None where it cannot be measured, and "images".
    """
    if not data.classnames or model.exact is None:
        return {"changed_predictions": None, "images": 0}
    changed, images = changed_predictions(model.exact(), model, data)
    return {"changed_predictions": changed if images else None, "images": images}


def changed_predictions(model: Model, other: Model, data: LabeledImages) -> tuple[float, int]:
    """Estimated share of zero-shot predictions (bare classnames) that change from one precision to another.

    Few images decide few predictions, so every checked image is given the errors of all of them in turn: with n images
    n * n trials, of which n are their own.

    Returns:
        (share in [0, 1], NaN without readable images; number of images).

    >>> from clipnb import load_dataset, load_model
    >>> model = load_model()
    >>> changed_predictions(model, model, load_dataset("emoji").take(4))
    (0.0, 4)
    """
    sample = np.unique(np.linspace(0, len(data) - 1, PRECISION_SAMPLE).astype(int)).tolist()
    classifier = encode_texts(model, data.classnames)
    reader = Pixels(data, model)
    batches = [sample[i : i + 16] for i in range(0, len(sample), 16)]
    parts: list[np.ndarray] = []
    part_shifts: list[np.ndarray] = []
    for _, pixels, _ in parallel_map(lambda batch: reader.collate([reader[i] for i in batch]), batches):
        if pixels is not None:
            exact = model.encode_pixels(pixels)
            parts.append(exact @ classifier.T)
            part_shifts.append((other.encode_pixels(pixels) - exact) @ classifier.T)
    if not parts:
        return float("nan"), 0
    scores = np.concatenate(parts)
    shifts = np.concatenate(part_shifts)
    predictions = scores.argmax(axis=1)
    return float(np.mean([(scores + shift).argmax(axis=1) != predictions for shift in shifts])), len(scores)
