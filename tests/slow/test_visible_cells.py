"""What a reader copies from a page: its visible cells are short, and run by themselves, in order."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.visible_cells import unfolded, visible

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES, MEDIAN = 8, 4


def failures(paths, env=None):
    """Name of each notebook -> the first failure of its visible cells, run by themselves."""
    command = [sys.executable, "-m", "tests.support.visible_cells", *paths]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line["notebook"]: line["failure"] for line in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def found(keeping):
    return failures(NOTEBOOKS, keeping)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_visible_cells_run_without_the_hidden_ones(path, found):
    assert found[path.stem] == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_unfolded_cells_are_short(path):
    lines = {name: len(code.splitlines()) for name, code in unfolded(path)}
    assert not {name: n for name, n in lines.items() if n > MAX_LINES}
    assert statistics.median(lines.values()) <= MEDIAN


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_unfolded_cells_are_written_for_the_data_on_the_page(path):
    """Other data and quick runs are the matter of hidden cells."""
    code = "\n".join(code for _, code in unfolded(path))
    assert not [word for word in ("if fast", "if default", "if emoji", "if not default") if word in code]


def test_the_check_sees_a_name_from_a_hidden_cell(tmp_path):
    def cell(name, source, *tags):
        return {"cell_type": "code", "id": name, "metadata": {"tags": list(tags)}, "source": [source]}

    path = tmp_path / "01_bad.ipynb"
    cells = [cell("a", "x = 1", "remove-cell"), cell("b", "print(x)"), cell("c", "y = 2", "hide-cell")]
    path.write_text(json.dumps({"cells": cells}))
    assert [name for name, _ in visible(path)] == ["b", "c"] and [name for name, _ in unfolded(path)] == ["b"]
    assert failures([path])["01_bad"].startswith("01_bad, cell b: NameError")
