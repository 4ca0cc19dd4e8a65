"""`LabeledImages`, the one type of all kinds of data sets, and the conversion of an image to RGB."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from clipnb._checks import as_numpy, class_indices, whole_number
from clipnb._format import first_line
from clipnb.errors import InputError

ORIENTATION = 0x0112  # the EXIF tag that says how to rotate an image
MAX_ASPECT_RATIO = 1000  # resizing the shorter side to 224 pixels would make larger ratios fill more than 150 MB
BROKEN_LINKS = "broken links"
NO_FILE = "rows whose file is not there"
MISSING = (BROKEN_LINKS, NO_FILE)  # reasons for items that the source names and that cannot be read
NO_LABEL = "images without a label, which no accuracy counts"
EXAMPLES = 3  # items that a message names


@dataclass(frozen=True)
class LabeledImages:
    """N images, read one at a time, and everything else that is known about the data set.

    name: the spec that opened it.
    ids: N unique names of images.
    labels: (N,) class indices; -1 = unknown.
    classnames: C names.
    read: position -> image.
    positions: of a subset, positions in the set that `read` counts in.
    notes: what else is known: "family" by image, "classes" by class.
    versions: for each position of `read`, a value that changes when the image does.
    left_out: {reason: items of the source that are not in the set}.
    remarks: how the source was read, where that could surprise.
    turned: whether images are rotated as their EXIF tag says.
    drawings: whether these are drawings; otherwise photographs, or unknown.
    templates: the template set for ensembles.
    descriptions: the shipped texts about its classes.
    groups: {classname: super-category}.
    keywords: {classname: keywords}.
    name_counts: {classname: {name: in how many captions it stands}}, for `prompts.most_frequent_names`.
    synonyms: all names of each class, the shown one first.
    licence: of the images.
    """

    name: str
    ids: list[str]
    labels: npt.NDArray[np.int64]
    classnames: list[str]
    read: Callable[[int], Image.Image] = field(repr=False)
    positions: npt.NDArray[np.int64] | None = field(default=None, repr=False)
    notes: dict[str, Any] = field(default_factory=dict, repr=False)
    versions: Sequence[Any] = field(default=(), repr=False)
    left_out: dict[str, list[str]] = field(default_factory=dict, repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)
    turned: bool = field(default=False, repr=False)
    drawings: bool = field(default=False, repr=False)
    templates: str = field(default="openai-80", repr=False)
    descriptions: str | None = field(default=None, repr=False)
    groups: dict[str, str] = field(default_factory=dict, repr=False)
    keywords: dict[str, list[str]] = field(default_factory=dict, repr=False)
    name_counts: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    synonyms: list[list[str]] | None = field(default=None, repr=False)
    licence: str | None = field(default=None, repr=False)
    shipped: bool = field(default=False, repr=False)  # part of the package: its images never change
    validation: str | None = field(default=None, repr=False)  # spec of its validation split, by other makers

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.ids):
            raise InputError(
                f"Expected a label for each of the {len(self.ids)} ids of {self.name}, got {len(self.labels)}"
            )
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name, times in Counter(self.ids).items() if times > 1)
            raise InputError(
                f"Expected every image of {self.name} to have an id of its own, got {twice!r} twice or more"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        try:
            return flatten(self.opened(index), turn=self.turned), int(self.labels[index])
        except Exception as error:  # decoders raise anything on a broken file: OSError, SyntaxError, struct.error ...
            raise InputError(f"Cannot read image {self.ids[index]!r} of {self.name}: {first_line(error)}") from error

    def opened(self, index: int) -> Image.Image:
        """Image `index` as it is in its file: in any mode, perhaps not loaded yet; raises what the reader raises."""
        return self.read(index if self.positions is None else int(self.positions[index]))

    def take(self, indices: npt.ArrayLike) -> LabeledImages:
        """The subset at `indices` (an array of positions or booleans, or a number n for the first n).

        >>> from clipnb import load_dataset
        >>> load_dataset("emoji").take(5).labels.shape
        (5,)
        """
        if np.isscalar(indices):  # also other scalars, which `whole_number` refuses
            places = np.arange(whole_number(indices, "indices", 0))[: len(self)]
        else:
            places = as_numpy(indices, "indices")
            if places.dtype == bool and places.shape == (len(self),):
                places = np.flatnonzero(places)
            if places.dtype.kind == "i":
                places = np.where(places < 0, places + len(self), places)  # from the end, as NumPy counts
            places = class_indices(places, "indices", num_classes=len(self))
            if repeats := len(places) - len(np.unique(places)):
                raise InputError(f"Expected `indices` without repeats, got {repeats} too many")
        by_image = {key: [self.notes[key][i] for i in places] for key in ("family",) if key in self.notes}
        return replace(
            self,
            ids=[self.ids[i] for i in places],
            labels=self.labels[places],
            notes=self.notes | by_image,
            positions=places if self.positions is None else self.positions[places],
        )

    @property
    def template(self) -> str:
        """One template that fits the images: drawings or photographs."""
        return "a drawing of a {}." if self.drawings else "a photo of a {}."

    def classes(self, *names: str) -> list[int]:
        """Class indices of these names; if the set lacks one of them, of as many other classes that have images.

        >>> from clipnb import load_dataset
        >>> data = load_dataset("icons")
        >>> [data.classnames[c] for c in data.classes("dog", "cat")]
        ['dog', 'cat']
        """
        if all(name in self.classnames for name in names):
            return [self.classnames.index(name) for name in names]
        return np.unique(self.labels[self.labels >= 0])[: len(names)].tolist()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (16 hex digits) that a store of vectors is bound to.

        It covers name, ids, labels, classnames, whether images are rotated, and the version of every image: size and
        time of change of its file (as make and rsync do; reading all images would take as long as encoding them), or a
        checksum of the bytes in memory.
        """
        versions = self.versions
        if len(versions) and self.positions is not None:
            versions = [versions[i] for i in self.positions.tolist()]
        content = [self.name, self.ids, self.labels.tolist(), self.classnames, list(versions)]
        content += ["turned"] if self.turned else []  # stores of versions that rotated no image are not continued
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def exif_rotation(self) -> str:
        """Whether the EXIF rotation tag of an image is "applied" or "ignored"."""
        return "applied" if self.turned else "ignored"

    def left_out_rows(self, labelled: bool = False) -> list[dict[str, Any]]:
        """Items of the source that no score counts: one row a reason, with its count and some examples.

        Args:
            labelled: include the images without a label of a labelled set, for scores that need labels.

        >>> data = LabeledImages("x", [], np.zeros(0), [], None, left_out={"broken links": ["cat/a.png"]})
        >>> data.left_out_rows()
        [{'reason': 'broken links', 'count': 1, 'examples': ['cat/a.png']}]
        """
        left_out = dict(self.left_out)
        if labelled and (self.labels >= 0).any() and (self.labels < 0).any():
            left_out[NO_LABEL] = [self.ids[i] for i in np.flatnonzero(self.labels < 0)]
        return [
            {"reason": reason, "count": len(items), "examples": items[:EXAMPLES]} for reason, items in left_out.items()
        ]

    def left_out_line(self, labelled: bool = False) -> str | None:
        """The same as one line for people; None if nothing is left out.

        >>> LabeledImages("x", [], np.zeros(0), [], None, left_out={"broken links": ["cat/a.png"]}).left_out_line()
        '1 item of x is left out: broken links (1: cat/a.png)'
        """
        return left_out_line(self.name, self.left_out_rows(labelled))


def left_out_line(name: str, rows: list[dict[str, Any]]) -> str | None:
    """One line about the rows of `LabeledImages.left_out_rows`; None if there are none."""
    if not rows:
        return None
    total = sum(row["count"] for row in rows)
    items = "item" if total == 1 else "items"
    parts = (
        f"{row['reason']} ({row['count']}: "
        f"{', '.join(row['examples'])}{', ...' if row['count'] > len(row['examples']) else ''})"
        for row in rows
    )
    return f"{total} {items} of {name} {'is' if total == 1 else 'are'} left out: {'; '.join(parts)}"


def flatten(image: Image.Image, turn: bool = False) -> Image.Image:
    """First frame as RGB; transparent parts become white.

    Args:
        image: from Pillow, in any mode.
        turn: whether to rotate it as its EXIF tag says, as image viewers do.

    Raises:
        ValueError: its pixels have no known range, or one side is more than MAX_ASPECT_RATIO times the other.

    >>> flatten(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    short, long = sorted(image.size)
    if long > MAX_ASPECT_RATIO * short:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_ASPECT_RATIO} to 1; crop it")
    image.load()  # a broken file raises here, not in the middle of a transform
    if turn and orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):  # convert() would clip 16 bits at 255: a white image
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode!r} have no known range; save it with 8 or 16 bits a channel")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 (upright) where there is none or the tag cannot be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises anything on broken EXIF data, which viewers ignore
        return 1
    return value if value in range(1, 9) else 1


def some(items: Sequence[str]) -> str:
    """The first items of a list, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(items) - EXAMPLES} more" if len(items) > EXAMPLES else ""
    return ", ".join(items[:EXAMPLES]) + more


def state(file: Path) -> tuple[int, int] | None:
    """Size and time of change of a file; None if it does not exist."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def readable_text(name: str) -> str:
    """The name of a file as Unicode: UTF-8 in every locale, with other bytes as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def clean_name(name: str) -> str:
    r"""A class name in composed Unicode (NFC), without blanks around it or repeated blanks inside.

    >>> clean_name(" cafe\u0301  noir ")
    'café noir'
    """
    return " ".join(unicodedata.normalize("NFC", name).split())


# Which files are images ----------------------------------------------------------------------------------------------

HIDDEN = "hidden files and leftovers of systems or archives"
NOT_IMAGES = "files that are not images"
UNKNOWN_FORMAT = "images in a format that the installed Pillow does not read"
NEEDS_HEIF = "HEIC images, which need `pip install pillow-heif`"
LEFTOVERS = {
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__pycache__",
}
HEIF_SUFFIXES = {".heic", ".heif", ".hif"}
# Well-known kinds of images that Pillow does not read; `mimetypes` differs from system to system.
OTHER_IMAGE_SUFFIXES = {
    ".svg",
    ".svgz",
    ".jxl",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".orf",
    ".rw2",
    ".raf",
    ".exr",
    ".hdr",
    ".xcf",
    ".jxr",
    ".wdp",
    ".ai",
}
VIDEO_FORMATS = {"MPEG"}  # Pillow recognises them, but reads no pixels


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the formats that the installed Pillow opens and decodes (with pillow-heif, HEIC among them)."""
    with suppress(ImportError):  # not a dependency; installed, it teaches Pillow to read HEIC
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    decoded = {name for name, (opener, _) in Image.OPEN.items() if not _is_stub(opener)} - VIDEO_FORMATS
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in decoded)


def _is_stub(opener: object) -> bool:
    return isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name was made by a system, not by a person.

    >>> is_hidden("._cat.png"), is_hidden("Thumbs.db"), is_hidden("cat.png")
    (True, True, False)
    """
    return name.startswith(".") or name.casefold() in LEFTOVERS


def why_not(name: str, open_file: Callable[[], Path] | None = None) -> str | None:
    """Why a file is not an image of a data set, by its name; None if it is one.

    Args:
        name: with its suffix; case does not matter.
        open_file: gives the file that Pillow opens if the name has no suffix; None: such files are not images.

    >>> why_not("cat.JPG"), why_not("cat.txt")
    (None, 'files that are not images')
    """
    if is_hidden(name):
        return HIDDEN
    suffix = Path(name).suffix.casefold()
    if suffix in image_suffixes():
        return None
    if suffix in HEIF_SUFFIXES:
        return NEEDS_HEIF
    if suffix in OTHER_IMAGE_SUFFIXES:
        return UNKNOWN_FORMAT
    if re.search("[a-z]", suffix) or open_file is None:
        return NOT_IMAGES
    try:
        with Image.open(open_file()):
            return None
    except Exception:  # Pillow raises anything on a file that is not an image
        return NOT_IMAGES
