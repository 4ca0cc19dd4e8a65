"""How long commands take from the shell, as whole processes.

python -m benchmarks.commands            # writes benchmarks/results/commands.json and .md
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._harness import cell, load, machine, machine_text, publish_beside, spread

CLIPNB = (sys.executable, "-m", "clipnb")
EVALUATE = (*CLIPNB, "evaluate")
# What is run, the command, how often, and the seconds that are wanted (None: no target).
COMMANDS = {
    "`import clipnb`": ((sys.executable, "-c", "import clipnb"), 5, 0.1),
    "`clipnb --help`": ((*CLIPNB, "--help"), 5, 0.3),
    "`clipnb check`": ((*CLIPNB, "check"), 5, 4.0),
    "`clipnb evaluate`, nothing in the cache": (EVALUATE, 2, None),
    "`clipnb evaluate`, vectors in the cache": (EVALUATE, 5, 6.0),
}


def run() -> dict:
    """Wall seconds of each command; the one that fills the cache starts with an empty one each time."""
    before = load()
    with TemporaryDirectory() as folder:

        def seconds(command: tuple[str, ...], cache: Path) -> float:
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=os.environ | {"CLIPNB_CACHE": str(cache)})
            return time.perf_counter() - started

        warm = Path(folder, "warm")
        for command in (*CLIPNB, "check"), EVALUATE:
            seconds(command, warm)  # not counted: the first start compiles Python's files, and this fills the cache
        times = {
            name: spread(
                seconds(command, Path(folder, str(i)) if "nothing" in name else warm) for i in range(repetitions)
            )
            for name, (command, repetitions, _) in COMMANDS.items()
        }
    return {
        "machine": machine(("torch", "open_clip_torch", "transformers")),
        "load_average": [before, load()],
        "seconds": times,
    }


def page(results: dict) -> str:
    """The results in Markdown."""
    lines = ["| command | seconds | wanted |", "|---|---|---|"]
    for name, (_, _, wanted) in COMMANDS.items():
        lines.append(f"| {name} | {cell(results['seconds'][name])} | {'-' if wanted is None else f'under {wanted}'} |")
    lines += ["", f"{machine_text(results)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    results = run()
    publish_beside("commands", results, page)
