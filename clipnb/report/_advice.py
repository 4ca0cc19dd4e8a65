"""What to do first, derived from the numbers of an audit."""

from __future__ import annotations

import pandas as pd

from clipnb.evaluation import EvaluationResult
from clipnb.report._page import first_names, short
from clipnb.report._routing import routing_advice


def give_advice(
    summary: dict, left_out: str | None, findings, bad: pd.DataFrame, wordings: pd.DataFrame, result: EvaluationResult
) -> list[str]:
    """What to do first, in plain words; each sentence stands on a number of the report."""
    steps = []
    if summary["unreadable"]:
        steps.append(
            f"Replace or remove the {summary['unreadable']} {'file' if summary['unreadable'] == 1 else 'files'} that could not be read: no score counts on them."
        )
    if left_out:
        steps.append(f"See whether something is missing: {short(left_out, 350)}.")
    for what, group in pd.DataFrame([(f.what, f) for f in findings], columns=["what", "finding"]).groupby(
        "what", sort=False
    )["finding"]:
        more = f" ({len(group) - 1} more below)" if len(group) > 1 else ""
        steps.append(f"Mend the names: {short(str(group.iloc[0]), 250)}{more}.")
    if not result.n:
        steps.append(
            f"Look at the images of {first_names(bad)}, and label some thirty images of each: only labels tell how often the model is wrong."
        )
        if summary["never_predicted"]:
            steps.append(
                f"If some of the {summary['never_predicted']} classes that were never predicted are in these images, the model misses "
                "them altogether: check one you know to be there."
            )
        return steps
    guessing = summary["accuracy_ci"][0] <= summary["chance"]
    if guessing:
        steps.append(
            "On these images the model is not better than guessing beyond chance: check that the names say what the images show, or take "
            "another model."
        )
    better = wordings[wordings["accuracy_verdict"] == "better"].sort_values("accuracy", ascending=False, kind="stable")
    if len(better):
        best = better.iloc[0]
        steps.append(
            f"Change the wording to '{best['wording']}': {best['accuracy']:.1%} right instead of {summary['accuracy']:.1%}, and "
            f"{best['classes_at_zero']} classes at 0 % instead of {summary['classes_at_zero']}."
        )
    if summary["classes_at_zero"]:
        steps.append(
            f"Do not rely on the model for the {summary['classes_at_zero']} classes of which no image was recognised; route them to a "
            "person."
        )
    steps += routing_advice(summary)
    for verdict, what in (
        ("name collision", "Give {} a name of its own: its images go to a class with the same name or text."),
        ("near-synonym", "Reword {}, or merge it with the class it is taken for: their texts say nearly the same."),
        (
            "visual confusion",
            "Look at the images of {} beside those of the class they are taken for: if their labels are "
            "right, the model cannot tell the two apart; describe in words what differs, or train on examples.",
        ),
    ):
        if len(rows := bad[bad["verdict"] == verdict]):
            steps.append(what.format(first_names(rows)))
    few = bad.attrs["min_images"]
    images = result.confusion.sum(axis=1)
    if not guessing and (count := int(((images > 0) & (images < few)).sum())):
        steps.append(
            f"Add images to the {count} classes with fewer than {few}: too few to tell a bad class from an average one."
        )
    return steps or [
        "Nothing stands out: no class is at 0 %, no name collides, and no other wording is better beyond chance."
    ]
