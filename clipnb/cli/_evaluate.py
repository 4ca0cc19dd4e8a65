"""`clipnb evaluate`."""

from __future__ import annotations

from dataclasses import asdict
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
from clipnb.cli._output import facts_text, note, rows_text, scores_text, worst_sentence, write_result
from clipnb.cli._predictions import Exports, exports_options
from clipnb.cli._reject import reject_options, rejection_summary, rejection_text, without_none
from clipnb.cli._run import encode_dataset
from clipnb.cli._valid import valid_label_summary, valid_labels_option
from clipnb.prompts import load_templates

EXAMPLES = examples(
    r"""
  clipnb evaluate --dataset folder:photos --json scores.json
  clipnb evaluate --dataset imagenet:val --templates openai-80 \
      --model ViT-B-32 --pretrained openai --store vectors
"""
)


@click.command(epilog=EXAMPLES)
@model_options
@dataset_option
@fix_names_option
@templates_option("bare")
@store_option
@worst_option("How many worst classes to report.")
@click.option(
    "--hard",
    is_flag=True,
    help="Also score harder views of the emoji set's test drawings: turned, shrunk and moved (emoji only).",
)
@exports_options
@reject_options
@valid_labels_option
@json_option
def evaluate(
    source: dict,
    dataset: str,
    fix_names: bool,
    templates: str,
    store: Path | None,
    worst_k: int,
    hard: bool,
    exports: Exports,
    reject_at: float | None,
    none_classes: tuple[str, ...],
    valid_file: Path | None,
    json_file: str | None,
) -> None:
    """Report zero-shot accuracy, Recall@5 and the worst classes, each with its 95 % interval.

    Problems of the classnames are reported on stderr.
    """
    from clipnb import evaluation, explain, zero_shot_classifier, zeroshot

    if hard and dataset != "emoji":
        raise click.UsageError(f"Expected --dataset emoji with --hard, got {dataset}")
    if none_classes and reject_at is None:
        raise click.UsageError("Expected --reject-at with --none-class, such as --reject-at precision=0.95")
    if none_classes and (hard or valid_file is not None):
        raise click.UsageError("Expected --none-class without --hard and --valid-labels, which know all classes")
    chosen = load_templates(templates)
    run = encode_dataset(source, dataset, store, fix_names, labelled=True)
    none = None
    if none_classes:
        run, none = without_none(run, none_classes)
    names = run.data.classnames
    lint = run.lint(chosen)
    classifier = zero_shot_classifier(run.model, names, chosen)
    result = evaluation.evaluate(run.images.vectors, classifier, run.images.labels)
    if permuted := explain.order_finding(result.predictions, result.labels, names):
        note(permuted)
        lint.append(asdict(permuted))
    head = {
        **run.head,
        "device": str(run.model.device),
        "dataset": dataset,
        "templates": templates,
        "num_templates": len(chosen),
    }
    summary = result.summary(k=worst_k)
    if none is not None:
        summary["unlabelled"] -= int(none.sum())  # their label is known: none of the classes that are scored
    views = (
        {f"hard_{name}": value for name, value in zeroshot.hard_views(run.model, classifier).items()} if hard else {}
    )
    rejected = (
        rejection_summary(reject_at, run, classifier, result, none_classes, none) if reject_at is not None else {}
    )
    valid = valid_label_summary(valid_file, run, result, worst_k) if valid_file is not None else {}
    rows = evaluation.worst_class_rows(result, names, worst_k)
    counts = {name: summary[name] for name in ("n", "unlabelled", "classes", "classes_with_images", "chance")}
    content = {**head, "lint": lint, **run.facts, **summary, **views, **rejected, **valid, "worst_classes": rows}
    exports.write(content, run.images.ids, result, names, json_file)
    write_result(
        content,
        json_file,
        facts_text(head | counts),
        scores_text(result.scores(k=worst_k), worst_k),
        facts_text(views),
        rejection_text(rejected, worst_k),
        facts_text({name: value for name, value in valid.items() if name != "valid_label_classes"}),
        rows_text("classes that gain by valid labels", valid.get("valid_label_classes", [])),
        rows_text("worst classes", rows),
        worst_sentence(summary, worst_k),
    )
