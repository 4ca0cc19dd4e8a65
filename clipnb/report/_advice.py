"""What to do first, derived from the numbers of an audit."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from clipnb._format import percent
from clipnb.evaluation import EvaluationResult
from clipnb.prompts import Finding
from clipnb.report._page import first_names, short
from clipnb.report._routing import routing_advice, zero_advice
from clipnb.report._slices import slice_advice

# What to do about classes with a verdict of `explain`; {} is filled with their names.
BY_VERDICT = {
    "name collision": "Give {} a name of its own: its images go to a class with the same name or text.",
    "near-synonym": "Reword {}, or merge it with the class it is taken for: their texts say nearly the same.",
    "visual confusion": "Look at the images of {} beside those of the class they are taken for: if their labels "
    "are right, "
    "the model cannot tell the two apart; describe in words what differs, or train on examples.",
}


def give_advice(
    summary: dict,
    left_out: str | None,
    findings: Sequence[Finding],
    bad: pd.DataFrame,
    wordings: pd.DataFrame,
    slices: pd.DataFrame,
    result: EvaluationResult,
    correction: str | None = None,
) -> list[str]:
    """Return what to do first, in plain words; each sentence rests on a number of the report."""
    steps = _about_data(summary, left_out, findings)
    if not result.n:
        return steps + _without_labels(summary, bad)
    steps += _about_model(summary, bad, wordings, result)
    steps += slice_advice(slices)
    if correction:
        steps.append(correction)
    nothing = "Nothing stands out: no class is at 0 %, no name collides, and no other wording is better beyond chance."
    return steps or [nothing]


def _about_data(summary: dict, left_out: str | None, findings: Sequence[Finding]) -> list[str]:
    steps = []
    if count := summary["unreadable"]:
        files = f"{count} file{'s' if count > 1 else ''}"
        steps.append(f"Replace or remove the {files} that could not be read: no score counts on them.")
    if left_out:
        steps.append(f"Check whether something is missing: {short(left_out, 350)}.")
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.what, []).append(finding)
    for group in by_kind.values():
        more = f" ({len(group) - 1} more below)" if len(group) > 1 else ""
        steps.append(f"Fix the class names: {short(str(group[0]), 250)}{more}.")
    return steps


def _without_labels(summary: dict, bad: pd.DataFrame) -> list[str]:
    steps = [
        f"Look at the images of {first_names(bad)}, and label about thirty images of each: only labels show how "
        f"often the "
        "model is wrong."
    ]
    if count := summary["never_predicted"]:
        steps.append(
            f"If some of the {count} classes that were never predicted are in these images, the model misses them "
            "altogether: check one that you know to be there."
        )
    return steps


def _about_model(summary: dict, bad: pd.DataFrame, wordings: pd.DataFrame, result: EvaluationResult) -> list[str]:
    steps = []
    guessing = summary["accuracy_ci"][0] <= summary["chance"]
    if guessing:
        steps.append(
            "On these images the model is not better than guessing beyond chance: check that the names say what "
            "the images "
            "show, or take another model."
        )
    better = wordings.query("accuracy_verdict == 'better'").to_dict("records")
    if better:
        best = max(better, key=lambda row: row["accuracy"])
        steps.append(
            f"Change the wording to '{best['wording']}': {percent(best['accuracy'])} right instead of "
            f"{percent(summary['accuracy'])}, and {best['classes_at_zero']} classes at 0 % instead of "
            f"{summary['classes_at_zero']}."
        )
    steps += zero_advice(result, "model") + routing_advice(summary)
    for verdict, text in BY_VERDICT.items():
        rows = bad.query(f"verdict == {verdict!r}")
        if len(rows):
            steps.append(text.format(first_names(rows)))
    few = bad.attrs["min_images"]
    images = result.confusion.sum(axis=1)
    count = int(((images > 0) & (images < few)).sum())
    if count and not guessing:
        steps.append(
            f"Add images to the {count} classes with fewer than {few}: that is too few to distinguish a bad class "
            f"from an "
            "average one."
        )
    return steps
