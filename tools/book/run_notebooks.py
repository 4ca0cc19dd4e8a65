"""Execute the notebooks with papermill and put the executed copies into book/notebooks/.

    python -m tools.book.run_notebooks                                   # all notebooks that changed
    python -m tools.book.run_notebooks 05 09 -p dataset folder:/my/pictures   # two of them, on other data

A notebook is skipped while its executed copy is current and whole: same notebook, same package, same lock file, same
    parameters.
book/notebooks/status.json records what ran, where and for how long; the book's status page shows it.
Exit codes: 0 done, 1 a notebook failed, 2 unusable arguments.
"""

import argparse
import ast
import base64
import hashlib
import io
import json
import os
import platform
import re
import sys
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "clipnb",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "numpy",
    "pandas",
    "scikit-learn",
    "ipywidgets",
    "anywidget",
    "papermill",
    "jupyter-book",
)
CELL_TIMEOUT = 1200  # seconds; a hung cell fails its notebook, not the machine
VISIBLE = 0.5  # of 255 levels: a mean difference from which fewer colours can be seen
# On Linux each worker's kernels are copies of one process that has imported the large libraries: a third of the time
# is saved. (A kernel is a process of its own all the same, and each notebook still imports what it names.)
PROCESSES = get_context("forkserver" if sys.platform == "linux" else "spawn")
# Not pandas, not matplotlib: at import they look whether a notebook is around them.
IMPORTED = ["open_clip", "scipy.stats", "ipykernel.kernelapp"]


# ---- what there is to run -------------------------------------------------------------------------------------------


def declared_parameters(notebook: dict) -> set[str]:
    """Names that the cell tagged `parameters` assigns."""
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            body = ast.parse("".join(cell["source"])).body
            return {target.id for line in body if isinstance(line, ast.Assign) for target in line.targets}
    return set()


def select(sources: list[Path], wanted: list[str]) -> list[Path]:
    """The notebooks whose name, or its beginning, was asked for; all when none was."""
    chosen = []
    for name in wanted:
        stem = Path(name).name.removesuffix(".ipynb")
        matches = [source for source in sources if source.stem.startswith(stem)]
        if not matches:
            raise ValueError(f"unknown notebook {name!r}; there are: {', '.join(s.stem for s in sources)}")
        chosen += [match for match in matches if match not in chosen]
    return sorted(chosen) or sources


def parse_value(text: str):
    """A number, true/false or none where the text is one, else the text itself."""
    literals = {"true": True, "false": False, "none": None}
    if text.lower() in literals:
        return literals[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def fingerprint_of_package() -> str:
    """One hash of everything beside the notebook that decides its output."""
    digest = hashlib.sha256(platform.python_version().encode())
    files = [f for f in (ROOT / "clipnb").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    for file in [*sorted(files), ROOT / "requirements.lock", Path(__file__).resolve()]:
        digest.update(str(file.relative_to(ROOT)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def fingerprint(source: Path, package: str, parameters: dict) -> str:
    text = source.read_text(encoding="utf-8") + package + json.dumps(parameters, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# ---- running one (in a worker process) ------------------------------------------------------------------------------


def prepare(debug: bool, many: bool) -> None:
    """Make a worker ready to run notebooks."""
    if not debug:
        quiet()
    if many and sys.platform == "linux":
        PROCESSES.set_forkserver_preload(IMPORTED)
        ensure_running()  # while the worker imports papermill


def quiet() -> None:
    """Drop what this worker and its kernels log; a failure is reported by its one line."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class Kernel(PROCESSES.Process):
    """A notebook's process, with what Jupyter asks of a Popen."""

    stdin = stdout = stderr = None

    def __init__(self, connection_file: str):
        super().__init__()
        self.connection_file = connection_file

    def run(self):
        from ipykernel.kernelapp import IPKernelApp

        os.setsid()  # Ctrl-C is the runner's affair
        quiet()
        # It ends with its worker, whatever ended that; what it was copied from lives as long as one of the two.
        Thread(target=lambda: parent_process().join() or os._exit(1), daemon=True).start()
        IPKernelApp.launch_instance(
            ["-f", self.connection_file, "--quiet"]
        )  # no note on how to end it, which this process does

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def kernels():
    """The manager of such processes (made here, so that the runner itself starts without Jupyter)."""
    from jupyter_client.manager import AsyncKernelManager

    class Kernels(AsyncKernelManager):
        async def _async_launch_kernel(self, command, **options):
            self.provisioner.process = Kernel(self.connection_file)
            self.provisioner.process.start()

    return Kernels


def execute(source: Path, target: Path, parameters: dict, debug: bool) -> tuple[float, str]:
    """Run one notebook; returns the seconds it took and one line on what failed ("" when nothing did)."""
    import nbformat
    import papermill

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / source.name
        try:
            papermill.execute_notebook(
                str(source),
                str(copy),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
                execution_timeout=CELL_TIMEOUT,
                request_save_on_cell_execute=False,
                kernel_manager_class=kernels(),
            )
        except Exception as error:
            if debug:
                traceback.print_exc()
            return time.perf_counter() - started, describe(error, source, copy)
        notebook = nbformat.read(copy, as_version=4)
        tidy(notebook)
        try:
            replace_text(target, nbformat.writes(notebook) + "\n")
        except OSError as error:
            return time.perf_counter() - started, f"{source.name}: cannot write {target}: {error.strerror}"
    return time.perf_counter() - started, ""


def describe(error: Exception, source: Path, copy: Path) -> str:
    """One line: notebook, cell, error name and message."""
    from papermill.exceptions import PapermillExecutionError

    if not isinstance(error, PapermillExecutionError):
        return f"{source.name}: {type(error).__name__}: {first_line(str(error))}"
    number = 0  # counted in the reader's notebook, so without the cell of given parameters
    for cell in json.loads(copy.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            number += "injected-parameters" not in cell["metadata"].get("tags", [])
            if any(output["output_type"] == "error" for output in cell["outputs"]):
                break
    message = first_line(error.evalue) or failing_line(error.traceback)
    return f"{source.name}, code cell {number}: {error.ename}: {message}"


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def failing_line(trace: list[str]) -> str:
    """The notebook's own line, which IPython marks with an arrow: a bare assert has no other message."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(trace))
    arrow = re.search(r"^-+> \d+ (.*)", plain, re.MULTILINE)
    return arrow.group(1).strip() if arrow else "(no message)"


def packed(png: str) -> str:
    """An image (base64 of a PNG) with at most 256 colours, which takes less than half of the bytes.

    Charts have few colours and keep them; photographs, of which that would show, are dithered.
    """
    from PIL import Image, ImageChops, ImageStat

    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode != "RGBA" or image.getextrema()[3] != (255, 255):
        return png
    image = image.convert("RGB")
    coloured = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    if max(ImageStat.Stat(ImageChops.difference(image, coloured.convert("RGB"))).mean) > VISIBLE:
        coloured = image.quantize(palette=coloured, dither=Image.Dither.FLOYDSTEINBERG)
    file = io.BytesIO()
    coloured.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def tidy(notebook) -> None:
    """Keep papermill's own cell off the page, machine paths and timings out of the file, and charts small, at their
    size on the page.
    """
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = packed(output.data["image/png"])
        widths = [
            output.metadata["image/png"]["width"]
            for output in cell.get("outputs", [])
            if "width" in output.get("metadata", {}).get("image/png", {})
        ]
        if widths:  # a chart has twice as many pixels as the page shows
            about = cell.metadata.setdefault("mystnb", {}).setdefault("image", {})
            about["width"] = f"{max(widths)}px"
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-cell"]


# ---- the record of what ran -----------------------------------------------------------------------------------------


def environment() -> dict:
    import torch

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name()})"
    elif torch.backends.mps.is_available():
        device = "mps"
    else:
        device = f"cpu ({os.cpu_count()} cores)"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "device": device,
        "packages": packages,
    }


def read_status(file: Path) -> dict:
    """What ran so far; nothing where there is no record or a damaged one, so that everything runs again."""
    try:
        status = json.loads(file.read_text(encoding="utf-8"))
        for run in status["notebooks"].values():
            run["fingerprint"], run["date"], run["parameters"].items(), f"{run['seconds']:.1f}"
        return status
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"notebooks": {}}


def checksum(copy: Path) -> str | None:
    return hashlib.sha256(copy.read_bytes()).hexdigest() if copy.is_file() else None


def write_status(out: Path, status: dict) -> None:
    replace_text(out / "status.json", json.dumps(status, indent=2) + "\n")
    rows = [
        f"| {name} | {value} |"
        for name, value in [
            ("Python", status["python"]),
            ("System", status["platform"]),
            ("Device", status["device"]),
            *status["packages"].items(),
        ]
    ]
    lines = [
        "| What | Version |",
        "|---|---|",
        *rows,
        "",
        "| Notebook | Seconds | Parameters | Run on (UTC) |",
        "|---|--:|---|---|",
    ]
    for name, run in sorted(status["notebooks"].items()):
        given = ", ".join(f"`{k}={v}`" for k, v in run["parameters"].items()) or "as written"
        lines.append(f"| {{doc}}`/notebooks/{name}` | {run['seconds']:.1f} | {given} | {run['date']} |")
    total = sum(run["seconds"] for run in status["notebooks"].values())
    lines.append(f"| **all** | **{total:.1f}** | | |")
    replace_text(out / "status_table.md", "\n".join(lines) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never half of one; what a kill leaves behind is no notebook to
    Sphinx."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


# ---- command line ---------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message):  # one line, without the usage text
        self.exit(2, f"run_notebooks: {message}\n")


def arguments(argv) -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "notebooks", nargs="*", metavar="NOTEBOOK", help="names or their beginnings, for example 05 (default: all)"
    )
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter in every chosen notebook; repeatable",
    )
    parser.add_argument("--source", type=Path, default=ROOT / "notebooks", help="folder of the notebooks")
    parser.add_argument("--out", type=Path, default=ROOT / "book/notebooks", help="folder for the executed copies")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="notebooks run at once")
    parser.add_argument("--force", action="store_true", help="run also what is current")
    parser.add_argument("--debug", action="store_true", help="show warnings and tracebacks")
    args = parser.parse_args(argv)
    sources = sorted(args.source.glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        parser.error(f"no notebooks named NN_*.ipynb in {args.source}")
    try:
        args.chosen = select(sources, args.notebooks)
    except ValueError as error:
        parser.error(str(error))
    args.values = {name: parse_value(value) for name, value in args.parameters}
    for source in args.chosen:
        allowed = declared_parameters(json.loads(source.read_text(encoding="utf-8")))
        for name in args.values:
            if name not in allowed:
                parser.error(
                    f"unknown parameter {name!r} for {source.stem}; it has: {', '.join(sorted(allowed)) or 'none'}"
                )
    args.stems = {source.stem for source in sources}
    return args


def main(argv=None) -> int:
    args = arguments(argv)
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    status = read_status(out / "status.json")
    known = status["notebooks"]

    for copy in out.glob("*.ipynb"):  # of notebooks that were renamed or removed
        if copy.stem not in args.stems:
            copy.unlink()
            known.pop(copy.stem, None)

    package = fingerprint_of_package()
    prints = {source: fingerprint(source, package, args.values) for source in args.chosen}
    stale = [
        source
        for source in args.chosen
        if args.force
        or [known.get(source.stem, {}).get(key) for key in ("fingerprint", "copy")]
        != [prints[source], checksum(out / source.name)]
    ]
    if not stale:
        print(f"Notebooks: all {len(args.chosen)} are current.")
        return 0

    jobs = max(1, min(args.jobs, len(stale)))
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))  # workers must not fight for cores
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one the user installed
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a warning of the debugger on every kernel start
    print(f"Notebooks: running {len(stale)} of {len(args.chosen)}, {jobs} at a time ...", flush=True)
    failures = []
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=prepare, initargs=(args.debug, len(stale) > jobs)
    ) as pool:
        try:
            # later chapters take longer, so they start first
            runs = {
                pool.submit(execute, source.resolve(), out.resolve() / source.name, args.values, args.debug): source
                for source in reversed(stale)
            }
            status.update(environment())
            for run in as_completed(runs):
                source = runs[run]
                seconds, failure = run.result()
                print(f"  {source.stem}: {'FAILED' if failure else 'done'} in {seconds:.1f} s", flush=True)
                if failure:
                    failures.append(failure)
                else:
                    known[source.stem] = {
                        "fingerprint": prints[source],
                        "copy": checksum(out / source.name),
                        "seconds": round(seconds, 1),
                        "parameters": args.values,
                        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
                    }
                    write_status(out, status)  # now, so that an interrupted run keeps what it has done
        except KeyboardInterrupt:
            for worker in active_children():  # asked to stop, one whose kernel is just starting would wait for it first
                worker.kill()  # its kernels end with it
            raise
    for failure in sorted(failures):
        print(f"FAIL {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("run_notebooks: interrupted; what is done is kept", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        print(f"run_notebooks: {error}; what is done is kept", file=sys.stderr)
        sys.exit(1)
