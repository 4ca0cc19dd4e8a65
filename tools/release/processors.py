"""Run tests with the matrix products of other processors: one process of pytest for each setting of the libraries.

python -m tools.release.processors                              # similarity, evaluation, margin, ensemble, worst
python -m tools.release.processors tests/unit/test_metrics.py ...    # or any arguments of pytest
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = [f"tests/unit/test_{name}.py" for name in ("similarity", "evaluation", "margin", "ensemble", "worst")]
SETTINGS = (
    "OPENBLAS_CORETYPE=Haswell",
    "OPENBLAS_CORETYPE=SkylakeX",
    "MKL_ENABLE_INSTRUCTIONS=AVX2",
    "MKL_CBWR=COMPATIBLE",
    "ATEN_CPU_CAPABILITY=default",
    "ONEDNN_MAX_CPU_ISA=AVX2",
)


def processor() -> str:
    """The name of this machine's processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(arguments: list[str]) -> int:
    """Run every setting, print the last line of each, and return 1 if one of them failed."""
    print(processor(), flush=True)
    failed = False
    for setting in SETTINGS:
        name, _, value = setting.partition("=")
        command = [sys.executable, "-m", "pytest", "-q", *(arguments or TESTS)]
        run = subprocess.run(command, cwd=ROOT, env=os.environ | {name: value}, capture_output=True, text=True)
        failed |= run.returncode != 0
        print(f"{setting}: {run.stdout.splitlines()[-1] if run.stdout else run.stderr}", flush=True)
        if run.returncode:
            print(run.stdout, run.stderr, sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
