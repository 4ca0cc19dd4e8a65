"""Slices inside the classes of an audit: its table, the section of its page, and the advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from clipnb._format import percent, score_text
from clipnb.evaluation import EvaluationResult
from clipnb.report._page import cell, plain_text, short
from clipnb.slices import Slice, SliceSearch

COLUMNS = (
    "class classname kind rival images accuracy accuracy_low accuracy_high rest_images rest_accuracy rest_low "
    "rest_high p word word_cosine sentence examples"
).split()
MAX_SHOWN = 24  # slices on the page; JSON and CSV have all of them
EXAMPLES = 4  # wrong images of each slice that are named and shown


def slice_table(
    search: SliceSearch,
    result: EvaluationResult,
    classnames: Sequence[str],
    ids_of: Callable[[np.ndarray], Sequence[str]],
    words: Sequence[str] = (),
) -> pd.DataFrame:
    """The slices as rows."""
    rows = []
    for part in search.slices:
        name = classnames[part.label]
        word = words[part.word] if part.word >= 0 else None
        images = len(part.members)
        others = int((result.labels == part.label).sum()) - images
        if part.kind == "rival":
            rival = classnames[part.rival]
            group = f"For {images} of its {images + others} images the strongest rival is {rival!r}"
        else:
            like = "" if word is None else f" (nearest word: {word!r})"
            group = f"{images} of its {images + others} images are alike{like}"
        rows.append(
            {
                "class": part.label,
                "classname": name,
                "kind": part.kind,
                "rival": classnames[part.rival] if part.rival >= 0 else None,
                "images": images,
                "accuracy": part.accuracy.value,
                "accuracy_low": part.accuracy.low,
                "accuracy_high": part.accuracy.high,
                "rest_images": others,
                "rest_accuracy": part.rest.value,
                "rest_low": part.rest.low,
                "rest_high": part.rest.high,
                "p": part.p,
                "word": word,
                "word_cosine": part.word_cosine,
                "sentence": f"{group}: {percent(part.accuracy.value, 0)} of them are right, "
                f"{percent(part.rest.value, 0)} of the other {others}.",
                "examples": [plain_text(text) for text in ids_of(examples_of(part, result))],
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def examples_of(part: Slice, result: EvaluationResult) -> np.ndarray:
    """Rows of some images of a slice that got a wrong answer, the lowest margins first."""
    wrong = part.members[result.predictions[part.members] != part.label]
    return wrong[np.argsort(result.margins[wrong], kind="stable")][:EXAMPLES]


def slice_summary(search: SliceSearch) -> dict[str, int]:
    """The entries of the summary: where slices were looked for."""
    return {
        "slices": len(search.slices),
        "slice_groups_tried": search.tried,
        "slice_classes_searched": len(search.classes),
    }


def slice_section(slices: pd.DataFrame, summary: dict, thumbnails: dict[str, list]) -> dict:
    """The section of the page; without a search (a report of an older version), it has no text."""
    if "slice_groups_tried" not in summary:
        return {"title": "Inside the classes"}
    text = (
        "Groups of images that are right less often than the rest of their class: images with one strongest rival and, "
        f"where there are image vectors, clusters. {summary['slice_groups_tried']} groups were tried in the "
        f"{summary['slice_classes_searched']} classes with enough images. Shown are those on which two halves of the "
        "images agree, with a correction for all groups; the intervals hold for all of them at once."
    )
    cards = [
        {
            "name": short(row["classname"]),
            "verdict": "strongest rival" if row["kind"] == "rival" else "cluster",
            "text": short(row["sentence"], 400),
            "numbers": [
                ("accuracy", _with_ends(row, "accuracy", "accuracy")),
                ("of the rest", _with_ends(row, "rest_accuracy", "rest")),
                ("p", cell("p", row["p"]) | {"shown": f"{row['p']:.1g}"}),
            ],
            "thumbnails": thumbnails.get(f"slice {i}", []),
        }
        for i, row in enumerate(slices.head(MAX_SHOWN).to_dict("records"))
    ]
    if not cards:
        text += " No group passes."
    elif len(slices) > len(cards):
        text += f" {len(cards)} of {len(slices)} groups are shown; the JSON and CSV files have all of them."
    return {"title": "Inside the classes", "text": text, "cards": cards, "always": True}


def _with_ends(row: dict, value: str, ends: str) -> dict:
    return cell("accuracy", row[value]) | {
        "shown": score_text(row[value], row[f"{ends}_low"], row[f"{ends}_high"], ".0%")
    }


def slice_advice(slices: pd.DataFrame) -> list[str]:
    """What to do about the slice that costs the most right answers."""
    if slices.empty:
        return []
    row = slices.iloc[0]
    more = f" ({len(slices) - 1} more below)" if len(slices) > 1 else ""
    return [
        f"Look inside the class {short(row['classname'], 40)!r}{more}. {short(row['sentence'], 300)} "
        "Give such images a class of their own, another name or more examples."
    ]
