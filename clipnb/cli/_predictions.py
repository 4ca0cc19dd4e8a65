"""Options for predictions: files of them in place of a model, and what is written of a run besides its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipnb.cli._options import check_target, options

if TYPE_CHECKING:
    from clipnb.evaluation import EvaluationResult
    from clipnb.report import PredictionsReport, Report, Upgrade

# Options of `audit` that say which model sees which images; predictions come from elsewhere.
OF_MODELS = set(
    "dataset fix_names model pretrained device precision trust_pickle like "
    "templates descriptions words store compared".split()
)


@dataclass(frozen=True)
class Given:
    """Predictions in place of a model."""

    file: Path | None
    other: Path | None
    images: Path | None
    labels: Path | None

    def report(self, classes: Path | None, worst_k: int) -> PredictionsReport | Upgrade:
        """Return the audit of the file, or the comparison of both."""
        from clipnb import report as reports
        from clipnb.datasets import read_classnames

        assert self.file is not None
        common: dict[str, Any] = {
            "classnames": read_classnames(classes) if classes else None,
            "labels": self.labels,
            "worst_k": worst_k,
        }
        if self.other:
            return reports.compare_predictions(self.file, self.other, **common)
        return reports.audit_predictions(self.file, images=self.images, **common)


def predictions_options(command: Callable) -> Callable:
    """Options that take predictions in place of a model, given to the command as `given`."""

    @wraps(command)
    def gathered(
        predictions: Path | None,
        compare_predictions: Path | None,
        images: Path | None,
        labels: Path | None,
        **others: Any,
    ) -> Any:
        context = click.get_current_context()
        together = {"--compare-predictions": compare_predictions, "--images": images, "--labels": labels}
        if predictions is None and any(together.values()):
            raise click.UsageError(
                f"Expected --predictions with {next(name for name, value in together.items() if value)}"
            )
        if compare_predictions and images:
            raise click.UsageError("Expected --images without --compare-predictions, which shows no images")
        if predictions is not None:
            typed = click.core.ParameterSource.COMMANDLINE
            extra = [
                p.opts[0]
                for p in context.command.params
                if p.name in OF_MODELS and context.get_parameter_source(p.name) is typed
            ]
            if extra:
                raise click.UsageError(f"Expected --predictions without {', '.join(extra)}: no model is run")
        return command(given=Given(predictions, compare_predictions, images, labels), **others)

    return options(
        click.option(
            "--predictions",
            type=click.Path(path_type=Path),
            help="File of predictions, in place of a model: CSV, Parquet, JSON lines (columns id, label, prediction, "
            "or one column a class), .npy, .npz.",
        ),
        click.option(
            "--compare-predictions",
            type=click.Path(path_type=Path),
            help="Second file of predictions on the same images: what does it gain over the first?",
        ),
        click.option(
            "--images",
            type=click.Path(path_type=Path),
            help="Folder in which the ids of --predictions are paths, to show images.",
        ),
        click.option(
            "--labels", type=click.Path(path_type=Path), help="Labels (.npy) of a file of predictions without them."
        ),
    )(gathered)


@dataclass(frozen=True)
class Exports:
    """Files that a run writes besides its report."""

    predictions: str | None
    card: str | None

    def write_of(self, report: Report | Upgrade, json_file: str | None) -> None:
        """Write the files of an audit."""
        if not (self.predictions or self.card):
            return
        from clipnb.report import Report

        if not isinstance(report, Report):
            raise click.UsageError(
                "Expected --predictions-out and --model-card with an audit, got the comparison of two"
            )
        names = report.classes.sort_values("class")["classname"].tolist()
        self.write(report.summary, report.ids, report.result, names, json_file)

    def write(
        self,
        summary: dict[str, Any],
        ids: Sequence[str],
        result: EvaluationResult | None,
        classnames: Sequence[str],
        json_file: str | None,
    ) -> None:
        """Write the files; the summary names the file of predictions, as the JSON file beside it finds it."""
        if self.predictions and result is not None:
            from clipnb.predictions import write_predictions

            about = {
                key: summary[key] for key in ("model", "pretrained", "model_fingerprint", "dataset") if key in summary
            }
            write_predictions(self.predictions, ids, result, classnames, about)
            folder = Path(json_file).parent if json_file and json_file != "-" else Path()
            summary["predictions_file"] = Path(os.path.relpath(self.predictions, folder)).as_posix()
        if self.card:
            from clipnb.report import write_model_card

            write_model_card(self.card, summary)


def exports_options(command: Callable) -> Callable:
    """Options for files besides the report, given to the command as `exports`."""

    @wraps(command)
    def gathered(predictions_out: str | None, model_card: str | None, **others: Any) -> Any:
        return command(exports=Exports(predictions_out, model_card), **others)

    return options(
        click.option(
            "--predictions-out",
            callback=check_target,
            help="Parquet file to write: id, label, prediction, the five best classes with similarities, margin.",
        ),
        click.option(
            "--model-card", callback=check_target, help="Hugging Face model card to write, with model-index metadata."
        ),
    )(gathered)
