"""Notebook 01's first cell on a machine that has the packages but not clipnb, as Colab does.

The cell runs unchanged. GitHub cannot be reached from a test, so git is told to take this checkout in its place.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_zero_shot_accuracy.ipynb"


def test_first_cell_installs_clipnb_where_it_is_missing(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "colab"], check=True)
    site = next((tmp_path / "colab" / "lib").glob("python*/site-packages"))
    # A .pth in an added folder is not read, so the editable clipnb of this environment stays out of sight.
    (site / "packages.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    first = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
    script = tmp_path / "first_cell.ipy"
    before = "import importlib.util\nassert importlib.util.find_spec('clipnb') is None\n"
    after = "\nimport clipnb\nprint('installed', clipnb.load_model().name, len(clipnb.load_dataset()))\n"
    script.write_text(before + first + after)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/clipnb/clipnb",
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
    }
    run = subprocess.run(
        [tmp_path / "colab" / "bin" / "python", "-m", "IPython", "--colors=NoColor", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "installed clipnb-mini" in run.stdout, run.stdout[-2000:] + run.stderr[-2000:]
