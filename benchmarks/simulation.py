"""Simulate the same people with one worker and with two: equal bytes, seconds a person.

python benchmarks/simulation.py [--people 20]
"""

from __future__ import annotations

import hashlib
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from fcr_train.simulate import simulate


def main(people: Annotated[int, typer.Option(min=1)] = 20) -> None:
    """Print seconds and the hash of the whole dataset for each number of workers."""
    digests = set()
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            out = Path(folder) / str(workers)
            start, used = time.perf_counter(), cpu_seconds()
            simulate(out, people, seed=1, workers=workers)
            wall, cpu = time.perf_counter() - start, cpu_seconds() - used
            digests.add(hash_folder(out))
            print(
                f"{workers} worker(s): {wall / people:.2f} s a person,"
                f" {cpu / people:.2f} CPU s, dataset {hash_folder(out)[:16]}"
            )
    print("identical" if len(digests) == 1 else "DIFFERENT")


def cpu_seconds() -> float:
    """Count this process and its ended children [s]."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def hash_folder(folder: Path) -> str:
    """Hash names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    typer.run(main)
