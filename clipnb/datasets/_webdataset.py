"""`webdataset:PATTERN`: uncompressed tar shards with images and their labels, and a classnames.txt beside them."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from glob import glob
from pathlib import Path
from typing import IO, cast

from PIL import Image

from clipnb._checks import class_indices
from clipnb._files import path_of, read_text
from clipnb._format import first_line
from clipnb.datasets._folder import LeaveOut, ledger
from clipnb.datasets._images import HIDDEN, LabeledImages, clean_name, is_hidden, why_not
from clipnb.errors import InputError

NO_IMAGE = "samples without an image"
FURTHER = "further images of a sample that has one"
LINKS = "links inside an archive"
Place = tuple[str, int, int]  # (shard, offset, size) of an image
Sample = tuple[str, int, Place]  # (id, label, place)
JSON_LABELS = ("cls", "label", "class", "target")
MAX_LABEL_BYTES = 2**20  # a longer .cls or .json file holds something else


def open_webdataset(spec: str, pattern: str) -> LabeledImages:
    """The samples of all shards that match; PATTERN may hold braces, {000..010}, as WebDataset writes them."""
    shards = _shards(spec, pattern)
    names_file = Path(shards[0]).parent / "classnames.txt"
    if not names_file.is_file():
        raise InputError(f"Expected a classname a line in {names_file}, found no such file")
    try:
        classnames = [clean_name(line) for line in read_text(names_file).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the classnames in {names_file}: {first_line(error)}") from None
    while classnames and not classnames[-1]:
        classnames.pop()
    left_out, leave_out = ledger()
    root = os.path.commonpath([Path(shard).parent for shard in shards])
    samples = [
        sample
        for shard in shards
        for sample in _samples(shard, Path(os.path.relpath(shard, root)).as_posix(), classnames, leave_out)
    ]
    ids = [name for name, _, _ in samples]
    places = [place for _, _, place in samples]
    numbers = [label for _, label, _ in samples]
    labels = class_indices(numbers, f"labels in {spec}", num_classes=len(classnames), unknown=True)

    def read(i: int) -> Image.Image:
        shard, offset, size = places[i]
        with open(shard, "rb") as file:
            file.seek(offset)
            return Image.open(io.BytesIO(file.read(size)))

    changed = {shard: Path(shard).stat().st_mtime_ns for shard in shards}
    versions = [(changed[shard], offset, size) for shard, offset, size in places]
    return LabeledImages(spec, ids, labels, classnames, read, versions=versions, left_out=left_out, turned=True)


def _shards(spec: str, pattern: str) -> list[str]:
    shards = []
    for part in _braces(str(path_of(pattern or ".", "dataset").expanduser())):
        matches = [part] if Path(part).is_file() else sorted(glob(part))
        if not matches and shards:
            raise InputError(f"Expected all tar shards of {spec!r}, found no {part}")
        shards += matches
    if not shards:
        raise InputError(f"Expected tar shards for {spec!r}, found none")
    return list(dict.fromkeys(shards))


def _braces(pattern: str) -> list[str]:
    """All patterns that a pattern with braces stands for.

    >>> _braces("a-{08..10}.tar"), _braces("{train,val}.tar")
    (['a-08.tar', 'a-09.tar', 'a-10.tar'], ['train.tar', 'val.tar'])
    """
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if not match or Path(pattern).exists():
        return [pattern]
    first, last, names = match.groups()
    if names is None:
        count = int(last) - int(first) + 1
        if not 0 < count <= 10**6:
            raise InputError(f"Expected ascending numbers in braces, got {match[0]} in {pattern}")
        parts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        parts = names.split(",")
    return [whole for part in parts for whole in _braces(pattern[: match.start()] + part + pattern[match.end() :])]


def _samples(shard: str, title: str, classnames: list[str], leave_out: LeaveOut) -> list[Sample]:
    """(id, label, (shard, offset, size)) of each image of a shard."""
    images: dict[str, tuple[str, Place]] = {}  # by name without suffix
    labels: dict[str, int] = {}
    keys: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as archive:  # uncompressed only: images are read by their offsets
            for member in archive:
                if member.isdir():
                    continue
                name = f"{title}/{member.name}"
                if any(is_hidden(part) for part in Path(member.name).parts if part.strip(".")):
                    leave_out(HIDDEN, name)
                    continue
                if not member.isfile():  # links are not followed, since nothing is unpacked
                    leave_out(LINKS, name)
                    continue
                # As WebDataset: the key of a sample ends at the first dot of the file's name, folders aside.
                folder, slash, base = member.name.rpartition("/")
                key = folder + slash + base.partition(".")[0]
                stem, _, suffix = member.name.rpartition(".")
                keys.setdefault(key, name)
                if why_not(base) is None:
                    if stem in images:
                        raise InputError(f"Expected one image a sample in {shard}, got two of the name {stem!r}")
                    images[stem] = (key, (shard, member.offset_data, member.size))
                elif suffix.casefold() in ("cls", "json"):
                    file = cast("IO[bytes]", archive.extractfile(member))  # None only for what is not a file
                    content = file.read(MAX_LABEL_BYTES)
                    label = int(content) if suffix.casefold() == "cls" else _json_label(content, classnames)
                    if label is not None and (suffix.casefold() == "cls" or stem not in labels):
                        labels[stem] = label
            _refuse_rest(archive, shard)
    except InputError:
        raise
    except (tarfile.TarError, ValueError, OSError, RecursionError) as error:
        raise InputError(
            f"Cannot read {shard} as an uncompressed tar of images and .cls numbers: "
            f"{_packed(shard) or first_line(error)}"
        ) from None
    samples: list[Sample] = []
    seen: set[str] = set()
    for stem, (key, place) in images.items():
        seen.add(key)
        if stem != key and key in images:  # 000.seg.png beside 000.jpg
            leave_out(FURTHER, f"{title}/{stem}")
        else:
            samples.append((f"{title}/{stem}", labels.get(stem, labels.get(key, -1)), place))
    for key, name in keys.items():
        if key not in seen:
            leave_out(NO_IMAGE, name)
    return samples


def _json_label(content: bytes, classnames: list[str]) -> int | None:
    """The label in a sample's JSON: a class index, or a classname; None if it has none."""
    entry = json.loads(content)
    value = next((entry[key] for key in JSON_LABELS if key in entry), None) if isinstance(entry, dict) else None
    if isinstance(value, str) and clean_name(value) in classnames:
        return classnames.index(clean_name(value))
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"the label {value!r} is neither a class index nor a line of classnames.txt")


def _refuse_rest(archive: tarfile.TarFile, shard: str) -> None:
    """Raise ReadError if anything but the end mark follows the last member: tarfile ignores damaged headers."""
    file = cast("IO[bytes]", archive.fileobj)
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"it is damaged or cut off at byte {archive.offset}")


def _packed(shard: str) -> str | None:
    """Why a shard cannot be read, if it is compressed."""
    with open(shard, "rb") as file:
        start = file.read(6)
    if not start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")):
        return None
    return "it is compressed; unpack it once (gunzip, unzstd ...), since images are read by their place in the file"
