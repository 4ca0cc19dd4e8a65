"""`clipnb reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from clipnb.cli._options import (
    examples,
    fix_names_option,
    json_option,
    model_options,
    store_option,
)
from clipnb.cli._output import facts_text, note, report_precision, rows_text, write_result

HEAD = ("model", "pretrained", "device", "precision", "dataset", "images", "classes", "complete")


EXAMPLES = examples(
    r"""
  clipnb reproduce --imagenet val --model ViT-B-32 --pretrained openai
  clipnb reproduce --rehearsal
"""
)


@click.command(epilog=EXAMPLES)
@click.option(
    "--imagenet",
    type=click.Path(path_type=Path),
    help="ImageNet's validation images: one folder per synset (with or without val/ above), or all in one folder "
    "with the "
    "development kit beside it.",
)
@click.option("--dataset", help="Another data set: torchvision:CIFAR100:PATH, folder:PATH, emoji, ...")
@click.option(
    "--rehearsal",
    is_flag=True,
    help="Run on a synthetic benchmark of ImageNet's shape, without a model or images, and check that the planted "
    "answers "
    "are found.",
)
@click.option(
    "--check",
    "check_file",
    type=click.Path(path_type=Path),
    help="JSON of an earlier run: check whether it agrees with the published figures.",
)
@model_options
@fix_names_option
@click.option(
    "--templates",
    show_default="drawing for sets of drawings, openai-80 for others",
    help="Templates of the ensembles: openai-7, openai-80, ..., or a file with one template a line.",
)
@click.option("--descriptions", help="JSON file of descriptions by class, for the rows with descriptions.")
@click.option(
    "--partial",
    is_flag=True,
    help="Accept other numbers of images per class than ImageNet's 50. The result is not compared with published "
    "figures.",
)
@click.option(
    "--pool/--no-pool",
    default=True,
    show_default=True,
    help="Also weight a pool of about 90 templates, which takes most of the time without a GPU.",
)
@store_option
@json_option
def reproduce(
    imagenet: Path | None,
    dataset: str | None,
    rehearsal: bool,
    check_file: Path | None,
    source: dict,
    fix_names: bool,
    templates: str | None,
    descriptions: str | None,
    partial: bool,
    pool: bool,
    store: Path | None,
    json_file: str | None,
) -> None:
    """Reproduce the paper's table: all methods and controls, with duplicate classnames fixed, next to published
    figures.

    Exit code 1 if --rehearsal misses a planted answer or --check finds no agreement; 2 for a folder with unexpected
    content.
    """
    from clipnb.paper import reproduce as experiment

    if sum(map(bool, (imagenet, dataset, rehearsal, check_file))) != 1:
        raise click.UsageError("Expected one of --imagenet, --dataset, --rehearsal, --check")
    if check_file:
        verdict = experiment.check_agreement(check_file)
        lines = [experiment.shown_published(line) for line in verdict["published"]]
        head = {name: value for name, value in verdict.items() if name != "published"}
        write_result(verdict, json_file, facts_text(head), rows_text("published", lines))
        sys.exit(0 if verdict["agrees"] else 1)
    if rehearsal:
        results = experiment.rehearse()
        write_result(results, json_file, *_tables(results))
        sys.exit(0 if all(line["ok"] for line in results["checks"]) else 1)
    results = experiment.run(
        imagenet,
        dataset,
        **source,
        templates=templates,
        descriptions=descriptions,
        partial=partial,
        pool=pool,
        store=store,
        fix_names=fix_names,
        progress=sys.stderr.isatty(),
    )
    report_precision(results)
    for line in results["account"]:
        note(line)
    write_result(results, json_file, *_tables(results))


def _tables(results: dict[str, Any]) -> list[str | None]:
    """Return the results as tables for people."""
    from clipnb.paper.reproduce import shown, shown_published

    tables: list[str | None] = [facts_text({name: results[name] for name in HEAD})]
    for spelling, rows in results["tables"].items():
        title = f"classnames {spelling} (worst-k: naive / chosen on half of the images)"
        tables.append(rows_text(title, [shown(row) for row in rows]))
    if results["dataset"].startswith("imagenet:"):
        tables.append(rows_text("published", [shown_published(line) for line in results["published"]]))
    for name in ("duplicates", "checks", "steps"):
        tables.append(rows_text(name, results.get(name) or []))
    not_run = [{"method": name, "reason": reason} for name, reason in results["not_run"].items()]
    return [*tables, rows_text("not run", not_run)]
