"""Signs that a model is loaded wrongly, seen in its vectors."""

from __future__ import annotations

import warnings

import numpy as np

from clipnb.models import Model, WrappedModel

ALIKE = 1e-6  # vectors of different inputs that are nearer to each other than this (1 - cosine) differ by rounding only
FEWEST = {"texts": 2, "images": 8}  # different texts never agree, while a few images may be copies of one


def warn_if_alike(vectors: np.ndarray, model: Model | WrappedModel, what: str) -> None:
    """Warn where vectors of different texts, or of many images, are all the same, so that no score can mean anything.

    >>> warn_if_alike(np.eye(3), None, "texts")
    """
    if len(vectors) < FEWEST[what] or (vectors.astype(np.float64) @ vectors[0]).min() < 1 - ALIKE:
        return
    reason = (
        "its texts do not depend on their words"
        if what == "texts"
        else "its image vectors do not depend on the images, unless these are copies of one"
    )
    warnings.warn(
        f"The model {model.name!r} gives one vector for {len(vectors)} different {what}: {reason}; "
        "it is probably loaded wrongly (tokenizer, weights or preprocessing), and its scores mean nothing",
        stacklevel=4,
    )
