"""How long a command takes before it does anything: wall seconds of whole processes.

python benchmarks/startup.py [--runs 10]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Annotated

import typer

COMMANDS = {
    "fcr-edge --help": ["-m", "fcr_edge", "--help"],
    "fcr-train --help": ["-m", "fcr_train.cli", "--help"],
    "import fcr_edge": ["-c", "import fcr_edge"],
}


def main(runs: Annotated[int, typer.Option(min=1, help="Counted runs of each.")] = 10) -> None:
    """Print the median, fastest and slowest of each command, after one uncounted run."""
    for name, arguments in COMMANDS.items():
        seconds = [time_once(arguments) for _ in range(runs + 1)][1:]
        middle = statistics.median(seconds)
        print(f"{name:18} median {middle:.3f} s, {min(seconds):.3f} to {max(seconds):.3f}")


def time_once(arguments: list[str]) -> float:
    """Run a Python process to its end [s]."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    typer.run(main)
