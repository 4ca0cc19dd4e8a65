"""Whether a correction of class bias helps on independent halves of the audited images."""

from __future__ import annotations

import numpy as np

from clipnb import paired
from clipnb._format import percent
from clipnb.evaluation import EvaluationResult
from clipnb.paper import corrections

TRIED = ("nnn", "frolic", "sinkhorn")


def correction_advice(vectors: np.ndarray, base: EvaluationResult, logit_scale: float, k: int) -> str | None:
    """Recommend the best correction that is better beyond chance where each half is corrected by the other half.

    Args:
        vectors: (N, D) vectors of the audited images.
        base: their result without a correction.
        logit_scale: factor of the cosines in the model's softmax.
        k: how many worst classes.

    Returns:
        A sentence that names the gain and the assumption; None if no correction is better, or without labels.
    """
    if base.n < 2 or len(vectors) < 2:
        return None
    better = {}
    for name in TRIED:
        result = corrections.corrected(
            name + corrections.HALF, vectors, base.classifier, base.labels, logit_scale=logit_scale
        )
        differences = paired.paired_differences(result, base, k, comparisons=len(TRIED))
        if differences["accuracy"]["verdict"] == "better":
            better[name] = differences
    if not better:
        return None
    best = max(better, key=lambda name: better[name]["accuracy"]["a"])
    accuracy, zero = better[best]["accuracy"], better[best]["classes_at_zero"]
    assumption = next(row.assumption for row in corrections.ROWS if row.name == best)
    return (
        f"Correct the class bias with clipnb.ensemble.class_bias(..., method={best!r}): {percent(accuracy['a'])} right "
        f"instead of {percent(accuracy['b'])}, and {zero['a']} classes at 0 % instead of {zero['b']}, where each half "
        f"of the images is corrected by the other half. This assumes that {assumption}, and that later images have "
        "the same classes as these."
    )
