"""Labelled image sets behind one face: `len(data)`, `data[i]` -> (PIL image, label), `ids`, `labels`, `classnames`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache, partial
from glob import glob
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageChops

from clipnb._icons import open_icons
from clipnb.errors import InputError, as_numpy, class_indices, having, path_of, read_text, text_of, whole_number

ASSETS = Path(__file__).parent / "assets"
EMOJI_DIR = ASSETS / "emoji"
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
SPECS = "emoji, emoji:SPLIT, icons, icons:validation, folder:PATH, imagenet:PATH, table:FILE, torchvision:NAME:PATH, webdataset:PATTERN"
PATH_COLUMNS = ("path", "file_name", "filename", "file", "image_path", "image")  # of a table, the first that is there
LABEL_COLUMNS = ("label", "classname", "class", "category", "fine_label")


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
        try:
            return flatten(self.opened(index)), int(self.labels[index])
        except Exception as error:  # decoders raise anything on a broken file: OSError, SyntaxError, struct.error ...
            raise InputError(f"Cannot read image {self.ids[index]!r} of {self.name}: {_first_line(error)}") from error

    def opened(self, index: int) -> Image.Image:
        """Image `index` as its file has it: in any mode, its pixels perhaps not read yet; raises what the reader raises."""
        return self.read(index if self.positions is None else int(self.positions[index]))

    def take(self, indices) -> LabeledImages:
        """The subset at `indices` (an array of positions or booleans, or a number: the first so many).

        >>> load_dataset("emoji").take(5).labels.shape
        (5,)
        """
        if np.isscalar(indices):
            places = np.arange(whole_number(indices, "indices", 0))[: len(self)]
        else:
            places = as_numpy(indices, "indices")
            if places.dtype == bool and places.shape == (len(self),):
                places = np.flatnonzero(places)
            if places.dtype.kind == "i":
                places = np.where(places < 0, places + len(self), places)  # from the end, as NumPy counts
            places = class_indices(places, "indices", num_classes=len(self))
            if len(np.unique(places)) < len(places):
                raise InputError(f"Expected `indices` without repeats, got {len(places) - len(np.unique(places))} too many")
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
            "icons" (embedded: fewer classes, each with 12 images or more; also "icons:validation"),
            "folder:PATH" (one folder a class; its name is the classname, "_" read as a space; a folder of pictures
            alone is an unlabelled set), "imagenet:PATH" (1,000 synset folders, names from open_clip),
            "table:FILE" (CSV, TSV or Parquet with the columns path, relative to the table, and label, empty where unknown;
            or Parquet with the pictures inside, as Hugging Face stores them; FILE may be a pattern),
            "torchvision:NAME:PATH" (a torchvision set already on disk), "webdataset:PATTERN" (tar shards with
            image + .cls files and a classnames.txt beside them).

    Raises:
        InputError: the spec, folder or split is unknown, empty or inconsistent.

    >>> data = load_dataset("emoji")
    >>> len(data.classnames) >= 500, data.labels.dtype
    (True, dtype('int64'))
    """
    kind, _, rest = (spec if isinstance(spec, str) else text_of(spec, "spec")).partition(":")
    openers = {"emoji": _emoji, "icons": open_icons, "folder": _folder, "imagenet": _imagenet, "table": _table, "torchvision": _torchvision,
               "webdataset": _webdataset}
    if kind not in openers:
        raise InputError(f"Unknown data set {spec!r}; known: {SPECS}")
    data = openers[kind](spec, rest)
    if not len(data):
        raise InputError(f"Expected images in {spec}, found none")
    return data


@cache
def check_asset(file: Path) -> None:
    """Raise InputError unless a shipped file is byte by byte what was released (`assets/SHA256SUMS`).

    >>> check_asset(EMOJI_DIR / "classes.json")
    """
    name = file.relative_to(ASSETS).as_posix()
    released = dict(line.split("  ")[::-1] for line in (ASSETS / "SHA256SUMS").read_text("utf-8").splitlines())
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {file}, which belongs to clipnb: {error.strerror}; install clipnb again") from None
    if found != released.get(name):
        raise InputError(f"Expected {file} as it was released (SHA-256 {released.get(name, 'unknown')[:16]} ...), got another content "
                         f"({found[:16]} ...): it is damaged or was changed; install clipnb again")


def _emoji(spec: str, split: str) -> LabeledImages:
    split = split or "test"
    if split not in EMOJI_SPLITS:
        raise InputError(f"Unknown split {split!r} of the emoji set; known: {', '.join(EMOJI_SPLITS)}")
    for name in EMOJI_SPLITS[split]:
        check_asset(EMOJI_DIR / name)
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
    folder = path_of(path or ".", "dataset").expanduser()
    if not path or not folder.is_dir():
        raise InputError(f"Expected an existing folder in {spec!r}, got {path or '(nothing)'}")
    return folder


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _from_files(spec: str, root: Path, files: list[Path], labels, classnames) -> LabeledImages:
    ids = [file.relative_to(root).as_posix() for file in files]
    return LabeledImages(spec, ids, np.asarray(labels, dtype=np.int64), classnames, lambda i: Image.open(files[i]),
                         versions=[_state(file) for file in files])


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
    shards = sorted(glob(str(path_of(pattern or ".", "dataset").expanduser())))
    if not shards:
        raise InputError(f"Expected tar shards for {spec!r}, found none")
    names_file = Path(shards[0]).parent / "classnames.txt"
    if not names_file.is_file():
        raise InputError(f"Expected a classname a line in {names_file}, found no such file")
    try:
        classnames = read_text(names_file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the classnames in {names_file}: {_first_line(error)}") from None
    samples: dict[str, dict] = {}
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as archive:  # uncompressed only: images are read by their offsets
                for member in archive:
                    if not member.isfile():  # nothing is unpacked, and links lead nowhere
                        continue
                    stem, _, suffix = member.name.rpartition(".")
                    sample = samples.setdefault(f"{Path(shard).name}/{stem}", {})
                    if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                        if "image" in sample:
                            raise InputError(f"Expected one image a sample in {shard}, got two of the name {stem!r}")
                        sample["image"] = (shard, member.offset_data, member.size)
                    elif suffix == "cls":
                        sample["label"] = int(archive.extractfile(member).read(64))
        except InputError:
            raise
        except (tarfile.TarError, ValueError, OSError) as error:
            raise InputError(f"Cannot read {shard} as an uncompressed tar of images and .cls numbers: "
                             f"{_first_line(error)}") from None
    samples = {key: sample for key, sample in samples.items() if "image" in sample}
    places = [sample["image"] for sample in samples.values()]
    labels = [sample.get("label", -1) for sample in samples.values()]
    labels = class_indices(labels, f"labels in {spec}", num_classes=len(classnames), unknown=True)

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


def _table(spec: str, pattern: str) -> LabeledImages:
    pattern = str(path_of(pattern or ".", "dataset").expanduser())
    files = [Path(file) for file in ([pattern] if Path(pattern).is_file() else sorted(glob(pattern)))]
    if not files:
        raise InputError(f"Expected a CSV or Parquet table in {spec!r}, found none")
    ids, labels, readers, versions, names = [], [], [], [], None
    for file in files:
        try:
            rows, found = _parquet_rows(file) if file.suffix == ".parquet" else (_csv_rows(file), None)
        except InputError:
            raise
        except (pa.ArrowException, OSError, csv.Error, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"Cannot read the table {file}: {_first_line(error)}") from None
        names = names or found
        for name, label, reader in rows:
            ids.append(name)
            labels.append(label)
            readers.append(reader)
            versions.append(_state(reader.args[0] if reader.func is Image.open else file))
    if len(set(ids)) < len(ids):
        raise InputError(f"Expected each picture once in {spec}, got {next(i for i, n in Counter(ids).items() if n > 1)!r} again")
    if names is None:
        known = {label for label in labels if label}
        names = sorted(known, key=lambda name: (int(name) if name.isdecimal() else -1, name))  # class 10 comes after class 9
        place = {name: i for i, name in enumerate(names)}
        labels = [place.get(label, -1) for label in labels]
    labels = class_indices(labels, f"labels in {spec}", num_classes=max(1, len(names)), unknown=True)
    return LabeledImages(spec, ids, labels, names, lambda i: readers[i](), versions=versions)


def _state(file: Path) -> tuple[int, int] | None:
    """Size and time of change; None if it is not there, which is found out when it is read."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _column(columns, wanted, file: Path, what: str, needed: bool = True) -> str | None:
    found = next((name for name in wanted if name in columns), None)
    if found is None and needed:
        raise InputError(f"Expected a column of {what} ({', '.join(wanted)}) in {file}, got {', '.join(map(str, columns)) or 'none'}")
    return found


def _inside(table: Path, path: str) -> Path:
    """A picture of a table, which lies in the table's folder or below: a table from elsewhere reaches no other files."""
    if not isinstance(path, str) or "\0" in path or os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir:
        raise InputError(f"Expected paths of pictures below the folder of the table {table}, got {path!r}; put the table above its pictures")
    return table.parent / path


def _csv_rows(file: Path) -> list[tuple]:
    """(id, label or "", reader) of each row."""
    with open(file, encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text, delimiter="\t" if file.suffix == ".tsv" else ",")
        columns = rows.fieldnames or []
        path, label = _column(columns, PATH_COLUMNS, file, "paths"), _column(columns, LABEL_COLUMNS, file, "labels", needed=False)
        found = []
        for row in rows:
            if None in row:  # where DictReader puts the rest: a comma without quotes moves every cell after it
                raise InputError(f"Expected {len(columns)} cells a row in {file}, got {len(columns) + len(row[None])} in line {rows.line_num}: quote a cell with commas")
            if row[path]:
                found.append((row[path], (row[label] or "") if label else "", partial(Image.open, _inside(file, row[path]))))
        return found


def _parquet_rows(file: Path) -> tuple[list[tuple], list[str] | None]:
    """(id, label, reader) of each row, and the names of numeric labels if the file knows them."""
    table = pq.ParquetFile(file)
    schema = table.schema_arrow
    image = _column(schema.names, PATH_COLUMNS[::-1], file, "pictures or paths")  # rather the pictures, if it has both
    label = _column(schema.names, LABEL_COLUMNS, file, "labels", needed=False)
    labels = table.read([label])[label].to_pylist() if label else [None] * table.metadata.num_rows
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    names = features.get(label, {}).get("names")
    labels = [-1 if value is None else value for value in labels] if names else ["" if value is None else str(value) for value in labels]
    if pa.types.is_string(schema.field(image).type) or pa.types.is_large_string(schema.field(image).type):
        paths = table.read([image])[image].to_pylist()
        return [(path, value, partial(Image.open, _inside(file, path))) for path, value in zip(paths, labels)], names

    @lru_cache(maxsize=4)  # a row group at a time: the pictures of a whole set may be larger than memory
    def group(number: int) -> list:
        return table.read_row_group(number, [image])[image].to_pylist()

    def picture(number: int, row: int) -> Image.Image:
        with reading:
            value = group(number)[row]
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise OSError("the table holds no bytes of it")
        return Image.open(io.BytesIO(content))

    reading = Lock()
    places = [(number, row) for number in range(table.num_row_groups) for row in range(table.metadata.row_group(number).num_rows)]
    return [(f"{file.name}#{i}", value, partial(picture, *place)) for i, (value, place) in enumerate(zip(labels, places))], names


def with_classes(data: LabeledImages, file: str | Path) -> LabeledImages:
    """The same pictures under the classnames of a file: a list of candidates, or a mapping of names.

    - A list (text with a name a line, a JSON list, or COCO's {"categories": [{"id", "name"}]}): the classes to choose from.
      It names the classes of unlabelled pictures. Labelled classes must be among them (for COCO by name or id); there may be more.
    - A mapping (JSON {folder: name} or {folder: [name, synonym, ...]}, or CSV rows "folder,name,synonym, ..."): what to call
      some or all of the labelled classes.

    Args:
        data: from `load_dataset`.
        file: .txt, .json or .csv, in UTF-8.

    Returns:
        `data` with new classnames and labels; `notes["synonyms"]` has of each class all its names, the shown one first.

    Raises:
        InputError: the file cannot be read, or does not fit the classes of `data`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "names.txt").write_text("dog\\ncat\\n")
    ...     with_classes(replace(load_dataset("emoji").take(2), classnames=[], labels=np.array([-1, -1])), folder + "/names.txt").classnames
    ['dog', 'cat']
    """
    file = path_of(file, "file")
    having(data, "data", "classnames", "clipnb.load_dataset")
    entries, mapping = _read_classes(file, data.classnames)
    if any(not names or not all(isinstance(name, str) and name.strip() for name in names) for _, names in entries) or not entries:
        raise InputError(f"Expected non-empty classnames in {file}, got none or an empty one")
    place: dict[str, int] = {}
    for i, (key, _) in enumerate(entries):
        place.setdefault(_key(key), i)
    own = [_key(name) for name in data.classnames]
    if mapping:
        if unknown := [key for key in place if key not in own]:
            raise InputError(f"Expected classes of {data.name} in {file}, got {len(unknown)} others: {', '.join(map(repr, unknown[:3]))}")
        names = [entries[place[key]][1] if key in place else [name] for key, name in zip(own, data.classnames)]
        labels = data.labels
    else:
        if missing := [key for key in own if key not in place]:
            raise InputError(f"Expected all classes of {data.name} in {file}, {len(missing)} are missing: {', '.join(map(repr, missing[:3]))}")
        names = [names for _, names in entries]
        labels = np.array([*(place[key] for key in own), -1])[data.labels]  # -1, unknown, takes the last: it stays -1
    return replace(data, classnames=[group[0] for group in names], labels=labels, notes=data.notes | {"synonyms": names})


def _key(name) -> str:
    return str(name).replace("_", " ").strip()  # as `_folder` reads folder names


def _read_classes(file: Path, known: list[str]) -> tuple[list[tuple], bool]:
    """(what a class is called in the data, [names]) of each entry, and whether the file is a mapping."""
    try:
        text = read_text(file)
        content = json.loads(text) if file.suffix == ".json" else None
    except OSError as error:
        raise InputError(f"Expected a file of classnames, got {file}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"Cannot read the classnames in {file}: {_first_line(error)}") from None
    if file.suffix == ".csv":
        rows = [[cell.strip() for cell in row if cell.strip()] for row in csv.reader(io.StringIO(text))]
        return [(row[0], row[1:]) for row in rows if row], True
    if content is None:
        return [(line.strip(), [line.strip()]) for line in text.splitlines() if line.strip()], False
    try:
        if isinstance(content, dict) and isinstance(content.get("categories"), list):
            by = "id" if known and all(name.isdecimal() for name in known) else "name"
            return [(category[by], [category["name"]]) for category in content["categories"]], False
        if isinstance(content, dict):
            return [(key, [value] if isinstance(value, str) else list(value)) for key, value in content.items()], True
        return [(name, [name]) for name in content], False
    except (KeyError, TypeError):
        raise InputError(f"Expected {file} to hold a list of names, {{folder: name}} or COCO's categories") from None
