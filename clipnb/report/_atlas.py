"""Every class of a report as a square that opens, without a script."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from clipnb._format import percent, score_text
from clipnb.margin import worst_first
from clipnb.report._page import MAX_ROWS, short

ANSWERS = 3  # most frequent wrong answers of a class


def class_atlas(
    classes: pd.DataFrame, images: pd.DataFrame, flags: int, thumbnails: dict[str, list]
) -> list[dict[str, Any]]:
    """The squares of the first `MAX_ROWS` classes that have images; without labels, of all classes.

    Args:
        classes: the table of all classes, in the order of the squares.
        images: the table of images.
        flags: number of classes to flag, those with the lowest margins without labels.
        thumbnails: images of a class, by its index as text.
    """
    labelled = "accuracy" in classes
    # A column that was None throughout comes back from JSON as objects.
    classes = classes.astype({"margin_no_labels": float})
    shown = classes.dropna(subset=["accuracy"]) if labelled else classes
    margins = shown["margin_no_labels"].to_numpy()
    flagged = set(shown["class"].to_numpy()[worst_first(margins)[:flags]])
    highest = float(np.nan_to_num(margins).max(initial=0))
    answers = _wrong_answers(images) if labelled else {}
    squares = []
    for row in shown.head(MAX_ROWS).to_dict("records"):
        never = np.isnan(row["margin_no_labels"])
        margin_text = "never predicted" if never else f"margin without labels {row['margin_no_labels']:.3f}"
        if labelled:
            share = row["accuracy"]
            words = f"{percent(share)} right"
            score = score_text(share, row["accuracy_low"], row["accuracy_high"], ".1%")
            taken_for = answers.get(row["class"]) or "none"
            text = (
                f"{score} right of {row['images']} images; margin {row['margin']:.3f}; {margin_text}; "
                f"predicted {row['predicted']} times. Most frequent wrong answers: {taken_for}."
            )
        else:
            share = 0.0 if never or not highest else row["margin_no_labels"] / highest
            words = margin_text
            text = f"{margin_text}; predicted {row['predicted']} times."
        squares.append(
            {
                "name": short(row["classname"]),
                "words": words + (", flagged" if row["class"] in flagged else ""),
                "text": text,
                "height": f"{100 * share:.1f}",
                "empty": share == 0,
                "flagged": row["class"] in flagged,
                "thumbnails": thumbnails.get(str(row["class"]), []),
            }
        )
    return squares


def _wrong_answers(images: pd.DataFrame) -> dict[int, str]:
    """Class index -> its most frequent wrong answers, with counts."""
    wrong = images[(images["label_class"] >= 0) & (images["label_class"] != images["prediction_class"])]
    answers = {}
    for c in wrong["label_class"].unique():
        counts = wrong.loc[wrong["label_class"] == c, "prediction"].value_counts().head(ANSWERS)
        answers[int(c)] = ", ".join(f"{short(name, 40)} ({count})" for name, count in counts.items())
    return answers
