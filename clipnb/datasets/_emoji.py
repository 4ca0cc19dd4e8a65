"""`emoji` and `emoji:SPLIT`: the shipped set of labelled drawings."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageChops

from clipnb.datasets._assets import ASSETS, check_asset
from clipnb.datasets._images import LabeledImages, flatten
from clipnb.errors import InputError

EMOJI_DIR = ASSETS / "emoji"
# The share-alike drawings are in a separate file; together with the others they are the test split.
EMOJI_SPLITS = {
    "test": ("test.parquet", "test-openmoji.parquet"),
    "validation": ("validation.parquet",),
    "train-sample": ("train-sample.parquet",),
    "unseen": ("unseen.parquet",),  # other concepts, left out of training under any name
    "hard": ("test.parquet", "test-openmoji.parquet"),  # three views of each test drawing, by `harder`
}
HARD_VIEWS = 3
LICENCE = "the drawings' own: MIT, CC BY 4.0, CC BY-SA 4.0, Apache 2.0 (clipnb/assets/emoji/LICENSES.md)"


def open_emoji(spec: str, split: str) -> LabeledImages:
    """A split of the emoji set, with its super-categories, keywords, descriptions and templates."""
    split = split or "test"
    if split not in EMOJI_SPLITS:
        raise InputError(f"Unknown split {split!r} of the emoji set; known: {', '.join(EMOJI_SPLITS)}")
    for name in EMOJI_SPLITS[split]:
        check_asset(EMOJI_DIR / name)
    table = pa.concat_tables([pq.ParquetFile(EMOJI_DIR / name).read() for name in EMOJI_SPLITS[split]])
    names = "unseen-classes.json" if split == "unseen" else "classes.json"
    classes = json.loads((EMOJI_DIR / names).read_text("utf-8"))
    images = table["image"]

    def drawing(i: int) -> Image.Image:
        return Image.open(io.BytesIO(images[i].as_py()))

    data = LabeledImages(
        spec,
        table["id"].to_pylist(),
        np.array(table["label"].to_pylist()),  # `to_numpy` would import pandas
        [c["classname"] for c in classes],
        drawing,
        notes={"family": table["family"].to_pylist(), "classes": classes},
        versions=[zlib.crc32(i.as_buffer()) for i in images],
        drawings=True,
        templates="drawing",
        descriptions="emoji",
        groups={c["classname"]: c["subgroup"].replace("-", " ") for c in classes},
        keywords={c["classname"]: c["keywords"] for c in classes},
        licence=LICENCE,
        shipped=True,
        validation="emoji:validation" if split == "test" else None,
    )
    if split != "hard":
        return data
    return replace(
        data,
        ids=[f"{name}#{view}" for name in data.ids for view in range(HARD_VIEWS)],
        labels=np.repeat(data.labels, HARD_VIEWS),
        notes=data.notes | {"family": [family for family in data.notes["family"] for _ in range(HARD_VIEWS)]},
        versions=[version for version in data.versions for _ in range(HARD_VIEWS)],
        read=lambda i: harder(drawing(i // HARD_VIEWS), seed=i),
    )


def harder(image: Image.Image, seed: int) -> Image.Image:
    """A harder view: rotated by up to 30 degrees, shrunk to 50 to 85 %, moved, on a light background of any tint.

    The same seed gives the same view.

    >>> harder(Image.new("RGB", (96, 96), "white"), seed=0).size
    (96, 96)
    """
    rng = np.random.default_rng(seed)
    image = flatten(image)
    side = round(image.width * rng.uniform(0.5, 0.85))
    rotated = image.rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rotated.resize((side, side)), tuple(rng.integers(0, image.width - side + 1, size=2).tolist()))
    return ImageChops.multiply(canvas, Image.new("RGB", image.size, tuple(rng.integers(140, 256, size=3).tolist())))
