"""The icon set: things drawn by many makers, with enough images to judge a single class."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from clipnb.errors import InputError

# The share-alike drawings lie in a file of their own; together with the others they are the test split.
SPLITS = {"test": ("test.parquet", "test-sharealike.parquet"), "validation": ("validation.parquet",)}


def open_icons(spec: str, split: str):
    """Open the icon set.

    Args:
        spec: the whole spec, which becomes the name of the set.
        split: "test" (or empty) or "validation". No maker has drawings in both.

    Returns:
        `LabeledImages`; `notes` has "family" (the icon package of each image), "makers" (the maker of each package),
        "clipnb_mini_1" (the packages that the first clipnb-mini was trained on: for that model they are not held out)
        and "classes" (for each class its classname, synonyms, keywords, group and number of training drawings).

    Raises:
        InputError: the split is unknown, or a file of the set is missing or damaged.
    """
    from clipnb.datasets import ASSETS, LabeledImages, check_asset

    folder = ASSETS / "icons"
    split = split or "test"
    if split not in SPLITS:
        raise InputError(f"Unknown split {split!r} of the icon set; known: {', '.join(SPLITS)}")
    for name in (*SPLITS[split], "classes.json", "manifest.json"):
        check_asset(folder / name)
    table = pa.concat_tables([pq.read_table(folder / name) for name in SPLITS[split]])
    classes = _read(folder / "classes.json")
    sources = _read(folder / "manifest.json")["sources"]
    makers = {family: source["maker"] for family, source in sources.items()}
    trained = sorted(family for family, source in sources.items() if source["clipnb_mini_1"])
    images = table["image"]

    def drawing(i: int) -> Image.Image:
        return Image.open(io.BytesIO(images[i].as_py()))

    notes = {"family": table["family"].to_pylist(), "makers": makers, "clipnb_mini_1": trained, "classes": classes}
    return LabeledImages(
        spec, table["id"].to_pylist(), table["label"].to_numpy(), [c["classname"] for c in classes], drawing,
        notes=notes, versions=[zlib.crc32(image.as_buffer()) for image in images],
    )


def _read(file: Path):
    return json.loads(file.read_text("utf-8"))
