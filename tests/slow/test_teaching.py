"""The teacher's page names cells, sections and commands; each must exist."""

import json
import re
import shlex
from pathlib import Path

from clipnb.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book/teaching.md").read_text("utf-8")
CHAPTERS = {
    int(path.name[:2]): json.loads(path.read_text("utf-8"))["cells"] for path in (ROOT / "notebooks").glob("*.ipynb")
}


def source(chapter, kind):
    return "\n".join("".join(cell["source"]) for cell in CHAPTERS[chapter] if cell["cell_type"] == kind)


def test_cells_to_run_live_exist():
    rows = re.findall(r"^\| (\d+) \| `([^`…]+?)\s*…?`", PAGE, re.MULTILINE)
    assert len(rows) == 9
    for chapter, beginning in rows:
        lines = source(int(chapter), "code").splitlines()
        assert any(line.startswith(beginning) for line in lines), f"chapter {chapter}: no line begins with {beginning}"


def test_sections_exist():
    headings = "\n".join(
        line for chapter in CHAPTERS for line in source(chapter, "markdown").splitlines() if line.startswith("#")
    )
    for title in re.findall(r'"([A-Z][^"]{4,40})"', " ".join(re.findall(r"^\| \d+ to \d+ .*$", PAGE, re.MULTILINE))):
        assert title in headings, title


def test_commands_of_clipnb_have_these_options():
    commands = re.findall(r"^\.venv/bin/clipnb (.+?)(?:\s+#.*)?$", PAGE.replace("\\\n", " "), re.MULTILINE)
    assert len(commands) >= 4
    for name, *arguments in map(shlex.split, commands):
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= known, name
