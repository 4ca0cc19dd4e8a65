"""Run notebooks cell by cell in this process, which takes a second each where a kernel of its own takes six.

    python notebook_runner.py MODEL FOLDER DATASET ...

One line of JSON for each notebook and data set: `error` is the failure as one line ("" if there is none), `warnings`
are NumPy's, and `undefined` names the numbers in the prose that are NaN.
"""

import functools
import json
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import matplotlib

matplotlib.use("agg")  # before anything imports pyplot

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot

from clipnb.paper import reproduce

# The same for every data set, and most of chapter 9. Only the notebooks see it: doctests import this module.
REHEARSE = functools.cache(reproduce.rehearse)


def run(path: Path, **parameters) -> dict:
    """Run one notebook with these parameters until a cell fails."""
    cells = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            code = "".join(cell["source"])
            if "parameters" in cell["metadata"].get("tags", []):
                code += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
            cells.append((cell["id"], code))
    return {"notebook": path.stem[:2], "dataset": parameters["dataset"], **run_cells(cells)}


def run_cells(cells: Iterable[tuple[str, str]]) -> dict:
    """Run cells (id, code) in a fresh namespace until one fails: "error", "warnings" and "undefined"."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(colors="nocolor")
    outcome = {"error": "", "warnings": [], "undefined": []}
    for name, code in cells:
        with (
            mock.patch.object(reproduce, "rehearse", REHEARSE),
            warnings.catch_warnings(record=True) as caught,
            capture_output() as captured,
        ):
            warnings.simplefilter("always")
            done = shell.run_cell(code)
        pyplot.close("all")
        outcome["warnings"] += [f"{name}: {w.message}" for w in caught if issubclass(w.category, RuntimeWarning)]
        outcome["undefined"] += [
            f"{name}: {text}" for text in map(sentence, captured.outputs) if re.search(r"\bnan\b", text)
        ]
        if error := done.error_before_exec or done.error_in_exec:
            return outcome | {"error": f"{name}: {type(error).__name__}: {error}"}
    return outcome


def sentence(output) -> str:
    """The text that a cell shows; empty for any other output."""
    return output.data.get("text/markdown", "")


if __name__ == "__main__":
    model, folder, *datasets = sys.argv[1:]
    for dataset in datasets:
        for path in sorted(Path(folder).glob("*.ipynb")):
            print(json.dumps(run(path, model=model, dataset=dataset, fast=True)), flush=True)
