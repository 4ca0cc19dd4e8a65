"""What the benchmarks share: the machine, processes of their own, times in rounds, and results as JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import clipnb

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
Times = list[tuple[float, float]]


def machine(packages: Sequence[str] = ("numpy", "torch", "scikit-learn", "torchmetrics")) -> dict:
    """Processor, cores, the versions of these packages and the day."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "cpu": next((line.split(":")[1].strip() for line in info if "model name" in line), "?"),
        "cores": os.cpu_count(),
        "device": "cpu",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "clipnb": clipnb.__version__,
        "date": date.today().isoformat(),
    }


def load() -> float:
    """How many processes have been running or waiting, on average over the last minute."""
    return round(os.getloadavg()[0], 1)


def machine_text(results: Mapping[str, Any]) -> str:
    """The machine as one line of a page, with its load before and after where that was taken."""
    text = "; ".join(f"{name} {value}" for name, value in results["machine"].items())
    if "load_average" not in results:
        return text
    before, after = results["load_average"]
    cores = results["machine"]["cores"]
    return f"{text}; load average {before} before, {after} after (above {cores}: other work was running)"


def seconds(function: Callable, arguments: Sequence = ()) -> tuple[float, float]:
    """Wall and processor time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def rounds(contenders: Mapping[Any, Callable], arguments: Sequence, count: int) -> dict[Any, Times]:
    """Times of all contenders, which take turns within a round, so that a busy machine disturbs all of them."""
    times: dict[Any, Times] = {name: [] for name in contenders}
    for _ in range(count):
        for name, function in contenders.items():
            times[name].append(seconds(function, arguments))
    return times


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    values = list(values)
    return {"median": round(statistics.median(values), 3), "low": round(min(values), 3), "high": round(max(values), 3)}


def ratio(times: Mapping[Any, Times], name: Any, other: Any, clock: int = 0) -> dict[str, float]:
    """How many times as long as `other` `name` takes, round by round; clock 0 = wall, 1 = processor."""
    return spread(a[clock] / b[clock] for a, b in zip(times[name], times[other], strict=True))


def cell(value: Mapping[str, float]) -> str:
    """A spread as text."""
    return f"{value['median']} ({value['low']} to {value['high']})"


def status(key: str, process: int | str = "self") -> float:
    """A line of /proc/PROCESS/status, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1e3


def reset_peak() -> float:
    """Let the peak memory of this process (`status("VmHWM")`) count from here; return what is in use, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def own_process(name: str, *arguments: object) -> str:
    """Run a benchmark in a process of its own, and return what it prints."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def publish(name: str, results: Mapping[str, Any], text: str) -> None:
    """Write the results as JSON and as a page in Markdown, and print the page."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def publish_beside(name: str, results: Mapping[str, Any], table: Callable[[Any], str]) -> None:
    """Publish the results of this kind of processor, beside the last ones of each other kind."""
    kept = RESULTS / f"{name}.json"
    every = json.loads(kept.read_text()) if kept.exists() else {}
    every[results["machine"]["cpu"]] = json.loads(json.dumps(results))  # as it will be read again
    pages = [f"**{processor}**\n\n{table(of)}" for processor, of in sorted(every.items())]
    publish(name, every, "\n".join(pages))
