"""Many runs on the same images as one table, with paired tests and one correction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from clipnb import paired
from clipnb._checks import listed, text_of, whole_number
from clipnb._files import path_of, read_text
from clipnb.errors import InputError
from clipnb.intervals import Score
from clipnb.predictions import Predictions, keys_of, read_predictions, same_images
from clipnb.report._page import FORMAT, ReportPage, as_table, short

ABOUT = ("model", "pretrained", "dataset", "templates", "n", "classes")
SAME = ("dataset", "dataset_fingerprint", "n", "classes")  # of runs whose predictions are not at hand
TESTED = ("accuracy", "worst_k_chosen", "classes_at_zero")  # the statistics that `paired` gives a verdict on
SHOWN = ("accuracy", "recall_at_5", "mean_per_class_accuracy", "worst_10_split_half", "classes_at_zero")


@dataclass(frozen=True)
class _Run:
    name: str
    path: Path
    summary: dict[str, Any]
    predictions: Predictions | None
    remark: str | None = None


@dataclass(frozen=True, repr=False)
class RunTable(ReportPage):
    """The result of `tabulate`: one row a run, in the order given.

    Attributes:
        runs: run, model and data, each score with the columns `<score>`, `<score>_low` and `<score>_high`, and, where
            the predictions
            are known, the change of a score from the first run with its interval, p-value and verdict.
    """

    runs: pd.DataFrame

    @property
    def title(self) -> str:
        """Heading of the page."""
        return "Runs on the same images"

    @property
    def first(self) -> str:
        """Heading of the advice."""
        return "How to read it"

    @property
    def lead(self) -> str:
        """One sentence below the heading."""
        return f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''} on {self.summary['images']} labelled images."

    def __repr__(self) -> str:
        return "\n".join([self.lead, *self.advice, "", self.text().to_string(index=False)])

    def text(self) -> pd.DataFrame:
        """The table as people read it: each score with its interval in one cell."""
        columns: dict[str, list[str]] = {"run": [short(str(name), 40) for name in self.runs["run"]]}
        for name in SHOWN:
            if name in self.runs and bool(self.runs[name].notna().any()):
                spec = ".0f" if name == "classes_at_zero" else ".1%"
                columns[name.replace("_", " ")] = [_shown(row, name, spec) for row in self.runs.to_dict("records")]
        for name in TESTED:
            name = next(
                (c.removesuffix("_verdict") for c in self.runs if c.endswith("_verdict") and _is(c, name)), None
            )
            if name:
                columns[f"{name.replace('_', ' ')}: verdict"] = [
                    "-"
                    if not isinstance(row[f"{name}_verdict"], str)
                    else f"{row[f'{name}_verdict']} (p = {row[f'{name}_p']:.2g})"
                    for row in self.runs.to_dict("records")
                ]
        return pd.DataFrame(columns)

    def sections(self) -> Iterator[dict]:
        """Title, text and table of each section of the page."""
        yield {"title": "The runs", "text": "Each score with its 95 % interval.", **as_table(self.text())}
        yield {"title": "Every number", "fold": True, **as_table(self.runs)}

    def latex(self) -> str:
        """The table as LaTeX (booktabs)."""
        text = self.text().rename(columns=_escaped).map(_escaped)
        lines = [" & ".join(row) + r" \\" for row in text.itertuples(index=False)]
        head = " & ".join(text.columns) + r" \\"
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{'l' * text.shape[1]}}}",
                r"\toprule",
                head,
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )


def tabulate(paths: Sequence[str | Path], k: int = 10, made: str | None = None) -> RunTable:
    """Put runs on the same images into one table, each held against the first.

    Runs are tested where their predictions are known: a run names the file that `--predictions-out` wrote, and an audit
    lists its images. All p-values and intervals of one statistic are corrected for the number of runs held against the
    first (Bonferroni).

    Args:
        paths: files that `clipnb evaluate --json` or `clipnb audit --json` wrote.
        k: how many of the first run's worst classes the comparison of the tail chooses.
        made: time stamp in the page; None: now.

    Raises:
        InputError: a file is not such a run, has no labels, or is about other images than the first.

    >>> from tempfile import TemporaryDirectory
    >>> run = {"model": "a", "dataset": "emoji", "n": 4, "classes": 2, "accuracy": 0.5, "accuracy_ci": [0.1, 0.9]}
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.json").write_text(json.dumps(run))
    ...     tabulate([Path(folder, "a.json")], made="today").lead
    '1 run on 4 labelled images.'
    """
    k = whole_number(k, "k", 1)
    paths = listed(paths, "paths", "files")
    if not paths:
        raise InputError("Expected at least one file in `paths`, got none")
    runs = [_load(path_of(path, "paths")) for path in paths]
    names = [run.name for run in runs]
    remarks = [run.remark for run in runs if run.remark]
    rows = []
    base = runs[0]
    for run in runs:
        row: dict[str, Any] = {"run": run.name if names.count(run.name) == 1 else str(run.path)}
        row |= {key: _flat(run.summary.get(key)) for key in ABOUT}
        for name in [key.removesuffix("_ci") for key in run.summary if key.endswith("_ci")]:
            low, high = run.summary[f"{name}_ci"] or (None, None)
            row |= {name: run.summary.get(name), f"{name}_low": low, f"{name}_high": high}
        if run is not base:
            row |= _held_against(run, base, k, len(runs) - 1)
        rows.append(row)
    tested = [run for run in runs[1:] if run.predictions is not None and base.predictions is not None]
    advice = [*remarks]
    if tested:
        advice.insert(
            0,
            f"Verdicts hold each run against {short(names[0], 40)} on the same images, corrected for {len(runs) - 1} "
            f"comparison{'s' if len(runs) > 2 else ''}; 'no' means no more than chance explains.",
        )
    elif len(runs) > 1:
        advice.insert(
            0, "No paired tests: the predictions are not known; write them with --predictions-out, or use audits."
        )
    summary = {
        "images": base.summary["n"],
        "comparisons": len(tested),
        "made": text_of(made, "made") if made is not None else datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return RunTable(
        summary=summary, advice=advice or ["Each score stands beside its 95 % interval."], runs=pd.DataFrame(rows)
    )


def _load(path: Path) -> _Run:
    """One run with its predictions, if they are at hand."""
    expected = f"Expected a run that `clipnb evaluate --json` or `clipnb audit --json` wrote, got {path}"
    try:
        content = json.loads(read_text(path))
        is_audit = content.get("format") == FORMAT
        summary = dict(content["summary"] if is_audit else content)
        images = content.get("images") if is_audit else None
        if is_audit and str(content.get("kind")) == "Upgrade":
            raise InputError(f"{expected}, which compares two audits")
        if not (isinstance(summary.get("n"), int) and isinstance(summary.get("accuracy"), float)):
            raise InputError(f"{expected}, which holds no scores of labelled images")
        named = summary.get("predictions_file")
        if isinstance(named, str):
            file = path.parent / named
            if not file.is_file():
                return _Run(path.stem, path, summary, None, f"{path} names predictions in {named}, which is not there.")
            return _Run(path.stem, path, summary, read_predictions(file))
        if isinstance(images, list) and images:
            return _Run(path.stem, path, summary, _listed_images(images, content["classes"], path))
        return _Run(path.stem, path, summary, None)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{expected}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{expected}, which holds something else") from None


def _listed_images(images: list[dict], classes: list[dict], path: Path) -> Predictions:
    """The predictions that an audit lists."""
    ids = pa.array([str(row["id"]) for row in images], pa.string())
    labels = np.array([row["label_class"] for row in images], np.int16)
    predictions = np.array([row["prediction_class"] for row in images], np.int16)
    names = [str(row["classname"]) for row in sorted(classes, key=lambda row: row["class"])]
    return Predictions(
        str(path), names, labels, predictions, predictions[:, None], None, keys_of(ids), lambda: iter([ids])
    )


def _held_against(run: _Run, base: _Run, k: int, comparisons: int) -> dict[str, Any]:
    """How a run differs from the first, or the reason why the two cannot stand in one table."""
    if run.predictions is None or base.predictions is None:
        for key in SAME:
            mine, theirs = run.summary.get(key), base.summary.get(key)
            if mine is not None and theirs is not None and mine != theirs:
                raise InputError(
                    f"Expected runs on the same images, got {key} {theirs} in {base.path} and {mine} in {run.path}"
                )
        return {}
    rows = same_images(base.predictions, run.predictions)
    differences = paired.differences_of_predictions(
        run.predictions.predictions[rows],
        base.predictions.predictions,
        base.predictions.labels,
        len(base.predictions.classnames),
        k,
        comparisons=comparisons,
    )
    columns: dict[str, Any] = {}
    for statistic in TESTED:
        if statistic in differences:
            difference = differences[statistic]
            name = statistic.replace("worst_k", f"worst_{k}")
            low, high = difference["ci"] or (None, None)
            columns |= {
                f"{name}_change": difference["value"],
                f"{name}_change_low": low,
                f"{name}_change_high": high,
                f"{name}_p": difference["p"],
                f"{name}_verdict": difference["verdict"],
            }
    return columns


def _is(column: str, statistic: str) -> bool:
    """Whether a column is about a statistic, whose k may be any number."""
    first, _, last = statistic.partition("_k_")
    return column == f"{statistic}_verdict" or bool(
        last and column.startswith(first) and column.endswith(f"{last}_verdict")
    )


def _shown(row: dict[str, Any], name: str, spec: str) -> str:
    numbers = [np.nan if row.get(key) is None else float(row[key]) for key in (name, f"{name}_low", f"{name}_high")]
    score = Score(*numbers)
    return "-" if np.isnan(score.value) and not score.has_interval else format(score, spec)


def _flat(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _escaped(text: Any) -> str:
    """A text as LaTeX shows it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(char, f"\\{char}" if char in "&%$#_{}" else char) for char in str(text))
