"""`clipnb audit`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from clipnb._files import path_of
from clipnb.cli._options import (
    check_target,
    dataset_option,
    examples,
    fix_names_option,
    json_option,
    model_options,
    store_option,
    templates_option,
    worst_option,
)
from clipnb.cli._output import note, report_precision, write_json
from clipnb.cli._predictions import Exports, Given, exports_options, predictions_options
from clipnb.errors import InputError
from clipnb.prompts import load_templates

Gates = list[tuple[str, float]]


def _parse_gates(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Gates:
    try:
        return [(name.strip(), float(bound)) for name, _, bound in (value.partition("=") for value in values)]
    except ValueError:
        message = "Expected --fail-under as NAME=NUMBER, such as classes_at_zero=0"
        raise InputError(f"{message}, got {' '.join(values)}") from None


EXAMPLES = examples(
    r"""
  clipnb audit --dataset folder:photos --out report.html
  clipnb audit --dataset folder:photos --classes names.txt    # no labels
  clipnb audit --predictions anyones.csv --out report.html    # no model
  clipnb audit --dataset table:photos.csv \
      --model ViT-B-32 --pretrained openai --json b.json
  clipnb audit --compare a.json b.json --fail-under classes_killed=0
"""
)


@click.command(epilog=EXAMPLES)
@predictions_options
@dataset_option
@fix_names_option
@model_options
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="File of classnames: a list for unlabelled images (.txt, .json, COCO), or better names (.json or .csv: "
    "folder, "
    "name, synonyms).",
)
@templates_option("bare")
@click.option(
    "--descriptions",
    type=click.Path(path_type=Path),
    help="JSON file of descriptions by class, which are tried as another wording.",
)
@click.option(
    "--words",
    type=click.Path(path_type=Path),
    help="File of words, one a line, that name the groups of images inside a class that are often wrong; default: the "
    "classnames.",
)
@store_option
@worst_option("How many worst classes to explain.")
@click.option("--out", callback=check_target, help="HTML page to write: one file that opens without a network.")
@exports_options
@json_option
@click.option(
    "--csv", "csv_folder", type=click.Path(path_type=Path, file_okay=False), help="Folder for one CSV file per table."
)
@click.option(
    "--compare",
    "compared",
    nargs=2,
    metavar="A.json B.json",
    help="Compare two audits of the same images (files written by --json) instead of making one.",
)
@click.option(
    "--fail-under",
    "gates",
    multiple=True,
    callback=_parse_gates,
    metavar="NAME=NUMBER",
    help="Exit with code 3 if this score of the JSON's summary is lower than NUMBER (a count of failures, such as "
    "classes_at_zero: higher). Choose a score whose interval holds: classes_at_zero, worst_10_truly_worst (at "
    "least ten images a class and 500 in all), worst_10_split_half, accuracy; the naive worst_10 reads too low. May be "
    "repeated.",
)
def audit(
    dataset: str,
    fix_names: bool,
    source: dict,
    classes: Path | None,
    templates: str,
    descriptions: Path | None,
    words: Path | None,
    store: Path | None,
    worst_k: int,
    out: str | None,
    json_file: str | None,
    csv_folder: Path | None,
    compared: tuple[str, str] | None,
    gates: Gates,
    given: Given,
    exports: Exports,
) -> None:
    """Find the classes of your data that the model fails on, why, and what to do first: as a page, JSON and CSV."""
    from clipnb import report as reports

    if given.file:
        report = given.report(classes, worst_k)
        for line in report.summary.get("remarks", []):
            note(line)
    elif compared:
        report = reports.compare(*map(reports.Report.load, compared))
    else:
        report = reports.audit(
            dataset,
            **source,
            classes=classes,
            templates=load_templates(templates) if path_of(templates, "--templates").is_file() else templates,
            descriptions=descriptions,
            words=words,
            worst_k=worst_k,
            store=store,
            fix_names=fix_names,
            progress=sys.stderr.isatty(),
        )
        report_precision(report.summary)
        for line in report.account:
            note(line)
    missed = reports.missed_gates(report.summary, dict(gates))
    exports.write_of(report, json_file)
    if out:
        report.to_html(out)
    if csv_folder:
        report.to_csv(csv_folder)
    if json_file and json_file != "-":
        report.to_json(json_file)
    if json_file == "-":
        write_json(report.to_dict(), json_file)
    else:
        click.echo(repr(report))
    for line in missed:
        note(line)
    if missed:
        click.get_current_context().exit(3)
