"""Run only the cells whose code a chapter's page shows, in order, in a fresh namespace.

    python -m tests.support.visible_cells NOTEBOOK

Prints one line for the first cell that fails, and ends with exit code 1 then.
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


def main(path: Path) -> str:
    """The first failure as one line, or an empty string."""
    import matplotlib

    matplotlib.use("agg")  # before anything imports pyplot
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from matplotlib import pyplot

    shell = InteractiveShell.instance(colors="nocolor")
    for name, code in visible(path):
        with capture_output():
            done = shell.run_cell(re.sub(r"(?m)^(\s*)%pip .*$", r"\1pass", code))
        pyplot.close("all")
        if error := done.error_before_exec or done.error_in_exec:
            return f"{path.stem}, cell {name}: {type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    failure = main(Path(sys.argv[1]))
    print(failure)
    sys.exit(bool(failure))
