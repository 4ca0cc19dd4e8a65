"""Time and memory of the steps of a run."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Timings:
    """What each step of a run took: wall and processor seconds, and the peak memory of the process up to its end."""

    steps: list[dict] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record the block under this name.

        >>> timings = Timings()
        >>> with timings.step("rest"):
        ...     pass
        >>> timings.steps[0]["step"], sorted(timings.steps[0])
        ('rest', ['cpu_seconds', 'peak_mb', 'seconds', 'step'])
        """
        began, worked = time.perf_counter(), time.process_time()
        yield
        taken: dict[str, Any] = {
            "step": name,
            "seconds": round(time.perf_counter() - began, 2),
            "cpu_seconds": round(time.process_time() - worked, 2),
            "peak_mb": _peak_mb(),
        }
        if torch.cuda.is_initialized():
            taken["gpu_peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
        self.steps.append(taken)


def _peak_mb() -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if platform.system() == "Darwin" else 2**10))
