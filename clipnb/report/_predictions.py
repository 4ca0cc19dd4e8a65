"""Audits of predictions: the report that needs no model, and the comparison of two files of predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageOps

from clipnb import prompts
from clipnb._checks import require_attribute, text_of, whole_number
from clipnb._files import path_of
from clipnb._format import percent, thumbnail
from clipnb.datasets import every_second
from clipnb.errors import InputError
from clipnb.evaluation import EvaluationResult
from clipnb.explain import explain_classes, order_finding
from clipnb.intervals import proportion
from clipnb.predictions import Predictions, read_predictions, same_images
from clipnb.report._page import as_score_table, as_table, cell, first_names, plain_text, short
from clipnb.report._report import Report
from clipnb.report._routing import route, routing_advice, zero_advice
from clipnb.report._slices import MAX_SHOWN as MAX_SLICES
from clipnb.report._slices import slice_advice, slice_section, slice_summary, slice_table
from clipnb.report._upgrade import Upgrade, upgrade_of
from clipnb.slices import Slice, SliceSearch, find_slices
from clipnb.worst import worst_classes

MAX_LISTED = 100_000  # images of a report's table; larger files are not copied into it
MAX_CONFUSIONS = 1000
MAX_SEARCHED = 10**6  # images in which slices are looked for, which takes some 100 bytes for each
SHOWN = 4  # images of each bad class
MAX_SHOWN = 240  # images in one page, which bounds its size
SIDE = 112  # pixels of a thumbnail


@dataclass(frozen=True, repr=False)
class PredictionsReport(Report):
    """The result of `audit_predictions`: what a `Report` says without a model. Fractions are in [0, 1].

    `wordings`, `reliability` and `unreadable` are empty, and margins are missing or NaN.

    Attributes:
        confusions: the most frequent confusions: label, prediction, count, share of the label's images, and two class
            indices.
    """

    confusions: pd.DataFrame = field(default_factory=pd.DataFrame)
    predictions: Predictions | None = None

    @property
    def ids(self) -> list[str]:
        """The ids of all images, those that `images` does not list included."""
        return super().ids if self.predictions is None else self.predictions.ids()

    @property
    def lead(self) -> str:
        """One sentence: whose predictions, on how many images, how often they are right."""
        s = self.summary
        return (
            f"Predictions of {s['predictions']}: right on {percent(s['accuracy'])} of {s['n']} labelled images in "
            f"{s['classes_with_images']} of {s['classes']} classes; guessing would be right on "
            f"{percent(s['chance'], 2)}."
        )

    def sections(self) -> Iterator[dict]:
        """Title, text, table, cards and figure of each section of the page."""
        by_title = {section["title"]: section for section in self._common()}
        for title in ("Scores", "The worst classes"):
            yield by_title[title]
        yield {
            "title": "What is taken for what",
            "text": "The most frequent wrong answers, and their share of the images with that label.",
            **as_table(self.confusions.drop(columns=["label_class", "prediction_class"], errors="ignore").head(30)),
        }
        yield slice_section(self.slices, self.summary, self.thumbnails)
        for title in ("The names", "All classes"):
            yield by_title[title]

    def _common(self) -> Iterator[dict]:
        fits = "fit" if self.summary.get("worst_k_fits", True) else "do not fit"
        text = (
            "Each score has its 95 % interval where one can be given. The worst-k accuracy reads too low, because "
            "the same images "
            "choose the classes and measure them. 'Truly worst' estimates the classes that are truly the worst, "
            "whichever they are, "
            f"and 'listed' those that are listed; both rest on a family of distributions, which the counts {fits}. "
            f"'Split half' "
            "chooses on one half of the images and measures on the other."
        )
        yield {"title": "Scores", "text": text, **as_score_table(self.scores), "figure": self._figure()}
        yield {
            "title": "The worst classes",
            "text": "What the numbers say about the reason; without a model, nothing is known of texts and margins.",
            "cards": self._cards(),
        }
        yield {"title": "The names", "text": "Problems of the class names.", **as_table(self.findings)}
        yield {"title": "All classes", "fold": True, **as_table(self.classes)}

    def _cards(self) -> list[dict]:
        return [
            {
                "name": short(row["classname"]),
                "verdict": row["verdict"],
                "text": short(row["sentence"], 400),
                "numbers": [(column, cell(column, row[column])) for column in ("accuracy", "images")],
                "thumbnails": self.thumbnails.get(str(row["class"]), []),
            }
            for row in self.worst.to_dict("records")
        ]


def audit_predictions(
    predictions: str | Path | Predictions,
    *,
    images: str | Path | None = None,
    classnames: Sequence[str] | None = None,
    labels: npt.ArrayLike | str | Path | None = None,
    worst_k: int = 10,
    made: str | None = None,
) -> PredictionsReport:
    r"""Find the classes that anyone's predictions get wrong, with every number of `audit` that needs no model.

    Args:
        predictions: a file for `read_predictions`, or what that returns.
        images: folder in which the ids of the file are paths: some images of each bad class are shown on the page.
        classnames: as for `read_predictions`.
        labels: as for `read_predictions`.
        worst_k: how many classes to explain (fewer if fewer classes have images).
        made: time stamp in the page; None: now. All else is the same for the same input.

    Raises:
        InputError: as `read_predictions`; no image has a label; no image of the file is in the folder.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("id,label,prediction\n1.jpg,cat,dog\n2.jpg,dog,dog\n")
    ...     report = audit_predictions(Path(folder, "a.csv"), made="today")
    >>> report.summary["accuracy"], report.worst["classname"].tolist()
    (0.5, ['cat', 'dog'])
    """
    worst_k = whole_number(worst_k, "worst_k", 1)
    folder = None if images is None else _folder(images)
    if isinstance(predictions, (str, Path)):
        predictions = read_predictions(path_of(predictions, "predictions"), classnames, labels)
    elif classnames is not None or labels is not None:
        raise InputError("Expected `classnames` and `labels` with a file of predictions, got them with Predictions")
    require_attribute(predictions, "predictions", "keys", "read_predictions")
    result, names = predictions.result(), predictions.classnames
    if not result.n:
        raise InputError(
            f"Expected labels in {predictions.source}, got {len(predictions)} rows without: nothing can be scored"
        )
    if len(names) < 2:
        raise InputError(
            f"Expected at least two classes in {predictions.source}, got {names[0]!r} only: every answer is right"
        )
    bad = worst_classes(result.per_class_accuracy, min(worst_k, int(np.isfinite(result.per_class_accuracy).sum())))
    explained = explain_classes(bad, result.confusion, None, None, names).reset_index()
    permuted = order_finding(result.predictions, result.labels, names)
    # Numbers, ids and file names make bad prompts, but predictions need none.
    odd = [
        finding
        for finding in prompts.lint(names, ("{}",))
        if "instead of a classname" not in finding.what and "--fix-names" not in finding.advice
    ]
    findings = [*([permuted] if permuted else []), *odd]
    scores = predictions.scores
    routed = {} if scores is None or np.isnan(scores).any() else route(scores, result.predictions, result.labels)
    search = _search(predictions)
    listed = len(predictions) <= MAX_LISTED
    remarks = []
    if not listed:
        remarks.append(f"the {len(predictions)} images are not listed in the report, which lists at most {MAX_LISTED}")
    if result.num_unlabelled:
        remarks.append(f"{result.num_unlabelled} rows without a label are in no score")
    table = _images(predictions, np.arange(len(predictions)) if listed else np.arange(0))
    found = [] if search is None else search.slices
    slices = slice_table(search or SliceSearch([], [], 0), result, names, lambda rows: predictions.ids(np.sort(rows)))
    thumbnails = {} if folder is None else _thumbnails(predictions, bad, found, folder, remarks)
    name = Path(predictions.source).name
    summary = {
        "dataset": name,
        "predictions": name,
        "images": len(predictions),
        "has_ids": predictions.has_ids,
        "remarks": remarks,
        "never_predicted": int((result.confusion.sum(axis=0) == 0).sum()),
        **result.summary(k=worst_k),
        **routed,
        **({} if search is None else slice_summary(search)),
        "made": text_of(made, "made") if made is not None else datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return PredictionsReport(
        summary=summary,
        advice=_advice(summary, findings, explained, slices, result),
        findings=pd.DataFrame(map(asdict, findings), columns=["what", "where", "advice"]),
        worst=explained.drop(columns=["margin", "rival_cosine", "nearest_text", "nearest_cosine", "to_synonyms"]),
        classes=_classes(result, names),
        wordings=pd.DataFrame(),
        reliability=pd.DataFrame(),
        unreadable=pd.DataFrame(),
        images=table,
        slices=slices,
        confusions=_confusions(result, names),
        thumbnails=thumbnails,
        result=result,
        predictions=predictions,
    )


def compare_predictions(
    a: str | Path | Predictions,
    b: str | Path | Predictions,
    *,
    classnames: Sequence[str] | None = None,
    labels: npt.ArrayLike | str | Path | None = None,
    worst_k: int = 10,
    made: str | None = None,
) -> Upgrade:
    r"""Compare two files of predictions on the same images: what B gains over A, and which classes pay for it.

    Rows are matched by their ids, whatever their order; files without ids are matched row by row.

    Args:
        a: a file for `read_predictions`, or what that returns.
        b: the other one.
        classnames: as for `read_predictions`, of both files.
        labels: as for `read_predictions`, of both files.
        worst_k: how many of A's worst classes the comparison of the tail chooses.
        made: time stamp in the page; None: now.

    Raises:
        InputError: as `read_predictions`, or the files differ in their images, classes or labels.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     paths = [Path(folder, name) for name in ("a.csv", "b.csv")]
    ...     _ = paths[0].write_text("id,label,prediction\n1,cat,dog\n2,dog,dog\n")
    ...     _ = paths[1].write_text("id,label,prediction\n2,dog,dog\n1,cat,cat\n")
    ...     compare_predictions(*paths, made="today").summary["accuracy_change"]
    0.5
    """
    worst_k = whole_number(worst_k, "worst_k", 1)
    made = text_of(made, "made") if made is not None else datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    read = [read_predictions(side, classnames, labels) if isinstance(side, (str, Path)) else side for side in (a, b)]
    rows = same_images(*read)
    if not (read[0].labels >= 0).any():
        raise InputError(f"Expected labels in {read[0].source}, got {len(rows)} rows without: nothing can be compared")
    about = {
        side: {"predictions": Path(one.source).name, "dataset": Path(one.source).name, "made": made}
        for side, one in zip("ab", read)
    }
    k = min(worst_k, len(np.unique(read[0].labels[read[0].labels >= 0])))
    return upgrade_of(read[0].predictions, read[1].predictions[rows], read[0].labels, read[0].classnames, k, about)


def _folder(images: str | Path) -> Path:
    folder = path_of(images, "images").expanduser()
    if not folder.is_dir():
        raise InputError(f"Expected `images` to be a folder, got {folder}")
    return folder.resolve()


def _classes(result: EvaluationResult, names: list[str]) -> pd.DataFrame:
    """All classes, worst first; those without images last."""
    right, images = result.correct_and_total
    scores = [proportion(int(hits), int(n)) for hits, n in zip(right, images)]
    table = pd.DataFrame(
        {
            "class": range(len(names)),
            "classname": names,
            "images": images,
            "accuracy": [score.value for score in scores],
            "accuracy_low": [score.low for score in scores],
            "accuracy_high": [score.high for score in scores],
            "precision": result.per_class_precision,
            "predicted": result.confusion.sum(axis=0),
        }
    )
    return table.sort_values("accuracy", kind="stable", ignore_index=True)


def _confusions(result: EvaluationResult, names: list[str]) -> pd.DataFrame:
    """The most frequent confusions."""
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    cells = np.flatnonzero(wrong)
    cells = cells[np.argsort(-wrong.flat[cells], kind="stable")[:MAX_CONFUSIONS]]
    actual, predicted = np.divmod(cells, result.num_classes)
    return pd.DataFrame(
        {
            "label": [names[c] for c in actual],
            "prediction": [names[c] for c in predicted],
            "count": wrong[actual, predicted],
            "share": wrong[actual, predicted] / result.correct_and_total[1][actual],
            "label_class": actual,
            "prediction_class": predicted,
        }
    )


def _search(predictions: Predictions) -> SliceSearch | None:
    """Slices by the best class other than the label, if the file has more than one class for each image and is not
    too long.
    """
    if predictions.topk.shape[1] < 2 or len(predictions) > MAX_SEARCHED:
        return None
    first, second = predictions.topk[:, 0], predictions.topk[:, 1]
    labels = predictions.labels
    rivals = np.where(first == labels, second, first)
    classes = np.unique(labels[labels >= 0])
    return find_slices(predictions.predictions, labels, every_second(labels), classes, rivals=rivals)


def _images(predictions: Predictions, rows: np.ndarray) -> pd.DataFrame:
    names = np.array([*predictions.classnames, None], dtype=object)
    labels, predicted = predictions.labels[rows], predictions.predictions[rows]
    table = {
        "id": [plain_text(text) for text in predictions.ids(rows)],
        "label": names[labels],
        "prediction": names[predicted],
        "label_class": labels.astype(int),
        "prediction_class": predicted.astype(int),
    }
    if predictions.scores is not None:
        table["score"] = predictions.scores[rows].astype(float)
    return pd.DataFrame(table)


def _thumbnails(
    predictions: Predictions, bad: np.ndarray, slices: Sequence[Slice], folder: Path, remarks: list[str]
) -> dict[str, list]:
    """Images with a wrong answer of each bad class and slice, the highest scores first; one that is missing is a
    remark.
    """
    scores = (
        np.zeros(len(predictions)) if predictions.scores is None else np.nan_to_num(predictions.scores, nan=-np.inf)
    )
    groups = {str(c): np.flatnonzero(predictions.labels == c) for c in bad[: MAX_SHOWN // SHOWN]}
    groups |= {f"slice {i}": part.members for i, part in enumerate(slices[:MAX_SLICES])}
    wanted: dict[int, list[str]] = {}  # row -> groups
    for key, rows in groups.items():
        rows = rows[predictions.predictions[rows] != predictions.labels[rows]]
        for row in rows[np.argsort(-scores[rows], kind="stable")][:SHOWN].tolist():
            wanted.setdefault(row, []).append(key)
    rows = sorted(wanted)
    shown: dict[str, list] = {}
    missing: list[str] = []
    for row, text in zip(rows, predictions.ids(rows)):
        source = _thumbnail(folder, text)
        if source is None:
            missing.append(text)
            continue
        caption = f"called {short(predictions.classnames[predictions.predictions[row]])}"
        for key in wanted[row]:
            image = {"source": source, "caption": caption, "id": short(plain_text(text), 200)}
            shown.setdefault(key, []).append(image)
    if missing and not shown:
        raise InputError(
            f"Expected the ids of {predictions.source} as paths in {folder}, got {missing[0]!r}, which is not an "
            f"image there"
        )
    if missing:
        remarks.append(
            f"{len(missing)} of {len(rows)} images of bad classes are not in {folder.name}, such as {missing[0]!r}"
        )
    return shown


def _thumbnail(folder: Path, text: str) -> str | None:
    """An image inside the folder, by the path in an id or by the last part of that; None if there is none."""
    for part in (Path(text), Path(Path(text).name)):
        try:
            file = (folder / part).resolve()
            if file.is_relative_to(folder) and file.is_file():
                with Image.open(file) as image:
                    return thumbnail(ImageOps.exif_transpose(image), SIDE)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return None


def _advice(
    summary: dict,
    findings: Sequence[prompts.Finding],
    bad: pd.DataFrame,
    slices: pd.DataFrame,
    result: EvaluationResult,
) -> list[str]:
    """What to do first; each sentence rests on a number of the report."""
    steps = []
    by_kind: dict[str, list[prompts.Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.what, []).append(finding)
    for group in by_kind.values():
        more = f" ({len(group) - 1} more below)" if len(group) > 1 else ""
        steps.append(f"Check the class names: {short(str(group[0]), 250)}{more}.")
    guessing = summary["accuracy_ci"][0] <= summary["chance"]
    if guessing:
        steps.append(
            "The predictions are not better than guessing beyond chance: check that labels and predictions number "
            "the classes alike."
        )
    steps += zero_advice(result, "predictions") + routing_advice(summary)
    for kind, advice in (
        ("name collision", "Give {} a name of its own: its images go to a class with nearly the same name."),
        (
            "visual confusion",
            "Look at the images of {} beside those of the class they are taken for: one rival takes more of them "
            "than chance explains.",
        ),
    ):
        if len(rows := bad.loc[bad["verdict"] == kind]):
            steps.append(advice.format(first_names(rows)))
    steps += slice_advice(slices)
    few = bad.attrs.get("min_images")
    images = result.correct_and_total[1]
    if few and not guessing and (count := int(((images > 0) & (images < few)).sum())):
        steps.append(
            f"Add images to the {'class' if count == 1 else f'{count} classes'} with fewer than {few}: too few to tell "
            f"a bad class from an average one."
        )
    return steps or [
        "Nothing stands out: no class is at 0 %, no name collides, and no rival takes more than chance explains."
    ]
