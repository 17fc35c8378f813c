"""Simulate the same people with one worker and with two: equal bytes, seconds a person.

python benchmarks/simulation.py [--people 20]
"""

from __future__ import annotations

import hashlib
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
            start = time.perf_counter()
            simulate(out, people, seed=1, workers=workers)
            wall = time.perf_counter() - start
            digests.add(hash_folder(out))
            print(
                f"{workers} worker(s): {wall / people:.2f} s a person, start included,"
                f" dataset {hash_folder(out)[:16]}"
            )
    print("identical" if len(digests) == 1 else "DIFFERENT")


def hash_folder(folder: Path) -> str:
    """Hash names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    typer.run(main)
