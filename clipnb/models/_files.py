"""Explain why a file does not hold usable weights."""

from __future__ import annotations

import codecs
import json
import re
import zipfile
from pathlib import Path

import torch

WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")  # suffixes of files that should hold weights
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"BZh": "a bzip2 archive: unpack it first",
    b"\xfd7zXZ": "an xz archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"(\xb5/\xfd": "a zstd archive: unpack it first",
    b"\x89HDF": "an HDF5 file (Keras, TensorFlow), expected weights of PyTorch",
    b"GGUF": "a GGUF file, expected weights of PyTorch",
}
# Bytes to read from the beginning of a file. The header of a safetensors file is longer; its first eight bytes hold its
# length.
HEAD_BYTES = 1024
MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors itself


def weights_problem(path: Path) -> str | None:
    """Why a file cannot be a checkpoint that open_clip reads; None if it looks like one.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "model.pt").write_bytes(b"<!DOCTYPE html><html>")
    ...     weights_problem(Path(folder, "model.pt"))
    'it is a web page (HTML) that was saved in place of the weights: download the file itself'
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return "it is empty: the download or the copy was not finished"
    if problem := pointer_problem(path):
        return problem
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head|body)", head, re.IGNORECASE):
        return "it is a web page (HTML) that was saved in place of the weights: download the file itself"
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES:
        return _safetensors_problem(path)
    if head.startswith(b"PK\x03\x04"):
        return _zip_problem(path)
    for beginning, what in OTHER_FORMATS.items():
        if head.startswith(beginning):
            return f"it is {what}"
    if text := _text_of(head):
        return f"it is text, not weights; it begins with {text[:40]!r}"
    if path.suffix == ".safetensors":
        return "it is not a safetensors file, or a damaged one"
    return None


def pointer_problem(path: Path) -> str | None:
    """Why a file is only a Git LFS pointer; None if it is not one."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) != LFS_POINTER:
            return None
    return (
        f"it is a Git LFS pointer of {path.stat().st_size} bytes, which is a placeholder for the file: "
        "run `git lfs pull` in its repository, or download the file itself"
    )


def folder_problem(folder: Path) -> str | None:
    """Which file of a model's folder is unusable, and why; None if all look usable."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    for file in files:
        problem = weights_problem(file) if file.suffix in WEIGHTS else pointer_problem(file)
        if problem:
            return f"{file.name}: {problem}"
    if not any(file.suffix in WEIGHTS for file in files):
        return "the folder holds no weights (open_clip_model.safetensors, or another .safetensors, .bin or .pth file)"
    return None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI publishes its weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def layout_problem(text: str, name: str) -> str | None:
    """How the names or shapes in a checkpoint differ from an architecture's, extracted from PyTorch's message."""
    missing, unexpected = (
        re.findall(r'"([^"]+)"', match[1])
        if (match := re.search(rf"{kind} key\(s\) in state_dict: ([^\n]*)", text))
        else []
        for kind in ("Missing", "Unexpected")
    )
    if missing or unexpected:
        layout = (
            " (names as in Hugging Face transformers)"
            if unexpected and unexpected[0].startswith(("text_model.", "vision_model."))
            else ""
        )
        return (
            f"the names of its tensors are not those of {name}: first missing key {_first(missing)}, "
            f"first unexpected key {_first(unexpected)}{layout}; "
            "it belongs to another architecture or is in another library's layout"
        )
    shape = re.search(
        r"size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\) from checkpoint, "
        r"the shape in current model is torch\.Size\((.*?)\)",
        text,
    )
    if shape:
        return (
            f"it belongs to another architecture: {shape[1]} has shape {shape[2]} in the file and {shape[3]} in {name}"
        )
    return None


def stored_shapes(path: Path) -> dict[str, list[int]]:
    """Shapes of the tensors in a checkpoint by name, without reading the tensors; empty where that is not possible."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return {key: entry["shape"] for key, entry in header.items() if key != "__metadata__"}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content = content.get("state_dict", content)
        return {
            key.removeprefix("module."): list(value.shape)
            for key, value in content.items()
            if isinstance(value, torch.Tensor)
        }
    except Exception:  # an older format, or a pickle that was trusted: not worth reading twice
        return {}


def _text_of(head: bytes) -> str | None:
    """The beginning of a file as text; None where it is binary."""
    if re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head)  # which accepts a last character that is cut
    except UnicodeDecodeError:
        return None


def _first(keys: list[str]) -> str:
    return f"{keys[0]!r} (of {len(keys)})" if keys else "none"


def _safetensors_problem(path: Path) -> str | None:
    if path.suffix != ".safetensors":
        return "it is a safetensors file under another suffix: rename it to .safetensors"
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    try:
        ends = [entry["data_offsets"][1] for key, entry in json.loads(header).items() if key != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return "its safetensors header is cut off or damaged: download or copy it again"
    if size < whole:
        return f"it is cut off after {size:,} of {whole:,} bytes: download or copy it again"
    return None


def _zip_problem(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "it is a PyTorch checkpoint or another zip archive that is cut off: download or copy it again"
    if path.suffix == ".npz":
        return None
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        content = ", ".join(map(repr, names[:3])) or "nothing"
        return (
            f"it is a zip archive, but not a checkpoint of PyTorch; it holds {content}: "
            "unpack it and name the file of weights"
        )
    if path.suffix == ".safetensors":
        return "it is a checkpoint of PyTorch under the suffix .safetensors: rename it to .pt"
    return None
