"""`clipnb encode`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipnb.cli._options import (
    dataset_option,
    examples,
    json_option,
    model_options,
)
from clipnb.cli._output import facts_text, note, report_precision, rows_text, write_result
from clipnb.cli._run import announce, load, report_left_out

if TYPE_CHECKING:
    from clipnb.encode._images import BadImages, Decoder


EXAMPLES = examples(
    r"""
  clipnb encode --dataset folder:photos --store vectors
"""
)


@click.command(epilog=EXAMPLES)
@model_options
@dataset_option
@click.option(
    "--store",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for the image embeddings. A run that was interrupted is resumed there.",
)
@click.option(
    "--bad-images",
    default="stop",
    show_default=True,
    type=click.Choice(["stop", "skip"]),
    help="What to do with an image that cannot be read: stop, or skip it and list it.",
)
@click.option(
    "--decoder",
    type=click.Choice(["pillow", "device"]),
    help="device: decode JPEG files on the model's device, for a GPU that has to wait for images; needs clipnb[gpu].  "
    "[default: that of the store, or pillow]",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    type=click.Choice(["local", "ray"]),
    help="ray: encode shards with Ray Data, on this machine or on a cluster (RAY_ADDRESS); needs clipnb[ray].",
)
@json_option
def encode(
    source: dict,
    dataset: str,
    store: Path,
    bad_images: BadImages,
    decoder: Decoder | None,
    engine: str,
    json_file: str | None,
) -> None:
    """Encode the images of a data set once, into a folder of Parquet shards."""
    from clipnb import load_dataset
    from clipnb.embeddings import read_provenance
    from clipnb.encode import encode_to_store
    from clipnb.encode._ray import encode_with_ray

    data = load_dataset(dataset)
    model = load(source)
    watched = announce(source, model, data)
    facts = report_left_out(data, {})
    if engine == "ray":
        skipped = encode_with_ray(partial(load, source), dataset, store, bad_images, decoder=decoder)
    else:
        skipped = encode_to_store(model, data, store, bad_images=bad_images, progress=watched, decoder=decoder)
    for reason in skipped.values():
        note(f"skipped: {reason}")
    provenance = read_provenance(store) or {}
    report_precision(provenance)
    bad = [{"id": name, "reason": reason} for name, reason in skipped.items()]
    result = {
        "store": str(store),
        **provenance,
        "dimensions": model.dimensions,
        "device": str(model.device),
        "encoded": len(data) - len(skipped),
        "skipped": len(skipped),
    }
    write_result(
        {**result, **facts, "bad_images": bad}, json_file, facts_text(result), rows_text("images not read", bad)
    )
