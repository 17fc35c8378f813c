"""How long each stage takes: warm-up, percentiles, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one stage over all counted runs."""

    runs: int
    minimum_ms: float
    percentiles_ms: Mapping[int, float]
    """Percentile -> milliseconds, for PERCENTILES."""

    @classmethod
    def of(cls, samples_ms: list[float]) -> Latency:
        """Summarise the samples of one stage, at least one.

        >>> Latency.of([3.0, 1.0, 2.0]).percentiles_ms[50]
        2.0
        """
        percentiles = {p: float(np.percentile(samples_ms, p)) for p in PERCENTILES}
        return cls(len(samples_ms), min(samples_ms), percentiles)


def measure(
    run: Callable[[], Mapping[str, float]],
    repeats: int,
    warm_up: int = 3,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """Run `repeats` times after `warm_up` uncounted runs, and summarise each stage and the total.

    Args:
        run: Does the whole job once and returns stage -> milliseconds.
        repeats: Counted runs, 1 or more.
        warm_up: Uncounted runs, in which caches fill and the runtime allocates.
        progress: Called after each counted run.
    """
    for _ in range(warm_up):
        run()
    samples: dict[str, list[float]] = {}
    for _ in range(repeats):
        start = time.perf_counter()
        stages = run()
        total = (time.perf_counter() - start) * 1000
        for stage, milliseconds in {**stages, "total": total}.items():
            samples.setdefault(stage, []).append(milliseconds)
        progress()
    return {stage: Latency.of(values) for stage, values in samples.items()}


def describe_machine() -> dict[str, str | int | float | None]:
    """Describe what a timing depends on: processor, cores, load, system and Python."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _name_processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }


def _name_processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:  # noqa: PTH123
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:  # not Linux
        names = []
    return names[0] if names else platform.processor() or "unknown"
