"""The result of an audit, as DataFrames, one HTML page, JSON and CSV."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from clipnb import plots
from clipnb._files import path_of, read_text
from clipnb.datasets._images import left_out_line
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.report._page import FORMAT, Page, as_score_table, as_table, cell, short


@dataclass(frozen=True, repr=False)
class Report(Page):
    """What `audit` found. Fractions are in [0, 1], margins and similarities are cosines; a class is an index and a name.

    Columns that need labels are missing or NaN where there are none.
    """

    summary: dict  # what was audited, and every score with its interval (`EvaluationResult.summary`)
    advice: list[str]  # what to do first, most urgent first
    findings: pd.DataFrame  # what is odd about the names (`prompts.lint`): what, where, advice
    worst: pd.DataFrame  # the worst classes and why (`explain.explain_classes`; without labels: by margin)
    classes: pd.DataFrame  # all classes, worst first
    wordings: pd.DataFrame  # other templates and descriptions on the same images, compared with the audited one
    reliability: pd.DataFrame  # how well scores without labels find bad classes (`margin.compare_scores`)
    unreadable: pd.DataFrame  # files left out: id, reason
    images: pd.DataFrame  # every image: id, label, prediction, similarity, margin, rival, and two class indices
    left_out: pd.DataFrame = field(default_factory=pd.DataFrame)  # what else no score counts: reason, count, examples
    pictures: dict[str, list] = field(default_factory=dict)  # thumbnails of the page: of each bad class, and "labels"
    result: EvaluationResult | None = None  # of each image in the order of `images`; not in the JSON

    first = "What to do first"

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read what `to_json` wrote (without the pictures).

        Raises:
            InputError: no such file, or not a report.
        """
        try:
            content = json.loads(read_text(path_of(path, "path")))
            if content["format"] != FORMAT or content.pop("kind") != cls.__name__:
                raise ValueError("another format")
            content.setdefault("left_out", [])  # not in reports of version 0.1
            return cls(
                **{part.name: content[part.name] for part in fields(cls) if part.name not in ("pictures", "result")}
            )
        except InputError:
            raise
        except OSError as error:
            raise InputError(
                f"Expected a report that `clipnb audit --json` wrote, got {path}: {error.strerror}"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(
                f"Expected a report that `clipnb audit --json` wrote, got {path}, which holds something else"
            ) from None

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
        found = [
            (name, self.summary[name], *(self.summary[f"{name}_ci"] or (None, None)))
            for name in self.summary
            if f"{name}_ci" in self.summary
        ]
        return pd.DataFrame(
            found, columns=["score", "value", "low", "high"], dtype=object
        )  # a count stays a whole number

    @property
    def account(self) -> list[str]:
        """Lines on what is in no score, how the source was read, and which classnames were repaired."""
        line = left_out_line(self.summary["dataset"], self.left_out.to_dict("records"))
        renamed = [f"classname {row['from']!r} is repaired to {row['to']!r}" for row in self.summary.get("renamed", [])]
        return [*([line] if line else []), *self.summary.get("remarks", []), *renamed]

    @property
    def suspects(self) -> pd.DataFrame:
        """Images whose label looks wrong: the model is surer of another class, the surest first (lowest margin)."""
        return self.images[self.images["margin"] < 0].sort_values("margin", kind="stable")

    @property
    def title(self) -> str:
        return f"Audit of {self.summary['dataset']}"

    @property
    def lead(self) -> str:
        s = self.summary
        if not self.labelled:
            return f"{s['model']} ({s['pretrained']}): on {s['images']} images without labels, {s['classes']} classes to choose from."
        return (
            f"{s['model']} ({s['pretrained']}): right on {s['accuracy']:.1%} of {s['n']} labelled images in {s['classes_with_images']} of "
            f"{s['classes']} classes; guessing would be right on {s['chance']:.2%}."
        )

    def __repr__(self) -> str:
        advice = [f"{i}. {short(text, 400)}" for i, text in enumerate(self.advice, 1)]
        lines = [self.title, self.lead, "", "What to do first:", *advice, "", "Worst classes:"]
        shown = self.worst[
            [c for c in ("classname", "accuracy", "images", "predicted", "margin", "verdict") if c in self.worst]
        ]
        return "\n".join(
            [*lines, shown.map(lambda v: short(v, 40)).to_string(index=False, float_format="{:.3f}".format)]
        )

    def sections(self):
        """Title, text, table, cards, figure: what the page is made of."""
        if self.labelled:
            text = (
                "Each with its 95 % interval where one can be given. The worst-k accuracy reads too low, because the same images choose the "
                "classes and measure them. 'Truly worst' estimates the classes that are truly the worst, whichever they are, and 'listed' "
                "those that are listed; both rest on a family of distributions, which the counts "
                + ("fit. " if self.summary.get("worst_k_fits", True) else "do not fit. ")
                + "'Split half' chooses on one half of the images and measures on the other."
            )
            yield {"title": "Scores", "text": text, **as_score_table(self.scores), "figure": self._figure()}
            yield {
                "title": "The worst classes",
                "text": "Why, as far as numbers tell, with images that were named wrong.",
                "cards": self._cards(),
            }
        else:
            yield {"title": "Classes won most narrowly", "text": self._caveat(), "cards": self._cards()}
        yield {
            "title": "Labels to check",
            "text": "The model is sure that these show something else. Some are its mistakes, some are the label's.",
            "cards": [{"pictures": self.pictures["labels"]}] if self.pictures.get("labels") else [],
        }
        yield {
            "title": "Other wordings",
            "text": "The same images with other templates around the names. "
            + (
                "Differences are to the audited wording, with intervals that hold for all rows at once."
                if self.labelled
                else "Without labels nothing tells which is better; 'changed' is the share of images that get another answer."
            ),
            **as_table(self.wordings),
        }
        yield {"title": "The names", "text": "What is odd about classnames and templates.", **as_table(self.findings)}
        yield {"title": "Files that could not be read", "text": "They are in no score.", **as_table(self.unreadable)}
        yield {
            "title": "Left out",
            "text": "What the data set holds besides; no score counts it.",
            **as_table(self.left_out),
        }
        text = (
            f"Measured with this model on {self.summary['reliability_measured_on']}, where labels are known: rank correlation with the accuracy "
            f"(rho), share of the {self.summary['reliability_k']} worst classes found, area under the ROC curve. 'pseudo_image' is the margin used "
            "without labels, 'chance' is blind guessing."
        )
        yield {"title": "Would it be found without labels?", "text": text, **as_table(self.reliability)}
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
        score = self.reliability.set_index("score")
        found, rho = score["found"], score["rho"]
        text = (
            "There are no labels, so no accuracy. Listed are the classes whose predicted images are won by the smallest margin over another "
            f"class: where to look first, not a verdict. With this model on {self.summary['reliability_measured_on']}, "
            f"{found['pseudo_image']:.0%} of the classes on such a list are truly among the worst, {found['chance']:.0%} of a random list. "
            f"{self.summary['never_predicted']} classes were never predicted: absent, or missed."
        )
        if rho["frequency"] > rho["pseudo_image"]:
            text += (
                f" How often a class is predicted tells more there (rho {rho['frequency']:.2f} against {rho['pseudo_image']:.2f}); that needs "
                "classes that are equally frequent, as they are there."
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
                "pictures": self.pictures.get(str(row["class"]), []),
            }
            for row in self.worst.to_dict("records")
        ]

    def _figure(self) -> dict:
        figure = Figure(figsize=(6.4, 3), layout="constrained")
        plots.per_class_accuracy(
            self.classes["accuracy"].to_numpy(float),
            figure.subplots(),
            chance=self.summary["chance"],
            mean=self.summary["mean_per_class_accuracy"],
        )
        with matplotlib.rc_context(
            {"svg.hashsalt": "clipnb", "svg.fonttype": "none"}
        ):  # the same figure, the same bytes
            figure.savefig(
                file := io.StringIO(), format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        svg = file.getvalue().partition("<svg")[2].replace("#000000", "currentColor").replace(plots.INK, "currentColor")
        return {"svg": "<svg" + svg, "alt": "Accuracy of every class, worst first."}
