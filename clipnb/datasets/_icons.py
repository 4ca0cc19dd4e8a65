"""`icons` and `icons:validation`: the shipped set with enough drawings of each thing to judge a class."""

from __future__ import annotations

import io
import json
import re
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from clipnb.datasets._assets import ASSETS, check_asset
from clipnb.datasets._images import LabeledImages
from clipnb.errors import InputError

ICONS_DIR = ASSETS / "icons"
# The share-alike drawings are in a separate file; together with the others they are the test split.
ICONS_SPLITS = {"test": ("test.parquet", "test-sharealike.parquet"), "validation": ("validation.parquet",)}
LICENCE = "the drawings' own, open ones, some CC BY-SA 4.0 (clipnb/assets/icons/LICENSES.md)"


def open_icons(spec: str, split: str) -> LabeledImages:
    """A split of the icon set, "test" (or empty) or "validation"; no maker has drawings in both.

    Its `notes` have "family" (the icon package of each image), "makers" (the maker of each package), "clipnb_mini_1"
    (the packages that the first clipnb-mini was trained on: for that model they are not held out) and "classes" (for
    each class its classname, synonyms, keywords, group and number of drawings that a model may be trained on). Its
    `name_counts` count the file names of the validation drawings, which stand in for captions.
    """
    split = split or "test"
    if split not in ICONS_SPLITS:
        raise InputError(f"Unknown split {split!r} of the icon set; known: {', '.join(ICONS_SPLITS)}")
    for name in (*ICONS_SPLITS[split], "classes.json", "manifest.json"):
        check_asset(ICONS_DIR / name)
    table = pa.concat_tables([pq.ParquetFile(ICONS_DIR / name).read() for name in ICONS_SPLITS[split]])
    classes = _read("classes.json")
    sources = _read("manifest.json")["sources"]
    images = table["image"]

    def drawing(i: int) -> Image.Image:
        return Image.open(io.BytesIO(images[i].as_py()))

    return LabeledImages(
        spec,
        table["id"].to_pylist(),
        np.array(table["label"].to_pylist()),  # `to_numpy` would import pandas
        [c["classname"] for c in classes],
        drawing,
        notes={
            "family": table["family"].to_pylist(),
            "makers": {family: source["maker"] for family, source in sources.items()},
            "clipnb_mini_1": sorted(family for family, source in sources.items() if source["clipnb_mini_1"]),
            "classes": classes,
        },
        versions=[zlib.crc32(image.as_buffer()) for image in images],
        drawings=True,
        templates="drawing",
        descriptions="icons",
        groups={c["classname"]: c["group"] for c in classes},
        keywords={c["classname"]: c["keywords"] for c in classes},
        name_counts=_count_names(classes),
        licence=LICENCE,
        shipped=True,
        validation="icons:validation" if split == "test" else None,
    )


def _count_names(classes: list[dict]) -> dict[str, dict[str, int]]:
    """For each class, how many of the validation drawings' file names contain its classname and each synonym."""
    ids = pq.ParquetFile(ICONS_DIR / ICONS_SPLITS["validation"][0]).read(["id"])["id"].to_pylist()
    phrases = Counter(phrase for name in ids for phrase in _phrases(name.partition("/")[2]))
    return {
        c["classname"]: {name: phrases[" ".join(_words(name))] for name in (c["classname"], *c["synonyms"])}
        for c in classes
    }


def _phrases(name: str) -> set[str]:
    words = _words(name)
    return {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.lower())


def _read(name: str) -> Any:
    return json.loads((ICONS_DIR / name).read_text("utf-8"))
