"""The command `clipnb retrieval`."""

from __future__ import annotations

from pathlib import Path

import click

from clipnb.cli._options import (
    examples,
    json_option,
    model_options,
    store_option,
)
from clipnb.cli._output import facts_text, rows_text, write_result
from clipnb.cli._run import announce, load, report_left_out

LEAST_FOLDS = 2  # whole folds that a set must have for scores by fold


EXAMPLES = examples(
    r"""
  clipnb retrieval --dataset dataset_coco.json --images coco/val2014
"""
)


@click.command(epilog=EXAMPLES)
@model_options
@click.option(
    "--dataset",
    required=True,
    help="Images with captions: Karpathy's JSON of COCO or Flickr30k, COCO's own JSON, a CSV, JSON lines or Parquet "
    "file with the columns image and caption, or webdataset:PATTERN.",
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of the images.  [default: the folder of the file]"
)
@click.option("--split", default="test", show_default=True, help="Split of Karpathy's JSON.")
@click.option(
    "--fold-size",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help='Images a fold for the scores by fold ("COCO 1K"), which are given where there are two folds or more.',
)
@store_option
@json_option
def retrieval(
    source: dict,
    dataset: str,
    images: Path | None,
    split: str,
    fold_size: int,
    store: Path | None,
    json_file: str | None,
) -> None:
    """Find captions by images and images by captions: R@K of papers, recall@K and median ranks, with 95 % intervals."""
    from clipnb import encode_images, encode_texts
    from clipnb.datasets import load_pairs
    from clipnb.retrieval import evaluate_retrieval

    pairs = load_pairs(dataset, images, split)
    model = load(source)
    facts = report_left_out(pairs.images, {})
    vectors = encode_images(model, pairs.images, store, progress=announce(source, model, pairs.images)).vectors
    texts = encode_texts(model, pairs.captions)
    full = evaluate_retrieval(vectors, texts, pairs.image_of_text).summary()
    folds = None
    if len(vectors) >= LEAST_FOLDS * fold_size:
        folds = evaluate_retrieval(vectors, texts, pairs.image_of_text, fold_size=fold_size).summary()
    head = {
        "model": model.name,
        "pretrained": model.pretrained,
        "model_fingerprint": model.fingerprint,
        "dataset": dataset,
        "split": split if dataset.endswith(".json") else None,
    }
    parts = {"full": full, **({f"folds of {fold_size}": folds} if folds else {})}
    counts = {name: full[name] for name in ("images", "captions", "images_without_captions")}
    write_result(
        head | facts | full | ({"fold_size": fold_size, "by_fold": folds} if folds else {}),
        json_file,
        facts_text(head | counts),
        *(rows_text(title, _rows(summary)) for title, summary in parts.items()),
    )


def _rows(summary: dict) -> list[dict]:
    """The scores of a summary as the rows of a table, with what a random order would give."""
    return [
        {
            "score": name.replace("_", " "),
            "value": summary[name],
            "low": (summary[f"{name}_ci"] or (None, None))[0],
            "high": (summary[f"{name}_ci"] or (None, None))[1],
            "chance": summary.get(f"chance_{name}"),
        }
        for name in summary
        if f"{name}_ci" in summary
    ]
