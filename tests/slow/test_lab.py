"""The notebooks in a real JupyterLab: all cells run, nothing raw is shown, mouse and keys move a live figure."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RAW = re.compile(r"\{(?:glue|doc|term|cite|numref|eq|ref)[^}]*\}`|^:{3,}|\{admonition\}", re.MULTILINE)
MINUTES = 20 * 60 * 1000  # for a chapter, on a busy machine


@pytest.fixture(scope="module")
def lab(tmp_path_factory, keeping):
    """Address of a JupyterLab on a copy of the notebooks, for quick runs; every cell is in the page, also far from the
    screen.
    """
    place = tmp_path_factory.mktemp("lab")
    (place / "notebooks").mkdir()
    for path in NOTEBOOKS:
        whole = path.read_text("utf-8")
        assert "fast = False" in whole
        (place / "notebooks" / path.name).write_text(whole.replace("fast = False", "fast = True"), "utf-8")
    settings = place / "settings/@jupyterlab/notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    options = [
        "--IdentityProvider.token=",
        "--ServerApp.port_retries=0",
        "--ServerApp.disable_check_xsrf=True",
        f"--LabApp.user_settings_dir={place}/settings",
    ]
    log = open(place / "log", "w")
    options += [f"--LabApp.workspaces_dir={place}/workspaces", f"--ServerApp.root_dir={place}/notebooks"]
    server = subprocess.Popen([*command, *options], cwd=place, env=keeping, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
            break
        except OSError:
            assert server.poll() is None, (place / "log").read_text()[-2000:]
            time.sleep(0.5)
    yield address
    server.terminate()
    server.wait(30)
    log.close()


@pytest.fixture(scope="module")
def window(browser):
    """One for all chapters, so that JupyterLab's scripts are read and compiled once."""
    with browser.new_context(viewport={"width": 1300, "height": 900}) as window:
        yield window


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_jupyterlab(lab, window, path):
    page = window.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{lab}/lab/tree/{path.name}?reset")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.get_by_text("| Idle").first.wait_for()  # without a kernel, JupyterLab would ask for one
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # A folded cell shows no number, so the end is when no cell waits any more.
    page.wait_for_function(
        """() => {
          const nodes = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
          const prompts = nodes.map((node) => node.textContent);
          return prompts.some((text) => /\\d/.test(text)) && !prompts.some((text) => text.includes("*"));
        }""",
        timeout=MINUTES,
    )
    errors = page.locator('.jp-OutputArea [data-mime-type="application/vnd.jupyter.error"]')
    assert errors.count() == 0, errors.first.inner_text()[-500:]
    shown = "\n".join(page.locator(".jp-Notebook .jp-RenderedMarkdown").all_inner_texts())
    assert len(shown) > 2000 and not RAW.findall(shown), RAW.findall(shown)[:5]
    if path.name[:2] != "12":  # the audit's chapter has no live figure
        figure = page.locator(".jp-Notebook .clipnb-figure", has=page.locator("input[type=range]")).first
        slider = figure.locator("input[type=range]").first
        slider.scroll_into_view_if_needed()
        box, states = slider.bounding_box(), set()
        for share in (0.1, 0.9):
            page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
            states.add(figure.get_attribute("data-state"))
        assert len(states) == 2, "the mouse does not move the figure"
        states = set()
        for key in ("Home", "ArrowRight"):  # the slider still has the focus
            page.keyboard.press(key)
            states.add(figure.get_attribute("data-state"))
        assert len(states) == 2, "the arrow keys do not move the figure"
    page.close()
    for kernel in json.load(urllib.request.urlopen(f"{lab}/api/kernels")):  # each holds a model and its images
        urllib.request.urlopen(urllib.request.Request(f"{lab}/api/kernels/{kernel['id']}", method="DELETE")).close()
