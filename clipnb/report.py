"""`clipnb.audit`: which classes of your own data a model fails on, as DataFrames, one HTML page, JSON and CSV."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from clipnb import ensemble, margin, metrics, plots, prompts, worst
from clipnb.datasets import LabeledImages, load_dataset, scored_classnames, with_classes
from clipnb.datasets._images import MISSING, left_out_line
from clipnb.describe import load_descriptions, unmatched
from clipnb.encode import encode_images, encode_texts
from clipnb.errors import InputError, having, path_of, read_text, text_of, whole_number
from clipnb.evaluation import EvaluationResult, evaluate
from clipnb.explain import SAME_TEXT, explain_classes, order_finding
from clipnb.models import EMBEDDED, Model, load_model
from clipnb.page import FORMAT, Page, as_score_table, as_table, cell, first_names, plain_text, short
from clipnb.similarity import unit_norm
from clipnb.zeroshot import prompt_vectors

TRIED = ("bare", "single", "openai-7")  # other wordings that an audit tries: nine prompts a class
PICTURES = 4  # shown of each bad class
MOST_PICTURES = 240  # in one page, which bounds its size
SIDE = 112  # pixels of a thumbnail


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
            return cls(**{part.name: content[part.name] for part in fields(cls) if part.name != "pictures"})
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"Expected a report that `clipnb audit --json` wrote, got {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f"Expected a report that `clipnb audit --json` wrote, got {path}, which holds something else") from None

    @property
    def labelled(self) -> bool:
        """Whether any image has a label."""
        return "accuracy" in self.summary

    @property
    def scores(self) -> pd.DataFrame:
        """The scores of `summary` that have an interval: score, value, low, high."""
        found = [(name, self.summary[name], *self.summary[f"{name}_ci"]) for name in self.summary if f"{name}_ci" in self.summary]
        return pd.DataFrame(found, columns=["score", "value", "low", "high"], dtype=object)  # a count stays a whole number

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
        return (f"{s['model']} ({s['pretrained']}): right on {s['accuracy']:.1%} of {s['n']} labelled images in {s['classes_with_images']} of "
                f"{s['classes']} classes; guessing would be right on {s['chance']:.2%}.")

    def __repr__(self) -> str:
        advice = [f"{i}. {short(text, 400)}" for i, text in enumerate(self.advice, 1)]
        lines = [self.title, self.lead, "", "What to do first:", *advice, "", "Worst classes:"]
        shown = self.worst[[c for c in ("classname", "accuracy", "images", "predicted", "margin", "verdict") if c in self.worst]]
        return "\n".join([*lines, shown.map(lambda v: short(v, 40)).to_string(index=False, float_format="{:.3f}".format)])

    def sections(self):
        """Title, text, table, cards, figure: what the page is made of."""
        if self.labelled:
            text = ("Each with its 95 % interval. The worst-k accuracy reads too low, because the same images choose the classes and measure "
                    "them; the honest one chooses on one half and measures on the other.")
            yield {"title": "Scores", "text": text, **as_score_table(self.scores), "figure": self._figure()}
            yield {"title": "The worst classes", "text": "Why, as far as numbers tell, with images that were named wrong.", "cards": self._cards()}
        else:
            yield {"title": "Classes won most narrowly", "text": self._caveat(), "cards": self._cards()}
        yield {"title": "Labels to check", "text": "The model is sure that these show something else. Some are its mistakes, some are the label's.",
               "cards": [{"pictures": self.pictures["labels"]}] if self.pictures.get("labels") else []}
        yield {"title": "Other wordings", "text": "The same images with other templates around the names. " + (
            "Differences are to the audited wording, with intervals that hold for all rows at once." if self.labelled else
            "Without labels nothing tells which is better; 'changed' is the share of images that get another answer."), **as_table(self.wordings)}
        yield {"title": "The names", "text": "What is odd about classnames and templates.", **as_table(self.findings)}
        yield {"title": "Files that could not be read", "text": "They are in no score.", **as_table(self.unreadable)}
        yield {"title": "Left out", "text": "What the data set holds besides; no score counts it.", **as_table(self.left_out)}
        text = (f"Measured with this model on {self.summary['reliability_measured_on']}, where labels are known: rank correlation with the accuracy "
                f"(rho), share of the {self.summary['reliability_k']} worst classes found, area under the ROC curve. 'pseudo_image' is the margin used "
                "without labels, 'chance' is blind guessing.")
        yield {"title": "Would it be found without labels?", "text": text, **as_table(self.reliability)}
        yield {"title": "How the model was run", "fold": True, **as_table(self._model())}
        yield {"title": "All classes", "fold": True, **as_table(self.classes)}

    def _model(self) -> pd.DataFrame:
        """The settings of the model as rows; a report of an older version has fewer."""
        values = {key: self.summary.get(key) for key in ("model", "pretrained", "model_fingerprint", "precision")}
        values |= self.summary.get("model_settings") or {}
        if check := self.summary.get("precision_check"):
            values["share of predictions that this precision changes"] = check["changed_predictions"]
        return pd.DataFrame([{"setting": name.replace("_", " "), "value": "-" if value is None else str(value)} for name, value in values.items()])

    def _caveat(self) -> str:
        score = self.reliability.set_index("score")
        found, rho = score["found"], score["rho"]
        text = ("There are no labels, so no accuracy. Listed are the classes whose predicted images are won by the smallest margin over another "
                f"class: where to look first, not a verdict. With this model on {self.summary['reliability_measured_on']}, "
                f"{found['pseudo_image']:.0%} of the classes on such a list are truly among the worst, {found['chance']:.0%} of a random list. "
                f"{self.summary['never_predicted']} classes were never predicted: absent, or missed.")
        if rho["frequency"] > rho["pseudo_image"]:
            text += (f" How often a class is predicted tells more there (rho {rho['frequency']:.2f} against {rho['pseudo_image']:.2f}); that needs "
                     "classes that are equally frequent, as they are there.")
        return text

    def _cards(self) -> list[dict]:
        numbers = [c for c in ("accuracy", "images", "predicted", "margin") if c in self.worst]
        return [{"name": short(row["classname"]), "verdict": row["verdict"], "text": short(row["sentence"], 400),
                 "numbers": [(column, cell(column, row[column])) for column in numbers], "pictures": self.pictures.get(str(row["class"]), [])}
                for row in self.worst.to_dict("records")]

    def _figure(self) -> dict:
        figure = Figure(figsize=(6.4, 3), layout="constrained")
        plots.per_class_accuracy(self.classes["accuracy"].to_numpy(float), figure.subplots(), chance=self.summary["chance"],
                                 mean=self.summary["mean_per_class_accuracy"])
        with matplotlib.rc_context({"svg.hashsalt": "clipnb", "svg.fonttype": "none"}):  # the same figure, the same bytes
            figure.savefig(file := io.StringIO(), format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svg = file.getvalue().partition("<svg")[2].replace("#000000", "currentColor").replace(plots.INK, "currentColor")
        return {"svg": "<svg" + svg, "alt": "Accuracy of every class, worst first."}


@dataclass(frozen=True, repr=False)
class Comparison(Page):
    """What `compare` found: B against A on the same labelled images. A difference is B minus A."""

    summary: dict  # what A and B are, and each score's change with its interval
    advice: list[str]  # how to read it
    scores: pd.DataFrame  # overall and tail: a, b, difference and its paired interval
    classes: pd.DataFrame  # the same of each class, the greatest loss first; p: exact McNemar; beyond_chance: over all classes at once

    title, first = "B against A", "In short"

    @property
    def lead(self) -> str:
        a, b = (f"{s['model']} ({s['pretrained']}) with templates {s['templates']}" for s in (self.summary["a"], self.summary["b"]))
        return f"A is {a}; B is {b}; {self.summary['images']} labelled images of {self.summary['a']['dataset']}."

    def __repr__(self) -> str:
        return "\n".join([self.lead, "", *self.advice, "", self.scores.to_string(index=False, float_format="{:.4f}".format)])

    def sections(self):
        """As in `Report`."""
        few = "With few images a class, some fall and others rise by chance alone: compare both numbers, and look at 'beyond chance'."
        moved = self.classes[self.classes["difference"] != 0]
        text = "Differences are B minus A, with 95 % intervals of the same images under both."
        yield {"title": "Scores", "text": text, **as_score_table(self.scores)}
        yield {"title": "Classes that lose", "text": few, **as_table(moved[moved["difference"] < 0])}
        yield {"title": "Classes that win", "text": "The greatest gain first.", **as_table(moved[moved["difference"] > 0][::-1])}


def compare(a: Report, b: Report) -> Comparison:
    """Two models, or two wordings, on the same labelled images: what an upgrade from A to B gains, and which classes pay.

    Args:
        a, b: from `audit` or `Report.load`, on the same images with the same labels.

    Raises:
        InputError: the reports are not about the same labelled images.

    >>> from dataclasses import replace
    >>> data, model = load_dataset("emoji"), load_model()
    >>> few = replace(data.take(data.labels < 3), classnames=data.classnames[:3])
    >>> a, b = (audit(few, model, templates=name, made="today") for name in ("bare", "single"))
    >>> compare(a, b).scores["score"].tolist()
    ['accuracy', 'worst_10', 'harmonic_mean', 'geometric_mean', 'classes_at_zero']
    """
    having(a, "a", "images", "clipnb.audit"), having(b, "b", "images", "clipnb.audit")
    ours, theirs = (report.images.sort_values("id", ignore_index=True) for report in (a, b))
    if not (a.labelled and b.labelled and ours[["id", "label_class"]].equals(theirs[["id", "label_class"]])):
        raise InputError(f"Expected two reports on the same labelled images, got {a.summary['dataset']} ({len(ours)} images) and "
                         f"{b.summary['dataset']} ({len(theirs)}), whose files or labels differ")
    labels, num_classes, k = ours["label_class"].to_numpy(), a.summary["classes"], min(len(a.worst), len(b.worst))
    asked = min(side.summary.get("worst_k", k) for side in (a, b))  # scores keep the name of the k that was asked for
    sides = [images["prediction_class"].to_numpy() for images in (ours, theirs)]
    known = labels >= 0
    right_a, right_b = (side[known] == labels[known] for side in sides)
    gain, (low, high) = metrics.paired_difference(right_b, right_a)
    rows = [{"score": "accuracy", "a": float(right_a.mean()), "b": float(right_b.mean()), "difference": gain, "low": low, "high": high}]
    tail = worst.paired_tail_difference(*sides[::-1], labels, num_classes, k).rename(columns={"a": "b", "b": "a"})
    rows += [{"score": name.replace("worst_k", f"worst_{asked}"), **row[["a", "b", "difference", "low", "high"]]} for name, row in tail.iterrows()]
    n, only_a, only_b, both = (np.bincount(labels[known], which, num_classes).astype(int) for which in
                               (np.ones(len(right_a)), right_a & ~right_b, right_b & ~right_a, right_a & right_b))
    names = b.classes.set_index("class")["classname"]
    classes = pd.DataFrame([_change(int(c), names[c], int(n[c]), int(both[c]), int(only_a[c]), int(only_b[c])) for c in np.flatnonzero(n)])
    classes = classes.assign(beyond_chance=classes["p"] * len(classes) < 0.05).sort_values("difference", kind="stable", ignore_index=True)
    killed, revived = classes[(classes["a"] > 0) & (classes["b"] == 0)], classes[(classes["a"] == 0) & (classes["b"] > 0)]
    sure = classes[classes["beyond_chance"]]
    lost, won = int((sure["difference"] < 0).sum()), int((sure["difference"] > 0).sum())
    keys = ("dataset", "model", "pretrained", "model_fingerprint", "templates", "made")
    about = {side: {key: report.summary[key] for key in keys} for side, report in (("a", a), ("b", b))}
    summary = {**about, "images": int(known.sum()), "classes_killed": len(killed), "classes_revived": len(revived),
               "classes_lost_beyond_chance": lost, "classes_won_beyond_chance": won, "made": max(about["a"]["made"], about["b"]["made"])}
    for row in rows:
        summary |= {f"{row['score']}_change": row["difference"], f"{row['score']}_change_ci": (row["low"], row["high"])}
    low, high = summary["accuracy_change_ci"]
    verdict = "beyond chance" if low > 0 or high < 0 else "no more than chance explains"
    advice = [f"B is right on {rows[0]['b']:.1%}, A on {rows[0]['a']:.1%}: {100 * gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), {verdict}."]
    if len(killed):
        advice.append(f"Before you switch to B: {len(killed)} classes that A recognises fall to 0 % ({first_names(killed)}); "
                      f"{len(revived)} come up from 0 %.")
    if len(sure):
        advice.append(f"Beyond chance, all classes considered at once: {lost} classes lose, {won} win ({first_names(sure)}).")
    return Comparison(summary, advice, pd.DataFrame(rows), classes)


def _change(c: int, name: str, n: int, both: int, only_a: int, only_b: int) -> dict:
    """What B does to one class of n images, of which `both` get right, or only A or only B."""
    low, high = (bound / n for bound in worst._paired_count_interval(only_b, only_a, n, 0.95))
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"class": c, "classname": name, "images": n, "a": (both + only_a) / n, "b": (both + only_b) / n,
            "difference": (only_b - only_a) / n, "low": max(-1.0, low), "high": min(1.0, high), "p": p}


def audit(dataset: str | LabeledImages = "emoji", model: str | Model = EMBEDDED, pretrained: str | None = None, *,
          classes: str | Path | None = None, templates="bare", descriptions: str | Path | None = None, worst_k: int = 10,
          store: str | Path | None = None, device: str = "auto", precision: str = "fp32", trust_pickle: bool = False,
          like: str | None = None, made: str | None = None, progress: bool = False, fix_names: bool = False) -> Report:
    """Find the classes of a data set that a model fails on, say why, and what to do first.

    Reads every image (unreadable ones are listed and left out), checks the names, encodes, evaluates, explains the worst
    classes, tries other wordings, and measures how far a label-free ranking can be trusted. Without labels it ranks classes
    by the pseudo-label margin (`margin`), whose reliability it measures with the same model on the emoji set.

    Args:
        dataset: a spec for `load_dataset`, or what that returns.
        model, pretrained, device, precision, trust_pickle, like: for `load_model`; or a loaded model.
        classes: file of classnames for unlabelled images, of candidates, or of better names (`datasets.with_classes`).
        templates: name of a template set (`prompts.template_set`) or a list, audited as one ensemble.
        descriptions: file of texts about classes (`describe.load_descriptions`), tried as a wording; the emoji set has its own.
        worst_k: how many classes to explain (fewer if there are fewer).
        store: folder that keeps the image vectors: encode once, audit often, go on after a kill.
        made: time stamp in the page; None: now. All else is the same for the same input.
        progress: show progress bars on stderr.
        fix_names: repair classnames (`prompts.fix_names`) before they are scored; `summary["renamed"]` lists the repairs.

    Raises:
        InputError: an argument or file cannot be used, there are fewer than two classes, or no image can be read.

    >>> from dataclasses import replace
    >>> data = load_dataset("emoji")
    >>> few = replace(data.take(data.labels < 3), classnames=data.classnames[:3])  # nine drawings of three classes
    >>> report = audit(few, made="today")
    >>> report.summary["n"], len(report.worst), report.classes.columns[:3].tolist()
    (9, 3, ['class', 'classname', 'images'])
    """
    worst_k = whole_number(worst_k, "worst_k", 1)
    for name, value in (("classes", classes), ("descriptions", descriptions), ("store", store)):
        if value is not None:
            path_of(value, name)
    if isinstance(templates, str):
        text_of(templates, "templates")
    if not isinstance(model, str):
        having(model, "model", "encode_pixels", "clipnb.load_model")
    if not isinstance(dataset, str):
        having(dataset, "dataset", "ids", "clipnb.load_dataset")
    data = load_dataset(dataset) if isinstance(dataset, str) else dataset
    named = with_classes(data, classes) if classes else data
    scored_classnames(named, "give a file of candidate names (`classes`, --classes FILE)")
    named, changes = _repaired(named) if fix_names else (named, [])
    chosen = prompts.template_set(templates) if isinstance(templates, str) else prompts.check_templates(templates)
    own = descriptions or named.descriptions
    texts = load_descriptions(own).by_class if own else {}
    unused = unmatched(texts, named.classnames) if descriptions else None
    model = load_model(model, pretrained, device, precision, trust_pickle, like) if isinstance(model, str) else model
    images = encode_images(model, data, store, bad_images="skip", progress=progress)
    missing = {item: reason for reason in MISSING for item in data.left_out.get(reason, [])}
    unreadable = pd.DataFrame(
        [{"id": plain_text(name), "reason": plain_text(why)} for name, why in (images.skipped | missing).items()], columns=["id", "reason"]
    )
    readable = np.array([i for i, name in enumerate(data.ids) if name not in images.skipped])
    vectors, provenance = images.vectors, images.provenance
    named = replace(named, left_out={reason: items for reason, items in named.left_out.items() if reason not in MISSING})
    named, names = named.take(readable), named.synonyms or [[name] for name in named.classnames]
    sets = {name: prompts.template_set(name) for name in TRIED}
    every = list(dict.fromkeys(template for group in (chosen, *sets.values()) for template in group))
    bank = _bank(model, names, every)
    banks = {name: bank[[every.index(template) for template in group]] for name, group in {"": chosen, **sets}.items()}
    classifier = unit_norm(banks.pop("").mean(axis=0))
    result = evaluate(vectors, classifier, named.labels)
    k = min(worst_k, int((result.confusion.sum(axis=1) > 0).sum()) if result.n else int((~np.isnan(result.cmm["pseudo_image"])).sum()))
    permuted = order_finding(result.predictions, result.labels, named.classnames)
    findings = [*([permuted] if permuted else []), *prompts.lint(named.classnames, chosen, model)]
    measured_on, reliability_k, reliability = _reliability(model, vectors, result, data.name, worst_k)
    summary = {
        "dataset": data.name, "dataset_fingerprint": data.fingerprint, "model": model.name, "pretrained": model.pretrained,
        "model_fingerprint": model.fingerprint, "model_settings": model.settings, "precision": model.precision,
        **({"precision_check": provenance["precision_check"]} if "precision_check" in provenance else {}),
        "templates": templates if isinstance(templates, str) else chosen,
        "num_templates": len(chosen), "exif_rotation": data.exif_rotation, "remarks": [*data.remarks, *([unused] if unused else [])],
        "renamed": [{"from": old, "to": new} for old, new in changes], "images": len(named), "unreadable": len(unreadable), "classes": len(named.classnames),
        "never_predicted": int(np.isnan(result.cmm["pseudo_image"]).sum()), **(result.summary(k=worst_k) if result.n else {}),
        "reliability_measured_on": measured_on, "reliability_k": reliability_k,
        "made": made or datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    ranked = _classes(result, named.classnames)
    bad = _explained(ranked["class"].to_numpy()[:k], result, named.classnames)
    wordings = _wordings(model, vectors, result, banks, {c: texts[n] for c, n in enumerate(named.classnames) if n in texts}, k)
    images = _images(result, named)
    return Report(
        summary=summary, advice=_advice(summary, named.left_out_line(labelled=True), findings, bad, wordings, result),
        findings=pd.DataFrame(map(asdict, findings), columns=["what", "where", "advice"]), worst=bad, classes=ranked,
        wordings=wordings, reliability=reliability.rename_axis("score").reset_index(),
        unreadable=unreadable, images=images, left_out=pd.DataFrame(named.left_out_rows(labelled=True), columns=["reason", "count", "examples"]),
        pictures=_pictures(named, images, bad),
    )


def _repaired(data: LabeledImages) -> tuple[LabeledImages, list[tuple[str, str]]]:
    """The set under repaired classnames, and what changed."""
    names, changes = prompts.fix_names(data.classnames)
    synonyms = data.synonyms and [[name, *others[1:]] for name, others in zip(names, data.synonyms)]
    return replace(data, classnames=names, synonyms=synonyms), changes


def _bank(model: Model, names: list[list[str]], templates: list[str]) -> np.ndarray:
    """(P, C, D) text vectors; that of a class with synonyms is the mean over its names."""
    bank = prompt_vectors(model, [name for group in names for name in group], templates)
    sizes = np.array([len(group) for group in names])
    if (sizes == 1).all():
        return bank
    return unit_norm(np.add.reduceat(bank, np.cumsum(sizes) - sizes, axis=1) / sizes[:, None])


def _reliability(model: Model, vectors, result: EvaluationResult, name: str, k: int) -> tuple[str, int, pd.DataFrame]:
    """Where, at which k and how well the classes that are bad can be found without labels."""
    if not result.n:  # then on pictures whose labels are known
        known = load_dataset("emoji")
        name, vectors = "the emoji set", encode_images(model, known).vectors
        result = evaluate(vectors, prompt_vectors(model, known.classnames, ["{}"])[0], known.labels)
    k = min(k, int((~np.isnan(result.per_class_accuracy)).sum()))
    baselines = margin.baseline_scores(vectors, result.classifier, float(model.module.logit_scale.exp()))
    return name, k, margin.compare_scores({"pseudo_image": result.cmm["pseudo_image"], **baselines}, result.per_class_accuracy, k)


def _classes(result: EvaluationResult, names: list[str]) -> pd.DataFrame:
    """All classes, worst first: by accuracy and then margin where there are labels, else by margin; without images last."""
    table = pd.DataFrame({"class": range(len(names)), "classname": names})
    if result.n:
        counts = result.confusion.sum(axis=1)
        interval = np.array([metrics.wilson_interval(int(right), int(n)) if n else (np.nan, np.nan)
                             for right, n in zip(np.diag(result.confusion), counts)])
        table = table.assign(images=counts, accuracy=result.per_class_accuracy, accuracy_low=interval[:, 0], accuracy_high=interval[:, 1],
                             precision=result.per_class_precision, margin=result.cmm["image"])
    table = table.assign(predicted=np.bincount(result.predictions, minlength=len(names)), margin_no_labels=result.cmm["pseudo_image"])
    return table.sort_values(["accuracy", "margin"] if result.n else "margin_no_labels", kind="stable", ignore_index=True)


def _explained(chosen: np.ndarray, result: EvaluationResult, names: list[str]) -> pd.DataFrame:
    """The chosen classes, each with a verdict as far as there are labels."""
    classifier = result.classifier
    if result.n:
        return explain_classes(chosen, result.confusion, result.cmm["image"], classifier, names).reset_index()
    rows = []
    for c in chosen:
        mine = result.predictions == c
        rival = int(np.bincount(result.rivals[mine]).argmax())
        cosine = float(classifier[c] @ classifier[rival])
        same = cosine > 1 - SAME_TEXT or any({c, rival} <= set(group) for group in prompts.near_twins(names).values())
        rows.append({
            "class": int(c), "classname": names[c], "verdict": "name collision" if same else "narrow margin", "predicted": int(mine.sum()),
            "sentence": f"{mine.sum()} images are called this, over {names[rival]!r} most often ({(result.rivals[mine] == rival).sum()} of them); "
                        f"the cosine of the two texts is {cosine:.2f}.",
            "margin": float(result.cmm["pseudo_image"][c]), "rival": names[rival], "rival_cosine": cosine,
        })
    return pd.DataFrame(rows)


def _wordings(model: Model, vectors, base: EvaluationResult, banks: dict, texts: dict[int, list[str]], k: int) -> pd.DataFrame:
    """Other wordings on the same images, and by how much each differs from the audited one."""
    tried = {name: unit_norm(bank.mean(axis=0)) for name, bank in banks.items()}
    tried = {name: classifier for name, classifier in tried.items() if not np.array_equal(classifier, base.classifier)}
    last = list(banks)[-1]
    tried[f"{last}, weighted by margin"] = ensemble.weighted_classifier(banks[last], ensemble.prompt_weights(vectors, banks[last]))
    flagged = margin.worst_first(base.cmm["pseudo_image"])[: max(k, base.num_classes // 10)]  # as the paper: only the worst, found without labels
    if described := [int(c) for c in flagged if c in texts]:
        bank = {c: encode_texts(model, texts[c]) for c in described}
        tried["descriptions"] = ensemble.description_classifier(base.classifier, bank, vectors)[0]
    sure, rows = 1 - 0.05 / len(tried), []  # intervals that hold for all rows at once
    for name, classifier in tried.items():
        result = evaluate(vectors, classifier, base.labels)
        row = {"wording": name, "changed": float((result.predictions != base.predictions).mean())}
        if base.n:
            known = base.labels >= 0
            right, before = result.predictions[known] == base.labels[known], base.predictions[known] == base.labels[known]
            gain, (low, high) = metrics.paired_difference(right, before, confidence=sure)
            tail = worst.paired_tail_difference(result.predictions, base.predictions, base.labels, base.num_classes, k, confidence=sure)
            row |= {"accuracy": result.accuracy, "accuracy_change": gain, "accuracy_low": low, "accuracy_high": high}
            row |= {f"worst_{k}{end}": tail.loc["worst_k", column] for end, column in
                    (("", "a"), ("_change", "difference"), ("_low", "low"), ("_high", "high"))}
            row["classes_at_zero"] = int(tail.loc["classes_at_zero", "a"])
        rows.append(row)
    return pd.DataFrame(rows)


def _images(result: EvaluationResult, data: LabeledImages) -> pd.DataFrame:
    names = np.array([*data.classnames, None], dtype=object)  # the last is that of -1: unknown
    return pd.DataFrame({"id": [plain_text(name) for name in data.ids], "label": names[data.labels], "prediction": names[result.predictions],
                         "similarity": result.topk_similarity[:, 0].astype(float), "margin": result.margins.astype(float),
                         "rival": names[result.rivals], "label_class": data.labels, "prediction_class": result.predictions})


def _pictures(data: LabeledImages, images: pd.DataFrame, bad: pd.DataFrame) -> dict[str, list]:
    """Thumbnails with captions: of each bad class the images that speak against it most, and those whose label is doubtful."""
    wanted, labelled = {}, bool((data.labels >= 0).any())
    rank = images.sort_values("margin", kind="stable")
    for c in bad["class"].head(MOST_PICTURES // PICTURES):
        wanted[str(c)] = rank.index[rank["label_class" if labelled else "prediction_class"] == c][:PICTURES]
    if labelled:
        wanted["labels"] = rank.index[rank["margin"] < 0][: 2 * PICTURES]
    found = {}
    for key, rows in wanted.items():
        found[key] = []
        for i in rows:
            row = images.loc[i]
            of = f"labelled {short(row['label'])}, " if key == "labels" else ""
            said = f"called {short(row['prediction'])}" if labelled else f"nearly {short(row['rival'])}"
            if labelled and row["label_class"] == row["prediction_class"]:
                said = f"right, nearly {short(row['rival'])}"
            found[key].append({"source": _thumbnail(data[i][0]), "caption": of + said, "id": short(row["id"], 200)})
    return found


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    image.save(file := io.BytesIO(), "WEBP", quality=75)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _advice(summary: dict, left_out: str | None, findings, bad: pd.DataFrame, wordings: pd.DataFrame, result: EvaluationResult) -> list[str]:
    """What to do first, in plain words; each sentence stands on a number of the report."""
    steps = []
    if summary["unreadable"]:
        steps.append(f"Replace or remove the {summary['unreadable']} {'file' if summary['unreadable'] == 1 else 'files'} that could not be read: no score counts on them.")
    if left_out:
        steps.append(f"See whether something is missing: {short(left_out, 350)}.")
    for what, group in pd.DataFrame([(f.what, f) for f in findings], columns=["what", "finding"]).groupby("what", sort=False)["finding"]:
        more = f" ({len(group) - 1} more below)" if len(group) > 1 else ""
        steps.append(f"Mend the names: {short(str(group.iloc[0]), 250)}{more}.")
    if not result.n:
        steps.append(f"Look at the images of {first_names(bad)}, and label some thirty images of each: only labels tell how often the model is wrong.")
        if summary["never_predicted"]:
            steps.append(f"If some of the {summary['never_predicted']} classes that were never predicted are in these images, the model misses "
                        "them altogether: check one you know to be there.")
        return steps
    guessing = summary["accuracy_ci"][0] <= summary["chance"]
    if guessing:
        steps.append("On these images the model is not better than guessing beyond chance: check that the names say what the images show, or take "
                    "another model.")
    better = wordings[wordings["accuracy_low"] > 0].sort_values("accuracy", ascending=False, kind="stable")
    if len(better):
        best = better.iloc[0]
        steps.append(f"Change the wording to '{best['wording']}': {best['accuracy']:.1%} right instead of {summary['accuracy']:.1%}, and "
                    f"{best['classes_at_zero']} classes at 0 % instead of {summary['classes_at_zero']}.")
    if summary["classes_at_zero"]:
        steps.append(f"Do not rely on the model for the {summary['classes_at_zero']} classes of which no image was recognised; route them to a "
                    "person.")
    for verdict, what in (("name collision", "Give {} a name of its own: its images go to a class with the same name or text."),
                          ("near-synonym", "Reword {}, or merge it with the class it is taken for: their texts say nearly the same."),
                          ("visual confusion", "Look at the images of {} beside those of the class they are taken for: if their labels are "
                           "right, the model cannot tell the two apart; describe in words what differs, or train on examples.")):
        if len(rows := bad[bad["verdict"] == verdict]):
            steps.append(what.format(first_names(rows)))
    few = bad.attrs["min_images"]
    images = result.confusion.sum(axis=1)
    if not guessing and (count := int(((images > 0) & (images < few)).sum())):
        steps.append(f"Add images to the {count} classes with fewer than {few}: too few to tell a bad class from an average one.")
    return steps or ["Nothing stands out: no class is at 0 %, no name collides, and no other wording is better beyond chance."]
