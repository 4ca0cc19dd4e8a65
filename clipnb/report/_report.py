"""The result of an audit, as DataFrames, one HTML page, JSON and CSV."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._files import path_of, read_text
from clipnb._format import percent
from clipnb.datasets._images import left_out_line
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.report._atlas import class_atlas
from clipnb.report._page import FORMAT, ReportPage, as_score_table, as_table, cell, short
from clipnb.report._slices import slice_section

TABLES = ("findings", "worst", "classes", "wordings", "reliability", "unreadable", "images", "left_out", "slices")


@dataclass(frozen=True, repr=False)
class Report(ReportPage):
    """The result of `audit`. Fractions are in [0, 1], margins and similarities are cosines; a class has an index and
    a name.

    Columns that need labels are missing or NaN where there are none.

    Attributes:
        summary: what was audited, and every score with its interval (`EvaluationResult.summary`).
        advice: what to do first, most urgent first.
        findings: problems of the classnames (`prompts.lint`): what, where, advice.
        worst: the worst classes and why (`explain.explain_classes`; without labels: by margin).
        classes: all classes, worst first.
        wordings: other templates and descriptions on the same images, compared with the audited one.
        reliability: how well scores without labels find bad classes (`margin.compare_scores`).
        unreadable: files that could not be read: id, reason.
        images: every image: id, label, prediction, similarity, margin, rival, and two class indices.
        left_out: other items that no score counts: reason, count, examples.
        slices: groups of images inside a class that are right less often than its other images
            (`slices.find_slices`).
        thumbnails: images on the page: those of each bad class, and "labels"; not in the JSON.
        result: scores of each image in the order of `images`; not in the JSON.
    """

    findings: pd.DataFrame
    worst: pd.DataFrame
    classes: pd.DataFrame
    wordings: pd.DataFrame
    reliability: pd.DataFrame
    unreadable: pd.DataFrame
    images: pd.DataFrame
    left_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    slices: pd.DataFrame = field(default_factory=pd.DataFrame)
    thumbnails: dict[str, list] = field(default_factory=dict)
    result: EvaluationResult | None = None

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read what `to_json` wrote (without the thumbnails).

        Raises:
            InputError: there is no such file, or it is not a report.
        """
        expected = f"Expected a report that `clipnb audit --json` wrote, got {path}"
        try:
            content = json.loads(read_text(path_of(path, "path")))
            if content["format"] != FORMAT or content["kind"] != cls.__name__:
                raise ValueError("another format")
            for name in ("left_out", "slices"):  # reports of version 0.1 do not have them
                content.setdefault(name, [])
            # dict() refuses rows that are no mappings, which pandas would accept.
            tables: dict[str, Any] = {name: pd.DataFrame([dict(row) for row in content[name]]) for name in TABLES}
            return cls(summary=dict(content["summary"]), advice=list(content["advice"]), **tables)
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{expected}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{expected}, which holds something else") from None

    @property
    def first(self) -> str:
        """Heading of the advice."""
        return "What to do first"

    @property
    def pictures(self) -> dict[str, list]:
        """Deprecated: `thumbnails`."""
        warnings.warn("Report.pictures is now Report.thumbnails", DeprecationWarning, stacklevel=2)
        return self.thumbnails

    @property
    def ids(self) -> list[str]:
        """The ids of the images."""
        return self.images["id"].tolist()

    @property
    def labelled(self) -> bool:
        """Whether any image has a label."""
        return "accuracy" in self.summary

    @property
    def scores(self) -> pd.DataFrame:
        """The scores of `summary`: score, value, low, high (None where there is no interval, or only a range)."""
        rows = [
            (name, self.summary[name], *(self.summary[f"{name}_ci"] or (None, None)))
            for name in self.summary
            if f"{name}_ci" in self.summary
        ]
        # With the type object, a count stays a whole number.
        return pd.DataFrame(rows, columns=["score", "value", "low", "high"], dtype=object)

    @property
    def account(self) -> list[str]:
        """Lines on the items that no score counts, how the source was read, and which classnames were repaired."""
        line = left_out_line(self.summary["dataset"], self.left_out.to_dict("records"))
        renamed = [f"classname {row['from']!r} is repaired to {row['to']!r}" for row in self.summary.get("renamed", [])]
        return [*([line] if line else []), *self.summary.get("remarks", []), *renamed]

    @property
    def suspects(self) -> pd.DataFrame:
        """Images whose label looks wrong: the model is surer of another class, the surest first (lowest margin)."""
        return self.images.query("margin < 0").sort_values("margin", kind="stable")

    @property
    def title(self) -> str:
        """Heading of the page."""
        return f"Audit of {self.summary['dataset']}"

    @property
    def lead(self) -> str:
        """One sentence: which model, on how many images, how often it is right."""
        s = self.summary
        weights = f"{s['model']} ({s['pretrained']})"
        if not self.labelled:
            return f"{weights}: on {s['images']} images without labels, {s['classes']} classes to choose from."
        return (
            f"{weights}: right on {percent(s['accuracy'])} of {s['n']} labelled images in "
            f"{s['classes_with_images']} of "
            f"{s['classes']} classes; guessing would be right on {percent(s['chance'], 2)}."
        )

    def __repr__(self) -> str:
        advice = [f"{i}. {short(text, 400)}" for i, text in enumerate(self.advice, 1)]
        lines = [self.title, self.lead, "", "What to do first:", *advice, "", "Worst classes:"]
        columns = [c for c in ("classname", "accuracy", "images", "predicted", "margin", "verdict") if c in self.worst]
        shown = pd.DataFrame({column: self.worst[column].map(_short_cell) for column in columns})
        return "\n".join([*lines, shown.to_string(index=False)])

    def sections(self) -> Iterator[dict]:
        """Title, text, table, cards and figure of each section of the page."""
        if self.labelled:
            text = (
                "Each score has its 95 % interval where one can be given. The worst-k accuracy reads too low, "
                "because the same "
                "images choose the classes and measure them. 'Truly worst' estimates the classes that are truly "
                "the worst, "
                "whichever they are, and 'listed' those that are listed; both rest on a family of distributions, "
                "which the "
                "counts "
                + ("fit. " if self.summary.get("worst_k_fits", True) else "do not fit. ")
                + "'Split half' chooses on one half of the images and measures on the other."
            )
            yield {"title": "Scores", "text": text, **as_score_table(self.scores), "figure": self._figure()}
            yield {
                "title": "The worst classes",
                "text": "What the numbers say about the reason, with images that got a wrong answer.",
                "cards": self._cards(),
            }
            yield slice_section(self.slices, self.summary, self.thumbnails)
        else:
            yield {"title": "Classes won most narrowly", "text": self._caveat(), "cards": self._cards()}
        yield self._atlas()
        yield {
            "title": "Labels to check",
            "text": "The model is sure that these images show something else. Some are its mistakes, some are "
            "mistakes of the "
            "labels.",
            "cards": [{"thumbnails": self.thumbnails["labels"]}] if self.thumbnails.get("labels") else [],
        }
        yield {
            "title": "Other wordings",
            "text": "The same images with other templates around the names. "
            + (
                "Differences are to the audited wording, with intervals that hold for all rows at once."
                if self.labelled
                else "Without labels nothing shows which is better; 'changed' is the share of images that get "
                "another answer."
            ),
            **as_table(self.wordings),
        }
        yield {"title": "The names", "text": "Problems of the classnames and templates.", **as_table(self.findings)}
        yield {"title": "Files that could not be read", "text": "No score counts them.", **as_table(self.unreadable)}
        yield {
            "title": "Left out",
            "text": "Other items that the data set holds; no score counts them.",
            **as_table(self.left_out),
        }
        text = (
            f"Measured with this model on {self.summary['reliability_measured_on']}, where labels are known: rank "
            f"correlation with the accuracy (rho), share of the {self.summary['reliability_k']} worst classes "
            f"found, area "
            "under the ROC curve (AUC). 'pseudo_image' is the margin used without labels, 'chance' is blind guessing."
        )
        yield {"title": "Would the worst classes be found without labels?", "text": text, **as_table(self.reliability)}
        yield {"title": "How the model was run", "fold": True, **as_table(self._model())}
        yield {"title": "All classes", "fold": True, **as_table(self.classes)}

    def _model(self) -> pd.DataFrame:
        """The settings of the model as rows; a report of an older version has fewer."""
        values = {key: self.summary.get(key) for key in ("model", "pretrained", "model_fingerprint", "precision")}
        values |= self.summary.get("model_settings") or {}
        if check := self.summary.get("precision_check"):
            values["share of predictions that this precision changes"] = check["changed_predictions"]
        return pd.DataFrame(
            [
                {"setting": name.replace("_", " "), "value": "-" if value is None else str(value)}
                for name, value in values.items()
            ]
        )

    def _caveat(self) -> str:
        found, rho = (dict(zip(self.reliability["score"], self.reliability[column])) for column in ("found", "rho"))
        text = (
            "There are no labels, so there is no accuracy. Listed are the classes whose predicted images are won "
            "by the "
            "smallest margin over another class: where to look first, not a verdict. With this model on "
            f"{self.summary['reliability_measured_on']}, {percent(found['pseudo_image'], 0)} of the classes on "
            f"such a list "
            f"are truly among the worst, {percent(found['chance'], 0)} of a random list. "
            f"{self.summary['never_predicted']} classes were never predicted: absent, or missed."
        )
        if rho["frequency"] > rho["pseudo_image"]:
            text += (
                " How often a class is predicted ranks the classes better there "
                f"(rho {rho['frequency']:.2f} against {rho['pseudo_image']:.2f}), but only because the classes of "
                f"that set "
                "are equally frequent."
            )
        return text

    def _cards(self) -> list[dict]:
        numbers = [c for c in ("accuracy", "images", "predicted", "margin") if c in self.worst]
        return [
            {
                "name": short(row["classname"]),
                "verdict": row["verdict"],
                "text": short(row["sentence"], 400),
                "numbers": [(column, cell(column, row[column])) for column in numbers],
                "thumbnails": self.thumbnails.get(str(row["class"]), []),
            }
            for row in self.worst.to_dict("records")
        ]

    def _atlas(self) -> dict:
        filled = (
            "its accuracy. A dashed square is empty: no image of the class is right"
            if self.labelled
            else "its margin without labels. A dashed square is empty: the class is never predicted"
        )
        return {
            "title": "Class atlas",
            "text": f"Every class as a square, worst first, filled up to {filled}. A thick frame marks the "
            f"{len(self.worst)} classes with the lowest margins without labels. Open a square for its numbers.",
            "squares": class_atlas(self.classes, self.images, len(self.worst), self.thumbnails),
        }

    def _figure(self) -> dict:
        figure = Figure(figsize=(6.4, 3), layout="constrained")
        plots.per_class_accuracy(
            self.classes["accuracy"].to_numpy(float),
            figure.subplots(),
            chance=self.summary["chance"],
            mean=self.summary["mean_per_class_accuracy"],
        )
        file = io.StringIO()
        # The same figure gives the same bytes.
        with matplotlib.rc_context({"svg.hashsalt": "clipnb", "svg.fonttype": "none"}):
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svg = file.getvalue().partition("<svg")[2].replace("#000000", "currentColor").replace(plots.INK, "currentColor")
        return {"svg": "<svg" + svg, "alt": "Accuracy of every class, worst first."}


def _short_cell(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else short(value, 40)
