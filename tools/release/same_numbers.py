"""Compare the JSON of two versions number by number: python -m tools.release.same_numbers OLD NEW.

OLD and NEW are folders with files of the same names, as the commands write them with --json. Every difference is
printed; the exit code is 1 if there is any. A number is the same if it differs by at most 1e-6 of its size.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 1e-6

# Values that differ from run to run: time stamps, machines, timings, versions.
VOLATILE = re.compile(r"(^|\.)(made|platform|cores|versions|steps|seconds|cpu_seconds|peak_mb|gpu_peak_mb)(\.|\[|$)")
# Texts may be reworded between versions; their numbers stand elsewhere in the same file.
TEXTS = re.compile(
    r"(^|\.)(advice|sentence|what|reason|not_run|remarks)(\.|\[|$)"
    r"|^templates_provenance\.|^checks\[\d+\]\.(planted|found)"
)
# Old path (a regular expression) and new path.
RENAMED = [(r"^twins\[", "duplicates[")]
# Values that are written on request only: `evaluate` scores harder views with --hard.
OPTIONAL = re.compile(r"^hard_")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of each number, text, truth value and null."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}[{i}]")
    else:
        yield path, value


def renamed(path: str) -> str:
    """Return the new path of an old one."""
    for old, new in RENAMED:
        path = re.sub(old, new, path)
    return path


def same(old: Any, new: Any) -> bool:
    """Whether two values are the same number, up to rounding, or the same text."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (old, new))
    return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE) if numbers else old == new


def differences(old: Any, new: Any) -> list[str]:
    """Return a line for each value that differs, is missing or is new."""
    before = {path: value for path, value in leaves(old) if not (VOLATILE.search(path) or TEXTS.search(path))}
    after = {path: value for path, value in leaves(new) if not (VOLATILE.search(path) or TEXTS.search(path))}
    moved = {renamed(path): value for path, value in before.items()}
    missing = [path for path in moved if path not in after and not OPTIONAL.search(path)]
    lines = [f"{path}: missing, was {moved[path]!r}" for path in missing]
    lines += [f"{path}: new, {value!r}" for path, value in after.items() if path not in moved]
    changed = [path for path in moved if path in after and not same(moved[path], after[path])]
    return lines + [f"{path}: {moved[path]!r} -> {after[path]!r}" for path in changed]


def main() -> int:
    """Compare the files that both folders hold, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--show", type=int, default=20, help="how many differences of a file are printed")
    options = parser.parse_args()
    names = sorted(
        {file.name for file in options.old.glob("*.json")} & {file.name for file in options.new.glob("*.json")}
    )
    if not names:
        print("the folders have no JSON file in common")
        return 1
    total = 0
    for name in names:
        old, new = (json.loads((folder / name).read_text("utf-8")) for folder in (options.old, options.new))
        lines = differences(old, new)
        count = sum(1 for _ in leaves(new))
        print(f"{name}: {count} values, {len(lines)} differ")
        for line in lines[: options.show]:
            print(f"  {line}")
        total += len(lines)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
