"""Two audits of the same images compared: what an upgrade gains, and which classes pay for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipnb import paired
from clipnb._checks import require_attribute
from clipnb._format import percent
from clipnb.errors import InputError
from clipnb.intervals import paired_counts, sign_test
from clipnb.report._page import ReportPage, as_score_table, as_table, first_names
from clipnb.report._report import Report

ABOUT = ("dataset", "model", "pretrained", "model_fingerprint", "templates", "made")  # described for each side


@dataclass(frozen=True, repr=False)
class Upgrade(ReportPage):
    """The result of `compare`: B against A on the same labelled images. A difference is B minus A.

    Attributes:
        summary: what A and B are, and each score's change with its interval.
        advice: how to read it.
        scores: overall and worst classes: a, b, difference and its paired interval.
        classes: the same of each class, the greatest loss first; p is exact McNemar, `beyond_chance` corrects for all
            classes.
    """

    scores: pd.DataFrame
    classes: pd.DataFrame

    @property
    def title(self) -> str:
        """Heading of the page."""
        return "B against A"

    @property
    def first(self) -> str:
        """Heading of the advice."""
        return "In short"

    @property
    def lead(self) -> str:
        """One sentence: what A and B are."""
        a, b = (
            side["predictions"]
            if "predictions" in side
            else f"{side['model']} ({side['pretrained']}) with templates {side['templates']}"
            for side in (self.summary["a"], self.summary["b"])
        )
        source = "" if "predictions" in self.summary["a"] else f" of {self.summary['a']['dataset']}"
        return f"A is {a}; B is {b}; {self.summary['images']} labelled images{source}."

    def __repr__(self) -> str:
        scores = self.scores.map(lambda v: f"{v:.4f}" if isinstance(v, float) and v == v else v)
        scores = scores.astype(object).fillna("-").to_string(index=False)
        return "\n".join([self.lead, "", *self.advice, "", scores])

    def sections(self) -> Iterator[dict]:
        """Title, text and table of each section of the page."""
        text = (
            "Differences are B minus A in points, with 95 % intervals for the same images under both. Where the "
            "verdict is 'no', the difference is no more than chance explains."
        )
        yield {"title": "Scores", "text": text, **as_score_table(self.scores)}
        few = (
            "With few images a class, some fall and others rise by chance alone: compare both numbers, and look at "
            "'beyond chance'."
        )
        shown = self.classes.drop(columns="class")
        yield {"title": "Classes that lose", "text": few, **as_table(shown.query("difference < 0"))}
        gains = as_table(shown.query("difference > 0").iloc[::-1])
        yield {"title": "Classes that win", "text": "The greatest gain first.", **gains}


def compare(a: Report, b: Report) -> Upgrade:
    """Compare two models, or two wordings, on the same labelled images: what B gains over A, and which classes pay
    for it.

    Args:
        a: from `audit` or `Report.load`.
        b: the other one, on the same images with the same labels.

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
    require_attribute(a, "a", "images", "clipnb.audit")
    require_attribute(b, "b", "images", "clipnb.audit")
    images_a, images_b = (report.images.sort_values("id", ignore_index=True) for report in (a, b))
    keys = ["id", "label_class"]
    if not (a.labelled and b.labelled and images_a[keys].equals(images_b[keys])):
        raise InputError(
            f"Expected two reports on the same labelled images, got {a.summary['dataset']} ({len(images_a)} "
            f"images) and "
            f"{b.summary['dataset']} ({len(images_b)}), whose files or labels differ"
        )
    labels = images_a["label_class"].to_numpy()
    first, second = (images["prediction_class"].to_numpy() for images in (images_a, images_b))
    about = {side: {key: report.summary.get(key) for key in ABOUT} for side, report in (("a", a), ("b", b))}
    names = b.classes.sort_values("class")["classname"].tolist()
    return upgrade_of(first, second, labels, names, min(len(a.worst), len(b.worst)), about)


def upgrade_of(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, names: list[str], k: int, about: dict[str, dict]
) -> Upgrade:
    """Compare the predictions of A and of B on the same images.

    Args:
        first: (N,) class indices that A predicts.
        second: (N,) class indices that B predicts.
        labels: (N,) class indices, -1 = unknown.
        names: C classnames.
        k: how many of A's worst classes the comparison of the tail chooses.
        about: what "a" and "b" are: of each at least "dataset" and "made".
    """
    scores = _scores(first, second, labels, len(names), k)
    classes = _changes(first, second, labels, names)
    killed = classes.query("a > 0 and b == 0")
    revived = classes.query("a == 0 and b > 0")
    sure = classes.query("beyond_chance")
    summary = {
        **about,
        "images": int((labels >= 0).sum()),
        "classes_killed": len(killed),
        "classes_revived": len(revived),
        "classes_lost_beyond_chance": len(sure.query("difference < 0")),
        "classes_won_beyond_chance": len(sure.query("difference > 0")),
        "made": max(about["a"]["made"], about["b"]["made"]),
    }
    for row in scores.to_dict("records"):
        summary |= {
            f"{row['score']}_change": row["difference"],
            f"{row['score']}_change_ci": (row["low"], row["high"]),
        }
    return Upgrade(summary, _advice(summary, scores, killed, sure), scores, classes)


def _scores(first: np.ndarray, second: np.ndarray, labels: np.ndarray, num_classes: int, k: int) -> pd.DataFrame:
    """Each score of both sides with its difference."""
    differences = paired.differences_of_predictions(second, first, labels, num_classes, k)
    rows = []
    for name, difference in differences.items():
        low, high = difference["ci"] or (np.nan, np.nan)
        rows.append(
            {
                "score": name.replace("worst_k", f"worst_{k}"),
                "a": difference["b"],
                "b": difference["a"],
                "difference": difference["value"],
                "low": low,
                "high": high,
                "p": difference["p"],
                "verdict": difference["verdict"],
            }
        )
    return pd.DataFrame(rows)


def _changes(first: np.ndarray, second: np.ndarray, labels: np.ndarray, names: list[str]) -> pd.DataFrame:
    """The accuracy of each class under both, the greatest loss first."""
    known = labels >= 0
    right_a, right_b = first[known] == labels[known], second[known] == labels[known]
    images, both, only_a, only_b = (
        np.bincount(labels[known], weights, len(names)).astype(int).tolist()
        for weights in (None, right_a & right_b, right_a & ~right_b, right_b & ~right_a)
    )
    rows = []
    for c, n in enumerate(images):
        if not n:
            continue
        score = paired_counts(only_b[c], only_a[c], n)
        rows.append(
            {
                "class": c,
                "classname": names[c],
                "images": n,
                "a": (both[c] + only_a[c]) / n,
                "b": (both[c] + only_b[c]) / n,
                "difference": score.value,
                "low": score.low,
                "high": score.high,
                "p": sign_test(only_a[c], only_b[c]),
            }
        )
    table = pd.DataFrame(rows)
    table["beyond_chance"] = table["p"] * len(table) < 0.05
    return table.sort_values("difference", kind="stable", ignore_index=True)


def _advice(summary: dict, scores: pd.DataFrame, killed: pd.DataFrame, sure: pd.DataFrame) -> list[str]:
    accuracy = scores.iloc[0]
    verdict = "beyond chance" if accuracy["verdict"] != "no" else "no more than chance explains"
    change, low, high = (100 * accuracy[name] for name in ("difference", "low", "high"))
    advice = [
        f"B is right on {percent(accuracy['b'])}, A on {percent(accuracy['a'])}: {change:+.1f} points "
        f"({low:+.1f} to {high:+.1f}), {verdict}."
    ]
    if count := len(killed):
        revived = summary["classes_revived"]
        advice.append(
            f"Before you switch to B: of the classes that A recognises, {count} fall{'s' if count == 1 else ''} to 0 % "
            f"({first_names(killed)}); {revived} rise{'s' if revived == 1 else ''} from 0 %."
        )
    if len(sure):
        advice.append(
            "Beyond chance, with all classes considered at once, A is better on "
            f"{summary['classes_lost_beyond_chance']} of them and B on {summary['classes_won_beyond_chance']} "
            f"({first_names(sure)})."
        )
    return advice
