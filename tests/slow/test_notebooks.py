"""The notebooks as files, and the tool that runs them."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.shared import BOOK_CACHE, TINY, photographs
from tools.book.run_notebooks import packed

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = {"model", "pretrained", "dataset", "fast"}
VIEW = "application/vnd.jupyter.widget-view+json"
MAX_LINES, WIDEST = 15, 75  # a wider line is cut off at the edge of the page


def cells(path):
    return json.loads(path.read_text("utf-8"))["cells"]


def code_cells(path):
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def markdown(path):
    return "\n\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")


def run(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools/book/run_notebooks.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
    )


def write_notebook(path, *sources):
    """A notebook whose first code cell holds the parameters."""

    def cell(source, tags=()):
        return {
            "cell_type": "code",
            "id": f"c{len(source)}",
            "metadata": {"tags": list(tags)},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }

    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "cells": [cell("model = 'clipnb-mini'", ["parameters"]), *map(cell, sources)],
    }
    path.write_text(json.dumps(notebook), "utf-8")


# The files


def test_there_are_twelve_chapters_and_all_are_in_the_book():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{i:02}" for i in range(1, 13)]
    listed = re.findall(r"file: notebooks/(\S+)", (ROOT / "book/_toc.yml").read_text("utf-8"))
    assert listed == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestSource:
    def test_is_committed_without_outputs(self, path):
        for cell in code_cells(path):
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
        assert "widgets" not in json.loads(path.read_text("utf-8"))["metadata"]

    def test_has_one_parameters_cell_with_the_four_parameters(self, path):
        tagged = [cell for cell in code_cells(path) if "parameters" in cell["metadata"].get("tags", [])]
        assert len(tagged) == 1
        assert PARAMETERS <= set(re.findall(r"^(\w+)\s*=", "".join(tagged[0]["source"]), re.MULTILINE))

    def test_code_cells_are_short(self, path):
        too_long = {
            i: n
            for i, cell in enumerate(code_cells(path), 1)
            if "remove-input" not in cell["metadata"].get("tags", [])  # its source is the text that it shows
            and (n := len("".join(cell["source"]).splitlines())) > MAX_LINES
        }
        assert not too_long, f"{path.name}: code cells with more than {MAX_LINES} lines (cell: lines): {too_long}"

    def test_visible_code_fits_the_page(self, path):
        lines = [
            line
            for cell in code_cells(path)
            if not {"remove-cell", "remove-input"} & set(cell["metadata"].get("tags", []))
            for line in "".join(cell["source"]).splitlines()
        ]
        assert not [line for line in lines if len(line) > WIDEST and not line.startswith("    %pip")]

    def test_exercises_are_graded_and_their_solutions_run(self, path):
        text = "\n\n".join(
            "".join(cell["source"]).replace("{{", "{").replace("}}", "}")
            for cell in cells(path)
            if cell["cell_type"] == "markdown" or "say(" in "".join(cell["source"])
        )
        graded = re.findall(r"^### Exercise, (easy|medium|hard): .+$", text, re.MULTILINE)
        assert 2 <= len(graded) <= 4
        levels = [["easy", "medium", "hard"].index(level) for level in graded]
        assert levels == sorted(levels)
        solutions = re.findall(r"^<details class=\"solution\">\n(.+?)^</details>$", text, re.MULTILINE | re.DOTALL)
        assert len(solutions) == len(graded)
        executed = "\n\n".join("".join(cell["source"]) for cell in code_cells(path))
        for solution in solutions:
            for shown in re.findall(r"```python\n(.+?)\n```", solution, re.DOTALL):
                assert shown in executed, f"the code of this solution is in no cell: {shown}"

    def test_executed_copy_has_no_error_and_no_warning(self, path):
        executed = ROOT / "book/notebooks" / path.name
        if not executed.is_file():
            pytest.fail(f"{path.name} was not run: run `make book` first")
        for i, cell in enumerate(code_cells(executed), 1):
            for output in cell["outputs"]:
                assert output["output_type"] != "error", f"{path.name}, code cell {i}: {output.get('evalue')}"
                text = "".join(output.get("text", ""))
                assert output.get("name") != "stderr", f"{path.name}, code cell {i}: {text[:300]}"
                assert "\r" not in text and "it/s" not in text, f"{path.name}, code cell {i}: a progress bar"

    def test_pictures_have_a_text_and_keep_their_colours(self, path):
        """Charts turn dark on dark pages; photographs and drawings must not, and are marked for it."""
        for cell in code_cells(ROOT / "book/notebooks" / path.name):
            if any("image/png" in output.get("data", {}) and VIEW not in output["data"] for output in cell["outputs"]):
                image, source = cell["metadata"].get("mystnb", {}).get("image", {}), "".join(cell["source"])
                assert len(image.get("alt", "")) > 20, source
                assert ("image_strip(" in source or "imshow(" in source) == (image.get("classes") == "pictures"), source


# The chapters on other models and other data

RUNS_ON = ["few images", "two classes", "uneven", "table", "emoji"]
REFUSED = {
    "one class": "Expected at least two classes in .*, got one ",
    "no labels": "Expected .*(labels|classnames).*images only",
    "no second image": "Expected at least two classes of .* with [23] or more labelled images each, got 0 of 4",
}


@pytest.fixture(scope="module")
def outcomes(tiny_weights, tmp_path_factory):
    """What each chapter says on each set, with a model of random weights; by (notebook, set).

    Vectors by the book's own model are read from a copy of the book's cache.
    """
    place = tmp_path_factory.mktemp("sets")
    if Path(BOOK_CACHE, "images").is_dir():
        shutil.copytree(Path(BOOK_CACHE, "images"), place / "cache/images")
    model = place / "model"
    model.mkdir()
    preprocessing = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (model / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": preprocessing}))
    shutil.copy(tiny_weights, model / "open_clip_model.safetensors")
    photographs(place / "few", ("cat", "dog", "fox", "owl", "bee", "ant"), 3)
    photographs(place / "two", ("cat", "dog"), 4)
    photographs(place / "one", ("cat",), 4)
    photographs(place / "single", ("cat", "dog", "fox", "owl"), 1)
    for name, each in zip(("grüner Apfel", "fire truck", "Café", "pear", "plum", "fig", "nut"), (1, 1, 2, 3, 5, 1, 9)):
        photographs(place / "uneven", (name,), each)
    with open(place / "table.csv", "w", newline="", encoding="utf-8") as file:  # every fourth image has no label
        files = sorted((place / "few").rglob("*.png")) + sorted((place / "uneven").rglob("*.png"))
        rows = [
            (path.relative_to(place).as_posix(), "" if i % 4 == 0 else path.parent.name) for i, path in enumerate(files)
        ]
        csv.writer(file).writerows([("path", "label"), *rows])
    sets = {
        "few images": f"folder:{place / 'few'}",
        "two classes": f"folder:{place / 'two'}",
        "uneven": f"folder:{place / 'uneven'}",
        "table": f"table:{place / 'table.csv'}",
        "emoji": "emoji",
        "one class": f"folder:{place / 'one'}",
        "no labels": f"folder:{place / 'one' / 'cat'}",
        "no second image": f"folder:{place / 'single'}",
    }
    command = [
        sys.executable,
        ROOT / "tests/support/notebook_runner.py",
        f"local-dir:{model}",
        ROOT / "notebooks",
        *sets.values(),
    ]
    done = subprocess.run(
        command,
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CLIPNB_CACHE": str(place / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = {spec: name for name, spec in sets.items()}
    lines = map(json.loads, done.stdout.splitlines())
    return {(line["notebook"], names[line["dataset"]]): line for line in lines}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", RUNS_ON)
def test_a_chapter_runs_with_a_model_at_chance_on(name, path, outcomes):
    outcome = outcomes[path.name[:2], name]
    assert (outcome["error"], outcome["warnings"], outcome["undefined"]) == ("", [], [])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", REFUSED)
def test_a_chapter_refuses_in_one_line(name, path, outcomes):
    error = outcomes[path.name[:2], name]["error"]
    if path.name[:2] == "10":
        assert error == ""  # it reads published counts and no data set
    elif name == "no second image" and path.name[:2] in ("01", "02", "12"):
        assert error == ""  # these compare predictions with labels only
    else:
        assert re.match(f"\\S+: InputError: {REFUSED[name]}", error) and "\n" not in error, error


# The runner


def test_a_notebook_is_run_with_parameters_and_skipped_while_current(tmp_path):
    write_notebook(tmp_path / "01_small.ipynb", "print('model:', model)")
    arguments = ("--source", tmp_path, "--out", tmp_path / "out", "-p", "model", "ViT-B-32")
    first, second = run(*arguments), run(*arguments)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "running 1 of 1" in first.stdout
    assert "all 1 are current" in second.stdout
    executed = cells(tmp_path / "out/01_small.ipynb")
    assert executed[-1]["outputs"][0]["text"] == ["model: ViT-B-32\n"]
    assert "remove-cell" in executed[1]["metadata"]["tags"]  # papermill's own cell stays off the page
    assert str(tmp_path) not in (tmp_path / "out/01_small.ipynb").read_text("utf-8")
    status = json.loads((tmp_path / "out/status.json").read_text("utf-8"))
    assert status["notebooks"]["01_small"]["parameters"] == {"model": "ViT-B-32"}
    assert {"torch", "open_clip_torch", "clipnb"} <= set(status["packages"])
    assert "{doc}`/notebooks/01_small`" in (tmp_path / "out/status_table.md").read_text("utf-8")


def test_kernels_begin_with_no_library_that_looks_for_a_notebook_at_import(tmp_path):
    for name in ("01_a", "02_b"):  # more than run at once: their kernels are copies of a process with libraries in it
        write_notebook(
            tmp_path / f"{name}.ipynb",
            "import sys",
            "print({'IPython', 'pandas', 'matplotlib'} & set(sys.modules))",
            "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        )
    done = run("--source", tmp_path, "--out", tmp_path / "out", "--jobs", 1)
    assert done.returncode == 0
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()] == [
        "Notebooks",
        "02_b",
        "01_a",
    ]  # no kernel says anything
    for path in (tmp_path / "out").glob("*.ipynb"):
        found, drawn = cells(path)[-2:]
        assert found["outputs"][0]["text"] == ["{'IPython'}\n"]
        assert "image/png" in drawn["outputs"][-1]["data"]


def test_every_failure_is_reported_in_one_line_each(tmp_path):
    write_notebook(tmp_path / "01_bad.ipynb", "x = 1", "raise ValueError('no such thing\\nmore')")
    write_notebook(tmp_path / "02_good.ipynb", "print('fine')")
    write_notebook(tmp_path / "03_worse.ipynb", "y = 1\nassert y > 2")
    done = run("--source", tmp_path, "--out", tmp_path / "out", "--jobs", 3)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "FAIL 01_bad.ipynb, code cell 3: ValueError: no such thing",
        "FAIL 03_worse.ipynb, code cell 2: AssertionError: assert y > 2",
    ]
    assert [path.name for path in (tmp_path / "out").glob("*.ipynb")] == ["02_good.ipynb"]


def test_a_failure_after_a_given_parameter_names_the_reader_s_own_cell(tmp_path):
    write_notebook(tmp_path / "01_bad.ipynb", "raise RuntimeError(model)")
    done = run("--source", tmp_path, "--out", tmp_path / "out", "-p", "model", "nonsense")
    assert done.stderr == "FAIL 01_bad.ipynb, code cell 2: RuntimeError: nonsense\n"


def test_unknown_parameter_is_one_clear_line(tmp_path):
    write_notebook(tmp_path / "01_small.ipynb", "pass")
    done = run("--source", tmp_path, "--out", tmp_path / "out", "-p", "modle", "ViT-B-32")
    assert done.returncode == 2
    assert done.stderr == "run_notebooks: unknown parameter 'modle' for 01_small; it has: model\n"


def test_unknown_notebook_is_one_clear_line(tmp_path):
    write_notebook(tmp_path / "01_small.ipynb", "pass")
    done = run("--source", tmp_path, "--out", tmp_path / "out", "77")
    assert done.returncode == 2
    assert done.stderr == "run_notebooks: unknown notebook '77'; there are: 01_small\n"


def test_charts_are_packed_and_keep_their_colours():
    def encoded(image):
        file = io.BytesIO()
        image.save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    def decoded(png):
        return Image.open(io.BytesIO(base64.b64decode(png)))

    chart = Image.new("RGBA", (300, 200), "white")
    for i in range(200):  # as many colours as a chart with smooth edges has
        chart.putpixel((i, i), (i, 255 - i, i // 2, 255))
    assert np.array_equal(decoded(packed(encoded(chart))).convert("RGBA"), chart)
    photograph = Image.effect_noise((300, 200), 60).resize((600, 400), Image.Resampling.BICUBIC)
    photograph = Image.merge(
        "RGBA", [photograph, photograph.rotate(90), photograph.rotate(180), Image.new("L", (600, 400), 255)]
    )
    png = encoded(photograph)
    assert len(packed(png)) < len(png) / 2
    assert (
        np.abs(np.asarray(decoded(packed(png)).convert("RGB"), int) - np.asarray(photograph.convert("RGB"))).mean() < 12
    )
    chart.putalpha(100)
    assert packed(encoded(chart)) == encoded(chart), "an image that is partly transparent was changed"
