"""Lay out the embedded model for the browser, and what the two labs of the book show, under book/_vendor/lab/.

Every file is a script (`page_scripts.as_script`), so that a page opened from a folder can load it. Does nothing when
the folder is current: the weights, the icon set, the texts and this code are unchanged.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from tools.book import page_scripts

HERE = Path(__file__).parent
TARGET = page_scripts.TARGET / "lab"
ASSETS = page_scripts.BOOK.parent / "clipnb/assets"
MODEL_FILES = ("open_clip_model.safetensors", "open_clip_config.json", "tokenizer.json")
ICON_FILES = ("classes.json", "validation.parquet", "test.parquet", "test-sharealike.parquet")
SOURCES = [
    *(ASSETS / "clipnb-mini" / name for name in MODEL_FILES),
    *(ASSETS / "icons" / name for name in ICON_FILES),
    ASSETS / "descriptions/icons.json",
    page_scripts.BOOK / "package-lock.json",
    *(HERE / name for name in ("browser_model.py", "lab_pages.py", "page_scripts.py", "towers.py")),
    *sorted((HERE / "labs").glob("*.html")),
]


def wanted() -> str:
    """A fingerprint of everything that decides what the folder holds."""
    digest = hashlib.sha256()
    for file in SOURCES:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def build() -> None:
    stamp = TARGET / "fingerprint"
    if stamp.is_file() and stamp.read_text() == wanted():
        return
    print("Laying out the model for the browser ...", flush=True)
    # they import PyTorch, which takes seconds, and are needed only now
    import clipnb
    from tools.book import lab_pages, towers

    # everything is prepared beside the target, so an interrupted run leaves the old folder whole
    with tempfile.TemporaryDirectory(dir=page_scripts.BOOK, prefix="_vendor.") as scratch:
        new = Path(scratch) / "lab"
        new.mkdir()
        model = clipnb.load_model()
        lab = lab_pages.Lab(model)
        files = {**towers.model_files(model), **lab_pages.data_files(lab)}
        for name, content in files.items():
            (new / f"{name}.js").write_text(page_scripts.as_script(name, content))
        for name, page in lab_pages.pages(lab, sizes(new)).items():
            (new / name).write_text(page, "utf-8")
        (new / "fingerprint").write_text(wanted())
        shutil.rmtree(TARGET, ignore_errors=True)
        new.rename(TARGET)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every script in the folder, and of the runtime."""
    runtime = page_scripts.TARGET / "vendor/onnxruntime"
    return {file.stem: file.stat().st_size for file in folder.glob("*.js")} | {
        "runtime": sum(file.stat().st_size for file in runtime.iterdir())
    }


if __name__ == "__main__":
    try:
        build()
    except OSError as error:
        sys.exit(f"Could not lay out the model for the browser: {error}")
