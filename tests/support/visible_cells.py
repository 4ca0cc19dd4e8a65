"""Run only the cells whose code a chapter's page shows, in order, each chapter in a fresh namespace.

    python -m tests.support.visible_cells NOTEBOOK ...

Prints one line of JSON for each notebook: its name, and the first cell that fails as one line ("" if none does). All
run in this process, as quick runs, since a process of its own takes most of a chapter's time.
"""

import json
import re
import sys
from pathlib import Path

HIDDEN = {"remove-cell", "remove-input"}
FOLDED = {"hide-cell", "hide-input"}


def visible(path: Path, without: set[str] = HIDDEN) -> list[tuple[str, str]]:
    """Id and source of each cell whose code is on the page, folded or not."""
    return [
        (cell["id"], "".join(cell["source"]))
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "code" and not without & set(cell["metadata"].get("tags", []))
    ]


def unfolded(path: Path) -> list[tuple[str, str]]:
    """The same without the cells whose code is folded: what a reader sees without a click."""
    return visible(path, HIDDEN | FOLDED)


def first_failure(path: Path) -> str:
    """The first failure as one line, or an empty string."""
    from tests.support.notebook_runner import run_cells  # which chooses how figures are drawn

    error = run_cells(
        (name, re.sub(r"(?m)^(\s*)%pip .*$", r"\1pass", code).replace("fast = False", "fast = True"))
        for name, code in visible(path)
    )["error"]
    return error and f"{path.stem}, cell {error}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps({"notebook": Path(argument).stem, "failure": first_failure(Path(argument))}), flush=True)
