"""`clipnb ensemble`."""

from __future__ import annotations

from pathlib import Path

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
from clipnb.cli._output import facts_text, note, rows_text, write_result
from clipnb.cli._run import encode_dataset
from clipnb.errors import InputError
from clipnb.prompts import load_templates, template_provenance

EXAMPLES = examples(
    r"""
  clipnb ensemble --dataset icons --fit icons:validation
"""
)


@click.command(epilog=EXAMPLES)
@model_options
@dataset_option
@fix_names_option
@templates_option(None)
@store_option
@click.option(
    "--method",
    default="all",
    show_default=True,
    help="all, or one method with its variants: single, uniform, zpe, autoclip, cmm, greedy, oracle, real-prompt, "
    "carprt, nnn, frolic, sinkhorn, mlls, transclip, stata, descriptions, keywords, random, shuffled.",
)
@click.option(
    "--fit",
    "fit_on",
    help="Data set whose images determine the weights; its labels are used by greedy and oracle only.  "
    "[default: the scored images]",
)
@click.option(
    "--descriptions",
    show_default="the shipped ones for the icon and emoji sets, none for others",
    help="icons or emoji (the shipped descriptions), or a JSON file of descriptions by class.",
)
@click.option(
    "--enrich",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How many classes get descriptions: those with the lowest margin of pseudo-labels.",
)
@click.option("--temperature", default=0.01, show_default=True, help="Softmax temperature, in units of cosine.")
@worst_option("How many worst classes to report; also the number that cmm-worst looks at.")
@json_option
def ensemble(
    source: dict,
    dataset: str,
    fix_names: bool,
    templates: str | None,
    store: Path | None,
    method: str,
    fit_on: str | None,
    descriptions: str | None,
    enrich: int,
    temperature: float,
    worst_k: int,
    json_file: str | None,
) -> None:
    """Weight prompts without labels, and compare every method and control with the bare names on the same images."""
    from clipnb import describe, load_dataset
    from clipnb._checks import one_of
    from clipnb.paper import methods

    one_of(method, "--method", methods.METHODS)
    own = load_dataset(dataset)
    templates = own.templates if templates is None else templates
    descriptions = own.descriptions if descriptions is None else descriptions
    chosen = load_templates(templates)
    texts = describe.Descriptions({}, {}) if descriptions is None else describe.load_descriptions(descriptions)
    run = encode_dataset(source, own, store, fix_names, labelled=True)
    names = run.data.classnames
    fit = None
    if fit_on is not None:
        other = encode_dataset(source, fit_on, None, fix_names, model=run.model)
        if other.data.classnames != names:
            raise InputError(f"Expected --fit {fit_on} to have the classes of {dataset}, got other classnames")
        fit = other.images
    lint = run.lint(chosen)
    if unused := describe.unmatched(texts.by_class, names):
        note(unused)
    results = methods.compare_methods(
        run.model,
        run.images,
        names,
        fit,
        method,
        chosen,
        texts.by_class,
        keywords={name: run.data.keywords[name] for name in names if name in run.data.keywords},
        name_counts=run.data.name_counts,
        worst_k=worst_k,
        enrich=enrich,
        temperature=temperature,
    )
    rows = results.rows(worst_k)
    head = {
        **run.head,
        "dataset": dataset,
        "fit": fit_on or dataset,
        "method": method,
        "templates": templates,
        "temperature": temperature,
        "images": len(run.images),
        "classes": len(names),
        "enriched": len(results.flagged),
    }
    content = {
        **head,
        "lint": lint,
        **run.facts,
        "templates_provenance": template_provenance(templates, chosen),
        "descriptions": texts.provenance,
        "flagged": [names[c] for c in results.flagged],
        "rows": rows,
        "descriptions_minus": results.against(k=worst_k),
        "not_run": results.not_run,
    }
    not_run = [{"method": name, "reason": reason} for name, reason in results.not_run.items()]
    write_result(
        content,
        json_file,
        facts_text(head),
        rows_text("methods", [methods.table_row(row) for row in rows]),
        rows_text("not run", not_run),
    )
