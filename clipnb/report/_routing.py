"""What to send to a person: classes that are never right, and images, so that the other answers are right enough."""

from __future__ import annotations

import numpy as np

from clipnb.datasets import every_second
from clipnb.evaluation import EvaluationResult
from clipnb.intervals import Score
from clipnb.reject import confirm_on_halves

WANTED = 0.95  # share of right answers among those that the model keeps
NAME = f"{100 * WANTED:.0f}"
MAX_ROUTED = 10**6  # images from which thresholds are chosen; the share is then known to 0.1 points
FEWEST = 6  # images: if none of them is right, the class is right on less than half of all (0 of 5 leaves up to 52 %)
NONE_LEFT = 0.99  # a share of images sent to a person from which hardly any answer is left


def route(confidence: np.ndarray, predictions: np.ndarray, labels: np.ndarray) -> dict:
    """The entries of an audit's summary: share of images to send to a person, and how right the others are.

    Each half of every class is answered by the threshold of the confidence that the other half chooses. Empty where
    there are too few labelled images for two halves. Of more than a million images, every k-th is taken.
    """
    step = -(-len(labels) // MAX_ROUTED)
    confidence, predictions, labels = confidence[::step], predictions[::step], labels[::step]
    known = labels >= 0
    half = every_second(labels[known])
    if not half.any():
        return {}
    found = confirm_on_halves(confidence[known], (predictions == labels)[known], half, WANTED)
    kept = found.precision if found.answered else None
    return {
        f"to_a_person_for_{NAME}": found.rejected.value,
        f"to_a_person_for_{NAME}_ci": (found.rejected.low, found.rejected.high),
        f"precision_of_the_rest_{NAME}": None if kept is None else kept.value,
        f"precision_of_the_rest_{NAME}_ci": None if kept is None else (kept.low, kept.high),
    }


def routing_advice(summary: dict) -> list[str]:
    """A sentence about them, where it helps."""
    share, kept = (summary.get(f"{name}_{NAME}") for name in ("to_a_person_for", "precision_of_the_rest"))
    if not share:
        return []
    if kept is None or share > NONE_LEFT:
        return [f"No level of the model's confidence keeps {NAME} % of its answers right: all need a second look."]
    sent = Score(share, *summary[f"to_a_person_for_{NAME}_ci"])
    right = Score(kept, *summary[f"precision_of_the_rest_{NAME}_ci"])
    return [
        f"Send the {sent:.0%} of the images that the model is least sure of to a person if its answers are to be right "
        f"on {NAME} %: of those that are left, {right:.1%} were."
    ]


def zero_advice(result: EvaluationResult, who: str) -> list[str]:
    """A sentence about the classes that are never right on enough images to say so; the others may be unlucky."""
    right, images = result.correct_and_total
    count = int(((right == 0) & (images >= FEWEST)).sum())
    if not count:
        return []
    which, them = ("the class", "it") if count == 1 else (f"the {count} classes", "them")
    return [
        f"Do not rely on the {who} for {which} with {FEWEST} or more images of which none is right; route {them} to a "
        "person."
    ]
