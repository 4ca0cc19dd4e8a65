"""ImageNet's validation set in the layouts that are in use, with everything that can be wrong reported before encoding.

The synset ids and their WordNet names are read from the installed timm (which open_clip brings), the classnames from
open_clip.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from clipnb._files import path_of
from clipnb._format import first_line
from clipnb._wordnet import synset_names, synsets
from clipnb.datasets._folder import LeaveOut, existing_folder, from_files, images_below, ledger
from clipnb.datasets._images import LabeledImages, is_hidden, some
from clipnb.errors import InputError
from clipnb.prompts import check_classnames, duplicate_classnames
from clipnb.similarity import parallel_map

PER_CLASS = 50  # images of each class in the validation set
DEVKIT = "ILSVRC2012_devkit_t12"
SYNSET = re.compile(r"n\d{8}")
# Hugging Face's copy adds the synset id.
NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?\.\w+", re.IGNORECASE)
BESIDE = "images beside the synset folders"
OF_TRAINING = re.compile(r"n\d{8}_\d+\.\w+", re.IGNORECASE)


def imagenet_classnames() -> list[str]:
    """The 1,000 classnames of open_clip (OpenAI's, two of them duplicated), in the order of the synset ids.

    >>> imagenet_classnames()[:2]
    ['tench', 'goldfish']
    """
    import open_clip  # slow to import

    names = list(open_clip.IMAGENET_CLASSNAMES)
    check_order(names)
    return names


def check_order(classnames: Sequence[str]) -> None:
    """Raise InputError unless 1,000 classnames are in the order of the synset ids.

    Most names are WordNet's own for their synset. No name may belong to a different synset, except for duplicates.

    >>> names = imagenet_classnames()
    >>> check_order([names[1], names[0], *names[2:]])
    Traceback (most recent call last):
    clipnb.errors.InputError: Expected classname 0 to be that of n01440764 (tench, Tinca tinca), got 'goldfish', which
    is n01443537: ...
    """
    classnames = check_classnames(classnames)
    if len(classnames) != len(synsets()):
        raise InputError(f"Expected {len(synsets())} classnames, one a synset, got {len(classnames)}")
    plain = [_plain(name) for name in classnames]
    owners: dict[str, set[int]] = {}
    for c, names in enumerate(synset_names()):
        for name in names:
            owners.setdefault(_plain(name), set()).add(c)
    shared = {c for group in duplicate_classnames(classnames).values() for c in group}
    for c, name in enumerate(plain):
        if c not in shared and c not in owners.get(name, {c}):
            raise InputError(
                f"Expected classname {c} to be that of {synsets()[c]} ({', '.join(synset_names()[c])}), got "
                f"{classnames[c]!r}, which is {synsets()[min(owners[name])]}: the classnames are not in the order of "
                "the synset ids"
            )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def repaired_classnames() -> list[str]:
    """`imagenet_classnames` with each later duplicate under another of its WordNet names.

    >>> [(old, new) for old, new in zip(imagenet_classnames(), repaired_classnames()) if old != new]
    [('missile', 'projectile'), ('sunglasses', 'dark glasses')]
    """
    names = imagenet_classnames()
    taken = {_plain(name) for name in names}
    for _, *later in duplicate_classnames(names).values():
        for c in later:
            names[c] = next((name for name in synset_names()[c] if _plain(name) not in taken), names[c])
    return names


def open_imagenet(path: str | Path, partial: bool = False) -> LabeledImages:
    """ImageNet's validation images in any of the layouts in use.

    - One folder a synset (`n01440764/*.JPEG`), in `path` or in `path/val`: torchvision's layout and that of most
      copies.
    - All images in one folder (`ILSVRC2012_img_val`, `val` or `path` itself), with the development kit
      (ILSVRC2012_devkit_t12) beside them, which lists the synset of each.

    If the kit is present, or file names contain synset ids, the folders are checked against them as well.

    Args:
        path: the folder.
        partial: accept other numbers of images a class than 50 (but not 0), for a try-out.

    Raises:
        InputError: the folder is missing; a class is missing or unexpected; images are missing or of the training set;
            folders have swapped names; images are not in the kit's list.
    """
    root = path_of(path, "path").expanduser()
    if not root.is_dir():
        raise InputError(f"Expected a folder with ImageNet's validation images, got {path}")
    places = [
        place for place in (root / "val", root / "validation", root / "ILSVRC2012_img_val", root) if place.is_dir()
    ]
    truth = _ground_truth(root)
    left_out, leave_out = ledger()
    for place in places:
        if any(p.is_dir() and SYNSET.fullmatch(p.name) for p in place.iterdir()):
            files = _from_folders(place, truth, leave_out)
            break
        aside, account = ledger()
        images = images_below(place, place, account, deep=False)
        if images:
            files = _from_list(place, images, truth)
            left_out |= aside
            break
    else:
        train = next((p for p in root.rglob("*") if p.name == "train" and p.is_dir()), None)
        inside = ", ".join(sorted(p.name for p in root.iterdir())[:5]) or "nothing"
        raise InputError(
            f"Expected the validation images in {root}, got the training set only ({train})"
            if train
            else "Expected folders named by synset id (n01440764 ...) or ILSVRC2012_val_*.JPEG in "
            f"{root}, got: {inside}"
        )
    _check_counts(place, Counter(label for _, label in files), partial)
    return from_files(
        f"imagenet:{path}",
        place,
        [file for file, _ in files],
        [label for _, label in files],
        imagenet_classnames(),
        left_out=left_out,
    )


def open_spec(spec: str, path: str, partial: bool = False) -> LabeledImages:
    """`open_imagenet` for a spec of `load_dataset`."""
    existing_folder(path, spec)
    return open_imagenet(path, partial)


def _from_folders(place: Path, truth: dict[int, str] | None, leave_out: LeaveOut) -> list[tuple[Path, int]]:
    for file in images_below(place, place, leave_out, deep=False):
        leave_out(BESIDE, file.name)
    folders = {p.name: p for p in sorted(place.iterdir()) if p.is_dir() and not is_hidden(p.name)}
    extra = sorted(set(folders) - set(synsets()))
    missing = sorted(set(synsets()) - set(folders))
    if missing:
        raise InputError(
            f"Expected {len(synsets())} synset folders in {place}, {len(missing)} missing: {some(_named(missing))}"
            + (f"; and {len(extra)} too many: {some(extra)}" if extra else "")
        )
    if extra:
        raise InputError(
            f"Expected {len(synsets())} synset folders in {place}, got {len(extra)} too many: {some(extra)}; "
            "move them elsewhere"
        )
    files: list[tuple[Path, int]] = []
    wrong: list[str] = []
    for label, name in enumerate(synsets()):
        for file in images_below(folders[name], place, leave_out):
            if OF_TRAINING.fullmatch(file.name):
                raise InputError(
                    f"Expected validation images in {place}, got the training set: {name}/{file.name} is named "
                    "like one of its images"
                )
            known = _synset_of(file, truth)
            if known not in (None, name):
                wrong.append(f"{file.name} is in {name} and belongs to {known}")
            files.append((file, label))
    if wrong:
        raise InputError(
            f"Expected each image of {place} in the folder of its synset, got {len(wrong)} elsewhere, as if "
            f"folders were swapped: {some(wrong)}"
        )
    return files


def _from_list(place: Path, images: list[Path], truth: dict[int, str] | None) -> list[tuple[Path, int]]:
    if OF_TRAINING.fullmatch(images[0].name):
        raise InputError(
            f"Expected validation images in {place}, got the training set: {images[0].name} is named like one of "
            "its images"
        )
    label: dict[str | None, int] = {name: c for c, name in enumerate(synsets())}
    named = [(file, _synset_of(file, truth)) for file in images]
    unknown = [file.name for file, name in named if name not in label]
    if unknown and truth is None:
        raise InputError(
            f"Expected the development kit ({DEVKIT}) beside {place}, got no such folder: nothing says which synset "
            f"{unknown[0]} is of"
        )
    if unknown:
        raise InputError(
            f"Expected images that the development kit lists in {place}, got {len(unknown)} others: {some(unknown)}"
        )
    return sorted(((file, label[name]) for file, name in named), key=lambda pair: (pair[1], pair[0].name))


def _synset_of(file: Path, truth: dict[int, str] | None) -> str | None:
    """The synset in the file's name, or else the kit's for its number; None if neither is known."""
    match = NUMBERED.fullmatch(file.name)
    if not match:
        return None
    return match[2] or (truth or {}).get(int(match[1]))


def _check_counts(place: Path, counts: Counter[int], partial: bool) -> None:
    empty = [synsets()[c] for c in range(len(synsets())) if not counts[c]]
    if empty:
        raise InputError(f"Expected images of every synset in {place}, none of {len(empty)}: {some(_named(empty))}")
    odd = {synsets()[c]: n for c, n in sorted(counts.items()) if n != PER_CLASS}
    if odd and not partial:
        raise InputError(
            f"Expected {PER_CLASS} images of each synset in {place}, got another number for {len(odd)}: "
            f"{some([f'{n} of {name}' for name, n in odd.items()])}; --partial or imagenet-partial:PATH accepts "
            "that, for a try-out"
        )


def _ground_truth(root: Path) -> dict[int, str] | None:
    """Synset id by number of image, from the development kit in or beside the folder; None without a kit."""
    kits = [
        folder / "data"
        for base in (root, root.parent)
        for folder in (base / DEVKIT, base)
        if (folder / "data").is_dir()
    ]
    kit = next((kit for kit in kits if (kit / "ILSVRC2012_validation_ground_truth.txt").is_file()), None)
    if kit is None:
        return None
    from scipy.io import loadmat

    file = kit / "ILSVRC2012_validation_ground_truth.txt"
    meta = kit / "meta.mat"
    try:
        table = loadmat(meta, squeeze_me=True)["synsets"]
        names = {int(number): str(name) for number, name in zip(table["ILSVRC2012_ID"], table["WNID"])}
        truth = {i: names[int(line)] for i, line in enumerate(file.read_text().split(), start=1)}
    except Exception as error:  # scipy raises anything on a file that is not a .mat file
        raise InputError(
            f"Cannot read the development kit in {kit}: {type(error).__name__}: {first_line(error)}"
        ) from None
    strange = sorted(set(truth.values()) - set(synsets()))
    if strange:
        raise InputError(
            f"Expected ImageNet's 1,000 synsets in {file}, got others: {some(strange)}; {meta.name} does not "
            "belong to it"
        )
    return truth


def _named(ids: list[str]) -> list[str]:
    """Synset ids, each with its first WordNet name."""
    return [f"{name} ({synset_names()[synsets().index(name)][0]})" for name in ids]


def check_readable(data: LabeledImages) -> None:
    """Raise InputError unless every image can be decoded to its last byte; all are tried and counted.

    JPEGs are decoded at an eighth of their size, which reads the whole file but computes little.
    """

    def problem(i: int) -> str | None:
        try:
            with data.opened(i) as image:
                image.draft("RGB", (image.width // 8, image.height // 8))
                image.load()
        except Exception as error:  # decoders raise anything on a broken file
            return f"{data.ids[i]} ({first_line(error)})"

    bad = [line for line in parallel_map(problem, range(len(data))) if line]
    if bad:
        raise InputError(
            f"Expected {len(data)} images that can be read in {data.name}, got {len(bad)} that cannot: "
            f"{some(bad)}; fetch them again"
        )
