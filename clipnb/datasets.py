"""Labelled image sets behind one face: `len(data)`, `data[i]` -> (PIL image, label), `ids`, `labels`, `classnames`."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from glob import glob
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageChops

from clipnb.errors import InputError, class_indices, whole_number

EMOJI_DIR = Path(__file__).parent / "assets" / "emoji"
# The share-alike drawings lie in a file of their own; together they are the test split.
EMOJI_SPLITS = {
    "test": ("test.parquet", "test-openmoji.parquet"),
    "validation": ("validation.parquet",),
    "train-sample": ("train-sample.parquet",),
    "unseen": ("unseen.parquet",),  # other concepts, left out of training under any name
    "hard": ("test.parquet", "test-openmoji.parquet"),  # the test drawings, seen three times under `harder`
}
HARD_VIEWS = 3
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
SPECS = "emoji, emoji:SPLIT, folder:PATH, imagenet:PATH, torchvision:NAME:PATH, webdataset:PATTERN"


@dataclass(frozen=True)
class LabeledImages:
    """N images, read one at a time. `labels` (N,) int64 with -1 = unknown; `ids` are unique; `classnames` has C names."""

    name: str
    ids: list[str]
    labels: np.ndarray
    classnames: list[str]
    read: Callable[[int], Image.Image] = field(repr=False)  # position -> image
    positions: np.ndarray | None = field(default=None, repr=False)  # of a subset, in what `read` counts
    notes: dict = field(default_factory=dict, repr=False)  # what else is known: "family" by image, "classes" by class
    versions: Sequence = field(default=(), repr=False)  # in what `read` counts: changes when the picture does

    def __post_init__(self):
        if len(self.labels) != len(self.ids):
            raise InputError(f"Expected a label for each of the {len(self.ids)} ids of {self.name}, got {len(self.labels)}")
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name, times in Counter(self.ids).items() if times > 1)
            raise InputError(f"Expected every image of {self.name} to have an id of its own, got {twice!r} twice or more")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        position = index if self.positions is None else int(self.positions[index])
        try:
            image = self.read(position)
            return flatten(image), int(self.labels[index])
        except Exception as error:  # decoders raise anything on a broken file: OSError, SyntaxError, struct.error ...
            raise InputError(f"Cannot read image {self.ids[index]!r} of {self.name}: {_first_line(error)}") from error

    def take(self, indices) -> LabeledImages:
        """The subset at `indices` (an array of positions or booleans, or a number: the first so many).

        >>> load_dataset("emoji").take(5).labels.shape
        (5,)
        """
        places = np.arange(len(self))
        places = places[: whole_number(indices, "indices", 0)] if np.isscalar(indices) else places[np.asarray(indices)]
        notes = self.notes | {key: [self.notes[key][i] for i in places] for key in ("family",) if key in self.notes}
        return replace(self, ids=[self.ids[i] for i in places], labels=self.labels[places], notes=notes,
                       positions=places if self.positions is None else self.positions[places])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (16 hex digits): what a store of vectors is bound to.

        Over name, ids, labels, classnames and the version of every picture: size and time of change of its file (as make
        and rsync do; reading all pictures would take as long as encoding them), or a checksum of what is in memory.
        """
        versions = self.versions
        if len(versions) and self.positions is not None:
            versions = [versions[i] for i in self.positions.tolist()]
        content = json.dumps([self.name, self.ids, self.labels.tolist(), self.classnames, list(versions)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def flatten(image: Image.Image) -> Image.Image:
    """First frame as RGB; what is transparent becomes white.

    >>> flatten(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    image.load()  # so that a broken file is found here, not in the middle of a transform
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):  # convert() would clip 16 bits at 255: a white picture
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode!r} have no known range; save it with 8 or 16 bits a channel")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def load_dataset(spec: str = "emoji") -> LabeledImages:
    """Open a labelled image set by its spec.

    Args:
        spec: "emoji" (the embedded test split; also "emoji:validation", "emoji:train-sample", "emoji:hard" with
            turned, shrunk and tinted views of the test drawings, "emoji:unseen" with other concepts),
            "folder:PATH" (one folder a class; its name is the classname, "_" read as a space; a folder of pictures
            alone is an unlabelled set), "imagenet:PATH" (1,000 synset folders, names from open_clip),
            "torchvision:NAME:PATH" (a torchvision set already on disk), "webdataset:PATTERN" (tar shards with
            image + .cls files and a classnames.txt beside them).

    Raises:
        InputError: the spec, folder or split is unknown, empty or inconsistent.

    >>> data = load_dataset("emoji")
    >>> len(data.classnames) >= 500, data.labels.dtype
    (True, dtype('int64'))
    """
    kind, _, rest = spec.partition(":")
    openers = {"emoji": _emoji, "folder": _folder, "imagenet": _imagenet, "torchvision": _torchvision,
               "webdataset": _webdataset}
    if kind not in openers:
        raise InputError(f"Unknown data set {spec!r}; known: {SPECS}")
    data = openers[kind](spec, rest)
    if not len(data):
        raise InputError(f"Expected images in {spec}, found none")
    return data


def _emoji(spec: str, split: str) -> LabeledImages:
    split = split or "test"
    if split not in EMOJI_SPLITS:
        raise InputError(f"Unknown split {split!r} of the emoji set; known: {', '.join(EMOJI_SPLITS)}")
    table = pa.concat_tables([pq.read_table(EMOJI_DIR / name) for name in EMOJI_SPLITS[split]])
    names = "unseen-classes.json" if split == "unseen" else "classes.json"
    classes = json.loads((EMOJI_DIR / names).read_text("utf-8"))
    images = table["image"]

    def drawing(i: int) -> Image.Image:
        return Image.open(io.BytesIO(images[i].as_py()))

    data = LabeledImages(
        spec, table["id"].to_pylist(), table["label"].to_numpy(), [c["classname"] for c in classes], drawing,
        notes={"family": table["family"].to_pylist(), "classes": classes}, versions=[zlib.crc32(i.as_buffer()) for i in images],
    )
    if split != "hard":
        return data
    ids = [f"{name}#{view}" for name in data.ids for view in range(HARD_VIEWS)]
    notes = data.notes | {"family": [family for family in data.notes["family"] for _ in range(HARD_VIEWS)]}
    return replace(data, ids=ids, labels=np.repeat(data.labels, HARD_VIEWS), notes=notes,
                   versions=[version for version in data.versions for _ in range(HARD_VIEWS)],
                   read=lambda i: harder(drawing(i // HARD_VIEWS), seed=i))


def harder(image: Image.Image, seed: int) -> Image.Image:
    """A harder view: turned by up to 30 degrees, shrunk to 50 to 85 %, moved, on a light background of any tint.

    The same seed gives the same view.

    >>> harder(Image.new("RGB", (96, 96), "white"), seed=0).size
    (96, 96)
    """
    rng = np.random.default_rng(seed)
    image = flatten(image)
    side = round(image.width * rng.uniform(0.5, 0.85))
    turned = image.rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(turned.resize((side, side)), tuple(rng.integers(0, image.width - side + 1, size=2).tolist()))
    return ImageChops.multiply(canvas, Image.new("RGB", image.size, tuple(rng.integers(140, 256, size=3).tolist())))


def _existing_folder(path: str, spec: str) -> Path:
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        raise InputError(f"Expected an existing folder in {spec!r}, got {path or '(nothing)'}")
    return folder


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _from_files(spec: str, root: Path, files: list[Path], labels, classnames) -> LabeledImages:
    ids = [file.relative_to(root).as_posix() for file in files]
    states = [file.stat() for file in files]
    return LabeledImages(spec, ids, np.asarray(labels, dtype=np.int64), classnames, lambda i: Image.open(files[i]),
                         versions=[(state.st_size, state.st_mtime_ns) for state in states])


def _folder(spec: str, path: str) -> LabeledImages:
    root = _existing_folder(path, spec)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    by_class = {folder: _pictures(folder) for folder in folders}
    if not any(by_class.values()):  # no class folders: a set without labels
        files = sorted(p for p in root.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        return _from_files(spec, root, files, [-1] * len(files), [])
    empty = [folder.name for folder, files in by_class.items() if not files]
    if empty:
        raise InputError(f"Expected pictures in every class folder of {root}, none in: {', '.join(empty[:5])}"
                         f"{' ...' if len(empty) > 5 else ''}; remove the folder or add pictures")
    files = [file for folder in folders for file in by_class[folder]]
    labels = [label for label, folder in enumerate(folders) for _ in by_class[folder]]
    return _from_files(spec, root, files, labels, [folder.name.replace("_", " ") for folder in folders])


def _imagenet(spec: str, path: str) -> LabeledImages:
    import open_clip  # only for the 1,000 names

    root = _existing_folder(path, spec)
    synsets = sorted(p for p in root.iterdir() if p.is_dir() and p.name.startswith("n"))
    names = list(open_clip.IMAGENET_CLASSNAMES)
    if len(synsets) != len(names):  # sorted synsets are in the order of the names only if all are there
        raise InputError(f"Expected {len(names)} synset folders (n01440764 ...) in {root}, got {len(synsets)}")
    files = [(file, label) for label, folder in enumerate(synsets) for file in _pictures(folder)]
    return _from_files(spec, root, [f for f, _ in files], [label for _, label in files], names)


def _torchvision(spec: str, rest: str) -> LabeledImages:
    from torchvision import datasets as sets

    name, _, path = rest.partition(":")
    root = _existing_folder(path, spec)
    known = [n for n in sets.__all__ if isinstance(getattr(sets, n), type)]
    if name not in known:
        raise InputError(f"Unknown torchvision set {name!r} in {spec!r}; known: {', '.join(known)}")
    data = _open_torchvision(getattr(sets, name), root, spec)
    labels = next((getattr(data, a) for a in ("targets", "_labels", "labels", "y") if hasattr(data, a)), None)
    classnames = getattr(data, "classes", None) or getattr(data, "categories", None)
    if labels is None or classnames is None:
        raise InputError(f"torchvision's {name} does not say its labels and classnames; use folder:PATH instead")
    names = [c[0] if isinstance(c, tuple) else str(c).replace("_", " ") for c in classnames]
    return LabeledImages(spec, [f"{name}/{i}" for i in range(len(data))], np.asarray(labels, dtype=np.int64), names,
                         lambda i: data[i][0], versions=[_files_version(root)] * len(data))


def _files_version(root: Path) -> tuple[int, int, int]:
    """Number, size and latest change of the files below: torchvision's sets do not say which of them are theirs."""
    states = [path.stat() for path in root.rglob("*") if path.is_file()]
    return len(states), sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


def _open_torchvision(kind, root: Path, spec: str):
    # The test split is asked for in each of the ways that torchvision's classes know.
    for options in ({"train": False}, {"split": "test"}, {"split": "val"}, {}):
        try:
            return kind(str(root), **options)
        except (TypeError, ValueError):
            continue
        except (RuntimeError, OSError) as error:
            raise InputError(f"Cannot open {spec!r}: {_first_line(error)} (nothing is downloaded)") from None
    raise InputError(f"Cannot open {spec!r}: its constructor asks for more than a folder and a split")


def _webdataset(spec: str, pattern: str) -> LabeledImages:
    shards = sorted(glob(str(Path(pattern).expanduser())))
    if not shards:
        raise InputError(f"Expected tar shards for {spec!r}, found none")
    names_file = Path(shards[0]).parent / "classnames.txt"
    if not names_file.is_file():
        raise InputError(f"Expected a classname a line in {names_file}, found no such file")
    classnames = names_file.read_text("utf-8").splitlines()
    samples: dict[str, dict] = {}
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as archive:  # uncompressed only: images are read by their offsets
                for member in archive:
                    stem, _, suffix = member.name.rpartition(".")
                    sample = samples.setdefault(f"{Path(shard).name}/{stem}", {})
                    if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                        if "image" in sample:
                            raise InputError(f"Expected one image a sample in {shard}, got two of the name {stem!r}")
                        sample["image"] = (shard, member.offset_data, member.size)
                    elif suffix == "cls":
                        sample["label"] = int(archive.extractfile(member).read())
        except InputError:
            raise
        except (tarfile.TarError, ValueError, OSError) as error:
            raise InputError(f"Cannot read {shard} as an uncompressed tar of images and .cls numbers: "
                             f"{_first_line(error)}") from None
    samples = {key: sample for key, sample in samples.items() if "image" in sample}
    places = [sample["image"] for sample in samples.values()]
    labels = np.array([sample.get("label", -1) for sample in samples.values()], dtype=np.int64)
    class_indices(labels, f"labels in {spec}", num_classes=len(classnames), unknown=True)

    def read(i: int) -> Image.Image:
        shard, offset, size = places[i]
        with open(shard, "rb") as file:
            file.seek(offset)
            return Image.open(io.BytesIO(file.read(size)))

    changed = {shard: Path(shard).stat().st_mtime_ns for shard in shards}
    return LabeledImages(spec, list(samples), labels, classnames, read,
                         versions=[(changed[shard], offset, size) for shard, offset, size in places])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
