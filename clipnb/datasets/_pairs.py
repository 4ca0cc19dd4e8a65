"""Images with captions: COCO and Flickr30k as published, tables, and webdataset."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from clipnb._checks import format_value, text_of
from clipnb._files import path_of, read_text
from clipnb.datasets._folder import LeaveOut, ledger
from clipnb.datasets._images import NO_FILE, LabeledImages, first_line, state, why_not
from clipnb.datasets._rows import table_rows
from clipnb.datasets._table import PATH_COLUMNS, _inside, _required_column
from clipnb.datasets._webdataset import _shards
from clipnb.errors import InputError

CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "sentence", "sentences", "comment", "raw")
NO_CAPTION = "images without a caption"
MAX_CAPTION_BYTES = 2**20  # of the captions of one sample; a longer file holds something else
WEBDATASET = "webdataset:"


@dataclass(frozen=True)
class ImageTextPairs:
    """N images, each with its captions; `images.labels` are unknown, and there are no classes."""

    images: LabeledImages
    captions: list[str]  # T captions, those of one image together
    image_of_text: np.ndarray  # (T,) int64, the image that each caption belongs to


@dataclass(frozen=True)
class _Item:
    """One image of a source, with its captions."""

    id: str
    captions: list[str]
    read: Callable[[], Image.Image]
    version: Any


def load_pairs(spec: str, images: str | Path | None = None, split: str = "test") -> ImageTextPairs:
    r"""Open images with captions.

    Args:
        spec: a file: Karpathy's JSON of COCO or Flickr30k (of which `split` is taken), COCO's own JSON of captions, or
            a table (CSV, TSV, JSON lines, Parquet) with a column of image paths and one of captions, either a row for
            each caption or a list of captions in a cell; or "webdataset:PATTERN" (tar shards with an image and its
            captions as .txt, one a line, or as .json with "captions").
        images: folder of the images; None: that of the file.
        split: of Karpathy's JSON: "test", "val", "train" or "restval".

    Raises:
        InputError: the file holds something else, or none of its images is there.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 8)).save(Path(folder, "a.png"))
    ...     _ = Path(folder, "pairs.csv").write_text("image,caption\na.png,a square\na.png,nothing")
    ...     load_pairs(f"{folder}/pairs.csv").captions
    ['a square', 'nothing']
    """
    text_of(spec, "spec")
    text_of(split, "split")
    root = None if images is None else path_of(images, "images").expanduser()
    if root is not None and not root.is_dir():
        raise InputError(f"Expected `images` (--images) to be an existing folder, got {root}")
    left_out, leave_out = ledger()
    if spec.startswith(WEBDATASET):
        items = _shard_items(spec, leave_out)
    else:
        file = path_of(spec, "spec").expanduser()
        if not file.is_file():
            raise InputError(
                f"Expected a file of images and captions, or {WEBDATASET}PATTERN, got {format_value(spec)}"
            )
        try:
            items = list(_file_items(file, root or file.parent, split, leave_out))
        except InputError:
            raise
        except (pa.ArrowException, csv.Error, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"Cannot read images and captions from {file}: {first_line(error)}") from None
    if not items:
        reasons = "; ".join(f"{len(names)} {reason}, such as {names[0]}" for reason, names in left_out.items())
        raise InputError(f"Expected images with captions in {spec}, found none{f' ({reasons})' if reasons else ''}")
    data = LabeledImages(
        spec,
        [item.id for item in items],
        np.full(len(items), -1),
        [],
        lambda i: items[i].read(),
        versions=[item.version for item in items],
        left_out=left_out,
    )
    captions = [caption for item in items for caption in item.captions]
    return ImageTextPairs(data, captions, np.repeat(np.arange(len(items)), [len(item.captions) for item in items]))


def _file_items(file: Path, root: Path, split: str, leave_out: LeaveOut) -> Iterable[_Item]:
    if file.suffix.casefold() == ".json":
        grouped = _json_captions(json.loads(read_text(file)), file, split)
    else:
        grouped = _table_captions(file)
    table = root / file.name  # names are looked up below the folder of the images
    for name, captions in grouped.items():
        kept = [caption.strip() for caption in captions if isinstance(caption, str) and caption.strip()]
        item, path = _inside(table, name)
        version = state(path)
        if version is None and "/" in item and (version := state(root / Path(item).name)) is not None:
            path = root / Path(item).name  # COCO's JSON names a folder, which not everyone keeps
        if version is None:
            leave_out(NO_FILE, item)
        elif not kept:
            leave_out(NO_CAPTION, item)
        else:
            yield _Item(item, kept, partial(Image.open, path), version)


def _json_captions(content: Any, file: Path, split: str) -> dict[str, list[str]]:
    """Captions by path of image, of Karpathy's JSON or of COCO's own."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(image, dict) for image in images):
        raise InputError(f"Expected Karpathy's or COCO's JSON of captions (with a list 'images') in {file}")
    if "sentences" in images[0]:
        splits = sorted({str(image.get("split")) for image in images})
        if split not in splits:
            raise InputError(f"Expected `split` (--split) to be one of {', '.join(splits)} of {file}, got {split!r}")
        return {
            "/".join(filter(None, (image.get("filepath"), image["filename"]))): [s["raw"] for s in image["sentences"]]
            for image in images
            if image.get("split") == split
        }
    if not isinstance(content.get("annotations"), list):
        raise InputError(f"Expected captions in {file}: 'sentences' (Karpathy) or 'annotations' (COCO), found neither")
    names = {image["id"]: image["file_name"] for image in images}
    grouped: dict[str, list[str]] = {name: [] for name in names.values()}
    for annotation in content["annotations"]:
        if "caption" not in annotation:
            raise InputError(f"Expected captions in the annotations of {file}, got {', '.join(annotation)}")
        grouped[names[annotation["image_id"]]].append(annotation["caption"])
    return grouped


def _table_captions(file: Path) -> dict[str, list[str]]:
    """Captions by path of image, of a table; rows of one image are joined."""
    columns, rows = table_rows(file)
    image = _required_column(columns, PATH_COLUMNS, file, "image paths")
    caption = _required_column(columns, CAPTION_COLUMNS, file, "captions")
    grouped: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=1):
        name, cell = row.get(image), row.get(caption)
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"Expected the path of an image in row {number} of {file}, got {format_value(name)}")
        cells = cell if isinstance(cell, list) else [cell]
        if any(part is not None and not isinstance(part, str) for part in cells):
            raise InputError(
                f"Expected a caption, or a list of them, in row {number} of {file}, got {format_value(cell)}"
            )
        grouped.setdefault(name, []).extend(part for part in cells if part is not None)
    return grouped


def _shard_items(spec: str, leave_out: LeaveOut) -> list[_Item]:
    """The samples of all shards: an image, and its captions beside it."""
    items = []
    for shard in _shards(spec, spec.removeprefix(WEBDATASET)):
        images: dict[str, tuple[int, int]] = {}
        captions: dict[str, list[str]] = {}
        try:
            with tarfile.open(shard, "r:") as archive:  # uncompressed only: images are read by their offsets
                for member in archive:
                    if not member.isfile():
                        continue
                    key, _, suffix = member.name.rpartition(".")
                    if why_not(Path(member.name).name) is None:
                        images.setdefault(key, (member.offset_data, member.size))
                    elif suffix in ("txt", "json") and (opened := archive.extractfile(member)) is not None:
                        found = _sample_captions(opened.read(MAX_CAPTION_BYTES), suffix)
                        if found and (suffix == "json" or key not in captions):
                            captions[key] = found
        except (tarfile.TarError, ValueError, OSError, TypeError, RecursionError) as error:
            raise InputError(
                f"Cannot read {shard} as an uncompressed tar of images and captions: {first_line(error)}"
            ) from None
        changed = Path(shard).stat().st_mtime_ns
        for key, place in images.items():
            name = f"{Path(shard).name}/{key}"
            if key in captions:
                items.append(_Item(name, captions[key], partial(_read_member, shard, *place), (changed, *place)))
            else:
                leave_out(NO_CAPTION, name)
    return items


def _sample_captions(content: bytes, suffix: str) -> list[str]:
    text = content.decode("utf-8-sig")
    if suffix == "txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    found = json.loads(text)
    value = next((found[key] for key in CAPTION_COLUMNS if key in found), []) if isinstance(found, dict) else found
    captions = [value] if isinstance(value, str) else value
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"expected a caption or a list of captions, got {format_value(value)}")
    return [caption.strip() for caption in captions if caption.strip()]


def _read_member(shard: str, offset: int, size: int) -> Image.Image:
    with open(shard, "rb") as file:
        file.seek(offset)
        return Image.open(io.BytesIO(file.read(size)))
