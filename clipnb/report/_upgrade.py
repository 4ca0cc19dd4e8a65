"""Two audits of the same images compared: what an upgrade gains, and which classes pay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipnb import paired
from clipnb._checks import require_attribute
from clipnb.errors import InputError
from clipnb.intervals import paired_counts, sign_test
from clipnb.report._page import Page, as_score_table, as_table, first_names
from clipnb.report._report import Report


@dataclass(frozen=True, repr=False)
class Upgrade(Page):
    """What `compare` found: B against A on the same labelled images. A difference is B minus A."""

    summary: dict  # what A and B are, and each score's change with its interval
    advice: list[str]  # how to read it
    scores: pd.DataFrame  # overall and tail: a, b, difference and its paired interval
    classes: (
        pd.DataFrame
    )  # the same of each class, the greatest loss first; p: exact McNemar; beyond_chance: over all classes at once

    title, first = "B against A", "In short"

    @property
    def lead(self) -> str:
        a, b = (
            f"{s['model']} ({s['pretrained']}) with templates {s['templates']}"
            for s in (self.summary["a"], self.summary["b"])
        )
        return f"A is {a}; B is {b}; {self.summary['images']} labelled images of {self.summary['a']['dataset']}."

    def __repr__(self) -> str:
        return "\n".join(
            [self.lead, "", *self.advice, "", self.scores.to_string(index=False, float_format="{:.4f}".format)]
        )

    def sections(self):
        """As in `Report`."""
        few = "With few images a class, some fall and others rise by chance alone: compare both numbers, and look at 'beyond chance'."
        moved = self.classes[self.classes["difference"] != 0]
        text = "Differences are B minus A, with 95 % intervals of the same images under both."
        yield {"title": "Scores", "text": text, **as_score_table(self.scores)}
        yield {"title": "Classes that lose", "text": few, **as_table(moved[moved["difference"] < 0])}
        yield {
            "title": "Classes that win",
            "text": "The greatest gain first.",
            **as_table(moved[moved["difference"] > 0][::-1]),
        }


def compare(a: Report, b: Report) -> Upgrade:
    """Two models, or two wordings, on the same labelled images: what an upgrade from A to B gains, and which classes pay.

    Args:
        a, b: from `audit` or `Report.load`, on the same images with the same labels.

    Raises:
        InputError: the reports are not about the same labelled images.

    >>> from dataclasses import replace
    >>> from clipnb import audit, load_dataset, load_model
    >>> data, model = load_dataset("emoji"), load_model()
    >>> few = replace(data.take(data.labels < 3), classnames=data.classnames[:3])
    >>> a, b = (audit(few, model, templates=name, made="today") for name in ("bare", "single"))
    >>> compare(a, b).scores["score"].tolist()
    ['accuracy', 'worst_3_chosen', 'classes_at_zero', 'harmonic_mean_floored']
    """
    require_attribute(a, "a", "images", "clipnb.audit"), require_attribute(b, "b", "images", "clipnb.audit")
    ours, theirs = (report.images.sort_values("id", ignore_index=True) for report in (a, b))
    if not (a.labelled and b.labelled and ours[["id", "label_class"]].equals(theirs[["id", "label_class"]])):
        raise InputError(
            f"Expected two reports on the same labelled images, got {a.summary['dataset']} ({len(ours)} images) and "
            f"{b.summary['dataset']} ({len(theirs)}), whose files or labels differ"
        )
    labels, num_classes, k = ours["label_class"].to_numpy(), a.summary["classes"], min(len(a.worst), len(b.worst))
    sides = [images["prediction_class"].to_numpy() for images in (ours, theirs)]
    known = labels >= 0
    right_a, right_b = (side[known] == labels[known] for side in sides)
    differences = paired.differences_of_predictions(*sides[::-1], labels, num_classes, k)
    rows = [
        {
            "score": name.replace("worst_k", f"worst_{k}"),
            "a": d["b"],
            "b": d["a"],
            "difference": d["value"],
            **dict(zip(("low", "high"), d["ci"] or (np.nan, np.nan))),
            "p": d["p"],
            "verdict": d["verdict"],
        }
        for name, d in differences.items()
    ]
    n, only_a, only_b, both = (
        np.bincount(labels[known], which, num_classes).astype(int)
        for which in (np.ones(len(right_a)), right_a & ~right_b, right_b & ~right_a, right_a & right_b)
    )
    names = b.classes.set_index("class")["classname"]
    classes = pd.DataFrame(
        [
            change_of_class(int(c), names[c], int(n[c]), int(both[c]), int(only_a[c]), int(only_b[c]))
            for c in np.flatnonzero(n)
        ]
    )
    classes = classes.assign(beyond_chance=classes["p"] * len(classes) < 0.05).sort_values(
        "difference", kind="stable", ignore_index=True
    )
    killed, revived = (
        classes[(classes["a"] > 0) & (classes["b"] == 0)],
        classes[(classes["a"] == 0) & (classes["b"] > 0)],
    )
    sure = classes[classes["beyond_chance"]]
    lost, won = int((sure["difference"] < 0).sum()), int((sure["difference"] > 0).sum())
    keys = ("dataset", "model", "pretrained", "model_fingerprint", "templates", "made")
    about = {side: {key: report.summary[key] for key in keys} for side, report in (("a", a), ("b", b))}
    summary = {
        **about,
        "images": int(known.sum()),
        "classes_killed": len(killed),
        "classes_revived": len(revived),
        "classes_lost_beyond_chance": lost,
        "classes_won_beyond_chance": won,
        "made": max(about["a"]["made"], about["b"]["made"]),
    }
    for row in rows:
        summary |= {
            f"{row['score']}_change": row["difference"],
            f"{row['score']}_change_ci": (row["low"], row["high"]),
        }
    low, high = summary["accuracy_change_ci"]
    verdict = "beyond chance" if rows[0]["verdict"] != "no" else "no more than chance explains"
    advice = [
        f"B is right on {rows[0]['b']:.1%}, A on {rows[0]['a']:.1%}: {100 * rows[0]['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), {verdict}."
    ]
    if len(killed):
        advice.append(
            f"Before you switch to B: {len(killed)} classes that A recognises fall to 0 % ({first_names(killed)}); "
            f"{len(revived)} come up from 0 %."
        )
    if len(sure):
        advice.append(
            f"Beyond chance, all classes considered at once: {lost} classes lose, {won} win ({first_names(sure)})."
        )
    return Upgrade(summary, advice, pd.DataFrame(rows), classes)


def change_of_class(c: int, name: str, n: int, both: int, only_a: int, only_b: int) -> dict:
    """What B does to one class of n images, of which `both` get right, or only A or only B."""
    score = paired_counts(only_b, only_a, n)
    return {
        "class": c,
        "classname": name,
        "images": n,
        "a": (both + only_a) / n,
        "b": (both + only_b) / n,
        "difference": score.value,
        "low": score.low,
        "high": score.high,
        "p": sign_test(only_a, only_b),
    }
