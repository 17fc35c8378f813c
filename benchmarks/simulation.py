"""How fast people are simulated, and that no way of making them changes a byte.

python benchmarks/simulation.py speed [--people 12]
python benchmarks/simulation.py workers [--people 20]
python benchmarks/simulation.py killed [--people 1000]
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fcr_edge.latency import describe_machine
from fcr_train.simulate import Plan, simulate

app = typer.Typer(no_args_is_help=True, add_completion=False)
Json = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]

PLANS = {
    "all kinds, 2 views, 1 portrait": {"portraits": 1},
    "all kinds, 2 views, 3 portraits": {"portraits": 3},
    "faces only, 2 views, 1 portrait": {"kinds": ("face",), "portraits": 1},
    "faces only, 1 view, 1 portrait": {"kinds": ("face",), "views": ("frontal",), "portraits": 1},
    "faces only, 2 views, 3 portraits": {"kinds": ("face",), "portraits": 3},
}


@app.command()
def speed(people: Annotated[int, typer.Option(min=2)] = 12, out: Json = None) -> None:
    """Processor seconds a person at 256 pixels, writing included, and the peak memory.

    One process after another, each of its own; what it sets up once is given apart.
    """
    table = Table("what", "s a person", "set-up s", "peak MB")
    rows: dict[str, Any] = {}
    for name, changes in PLANS.items():
        rows[name] = measure(people, changes)
        table.add_row(name, *(f"{value:.2f}" for value in rows[name].values()))
    Console().print(table)
    save(out, {"speed": rows, "people": people})


def measure(people: int, changes: dict[str, Any]) -> dict[str, float]:
    """Make people in a fresh process and read its processor time and memory."""
    script = (
        "import sys, json\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from simulation import make_alone\n"
        f"print(json.dumps(make_alone({people}, {changes!r})))\n"
    )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    result = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **threads},
    )
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def make_alone(people: int, changes: dict[str, Any]) -> dict[str, float]:
    """Make people in this process as a worker does; the first one pays for the set-up."""
    from fcr_train.simulate.dataset import make_person

    plan = Plan(people=people + 1, **changes)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        start = time.process_time()
        make_person(out, plan, None, 1)
        ready = time.process_time()
        for number in range(2, people + 2):
            make_person(out, plan, None, number)
        each = (time.process_time() - ready) / people
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": each, "set_up": ready - start - each, "peak_mb": peak}


@app.command()
def workers(people: Annotated[int, typer.Option(min=1)] = 20) -> None:
    """Wall seconds with one worker and with two, and the hash of what they made."""
    digests = set()
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            out = Path(folder) / str(count)
            start = time.perf_counter()
            simulate(out, Plan(people), workers=count)
            wall = time.perf_counter() - start
            digests.add(hash_folder(out))
            print(
                f"{count} worker(s): {wall / people:.2f} s a person, start included,"
                f" dataset {hash_folder(out)[:16]}"
            )
    report(len(digests) == 1)


@app.command()
def killed(
    people: Annotated[int, typer.Option(min=2)] = 1000,
    size: Annotated[int, typer.Option(help="Side of the pictures [pixels].")] = 64,
    kills: Annotated[int, typer.Option(min=1, help="How often the run is killed.")] = 1,
    out: Json = None,
) -> None:
    """Kill a run with SIGKILL on the way, go on, and compare with an unbroken run."""
    with tempfile.TemporaryDirectory() as folder:
        broken, whole = Path(folder) / "broken", Path(folder) / "whole"
        at = [
            kill_run(broken, people, size, people * (k + 1) // (kills + 1)) for k in range(kills)
        ]
        for target in (broken, whole):
            simulate(target, Plan(people, portraits=1, size=size))
        same = hash_folder(broken) == hash_folder(whole)
        print(
            f"{people} people, killed after {', '.join(map(str, at))}: {hash_folder(whole)[:16]}"
        )
    report(same)
    save(out, {"killed": {"people": people, "size": size, "after": at, "identical": same}})


def kill_run(out: Path, people: int, size: int, done: int) -> int:
    """Start a run and kill it once `done` people are there; give how many there are."""
    command = f"simulate --out {out} --people {people} --size {size} --portraits 1"
    run = subprocess.Popen(
        [sys.executable, "-m", "fcr_train.cli", *command.split()], stderr=subprocess.DEVNULL
    )
    while run.poll() is None and count_people(out) < done:
        time.sleep(0.2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    return count_people(out)


def count_people(out: Path) -> int:
    """Count the people that are complete."""
    return len(list(out.glob("records/*.json")))


def hash_folder(folder: Path) -> str:
    """Hash names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def report(same: bool) -> None:
    """Say whether the datasets are the same, and fail if not."""
    print("identical" if same else "DIFFERENT")
    if not same:
        raise typer.Exit(1)


def save(out: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures with the machine."""
    if out is not None:
        record = {**figures, "machine": describe_machine()}
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
