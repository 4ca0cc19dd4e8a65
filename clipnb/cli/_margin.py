"""`clipnb margin`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from clipnb.cli._options import (
    dataset_option,
    examples,
    fix_names_option,
    json_option,
    model_options,
    store_option,
    templates_option,
    worst_option,
)
from clipnb.cli._output import facts_text, rows_text, write_result
from clipnb.cli._run import encode_dataset
from clipnb.prompts import load_templates

EXAMPLES = examples(
    r"""
  clipnb margin --dataset folder:photos --worst 20
"""
)


@click.command(epilog=EXAMPLES)
@model_options
@dataset_option
@fix_names_option
@templates_option("bare")
@store_option
@worst_option("How many classes to list.")
@click.option(
    "--reduction",
    default="image",
    show_default=True,
    type=click.Choice(["image", "class"]),
    help="Average the margins of a class's images, or take the margin of its mean similarities.",
)
@json_option
def margin(
    source: dict,
    dataset: str,
    fix_names: bool,
    templates: str,
    store: Path | None,
    worst_k: int,
    reduction: Literal["image", "class"],
    json_file: str | None,
) -> None:
    """Rank the classes without labels, worst first, by the class-wise matching margin of pseudo-labels.

    Where labels exist, the ranking is compared with the true accuracies.
    """
    from clipnb import evaluation, zero_shot_classifier

    chosen = load_templates(templates)
    run = encode_dataset(source, dataset, store, fix_names)
    names = run.data.classnames
    lint = run.lint(chosen)
    result = evaluation.evaluate(run.images.vectors, zero_shot_classifier(run.model, names, chosen), run.images.labels)
    summary = evaluation.margin_summary(result, run.images.vectors, names, worst_k, reduction)
    head = {
        **run.head,
        "dataset": dataset,
        "templates": templates,
        "reduction": reduction,
        "images": len(run.images),
        "classes": len(names),
    }
    rows = summary["worst_by_margin"]
    write_result(
        {**head, "lint": lint, **run.facts, **summary},
        json_file,
        facts_text(head | {name: value for name, value in summary.items() if name != "worst_by_margin"}),
        rows_text("worst by margin", rows),
    )
