"""The dataset on disk: people made in parallel, each written once, tables at the end."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fcr_edge.errors import ConfigError, DataError, ImageError
from fcr_edge.imaging import write_png
from fcr_train.simulate.head import HEAD_SHA256
from fcr_train.simulate.person import (
    FILM_SCALE,
    FILM_SHIFT_MM,
    FILM_TILT_DEGREES,
    shared_simulator,
)
from fcr_train.simulate.radiograph import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

SCHEMA = "fcr-dataset/1"
GENERATOR = "fcr-simulate"
GENERATOR_VERSION = "2"
"""Raise it whenever the same seed gives other pictures."""
KINDS = ("xray", "bone", "face")
SIZES = (64, 128, 256, 512)
MARK = {"Synthetic": "simulated person, not a real one"}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One thread a worker: more would fight for the cores, and could change the last bit of a sum."""


@dataclass(frozen=True)
class Parameters:
    """What decides every byte of a dataset."""

    people: int
    seed: int = 1
    portraits: int = 2
    size: int = 256
    first: int = 1

    def check(self) -> None:
        """Raise ConfigError when a value is out of range."""
        for name in ("people", "portraits", "first"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: give 1 or more")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}: give 0 or more")
        if self.size not in SIZES:
            raise ConfigError(f"size is {self.size}: choose one of {', '.join(map(str, SIZES))}")

    def numbers(self) -> range:
        """Give the numbers of the people."""
        return range(self.first, self.first + self.people)

    def description(self) -> dict[str, Any]:
        """Describe the dataset, as in dataset.json."""
        return {
            "schema": SCHEMA,
            "generator": GENERATOR,
            "generator_version": GENERATOR_VERSION,
            "seed": self.seed,
            "people": self.people,
            "size": self.size,
            "views": list(VIEWS),
            "kinds": list(KINDS),
            "portraits": self.portraits,
            "parameters": {
                "first": self.first,
                "head_sha256": HEAD_SHA256,
                "film_tilt_degrees": FILM_TILT_DEGREES,
                "film_scale": FILM_SCALE,
                "film_shift_mm": FILM_SHIFT_MM,
                "depths": "means recalled from the pooled tables of Stephan & Simpson 2008 and "
                "Stephan 2017; effects of sex and body mass, and spreads, assumed",
            },
        }


def person_name(number: int) -> str:
    """Name a person.

    >>> person_name(7)
    'p00007'
    """
    return f"p{number:05d}"


def make_dataset(
    out: Path,
    parameters: Parameters,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make the dataset, or what is missing of it; see `fcr_train.simulate.simulate`."""
    parameters.check()
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}: give 1 or more")
    claim_folder(out, parameters)
    missing = [n for n in parameters.numbers() if read_record(out, n, parameters) is None]
    done = parameters.people - len(missing)
    logger.info("%d of %d people are there already", done, parameters.people)
    if progress is not None:
        progress(done, parameters.people)
    for finished in make_people(out, parameters, missing, workers or os.cpu_count() or 1):
        if progress is not None:
            progress(done + finished, parameters.people)
    write_tables(out, parameters)


def claim_folder(out: Path, parameters: Parameters) -> None:
    """Create the folder and say what it holds; DataError when it holds something else."""
    description = json.dumps(parameters.description(), indent=2) + "\n"
    target = out / "dataset.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            if any(out.iterdir()):
                raise DataError(f"{out} holds files but no dataset: choose an empty folder")
            write_whole(target, description)
        elif target.read_bytes() != description.encode():
            raise DataError(
                f"{out} holds a dataset of other parameters: choose another folder, or repeat "
                f"the command that is recorded in {target}"
            )
    except OSError as err:
        raise DataError(
            f"{out} cannot be written ({err.strerror}): choose another folder"
        ) from err


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def record_path(out: Path, number: int) -> Path:
    """Give the path of the record that says a person is complete."""
    return out / "records" / f"{person_name(number)}.json"


def read_record(out: Path, number: int, parameters: Parameters) -> dict[str, Any] | None:
    """Read the record of a complete person; None when pictures are missing or changed."""
    try:
        record = json.loads(record_path(out, number).read_text(encoding="utf-8"))
        intact = all(digest(out / row["file"]) == row["sha256"] for row in record["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    expected = len(VIEWS) * (2 + parameters.portraits)
    return record if intact and len(record["images"]) == expected else None


def digest(path: Path) -> str:
    """Give the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_people(
    out: Path, parameters: Parameters, numbers: list[int], workers: int
) -> Iterator[int]:
    """Make people in processes of their own, yielding how many are finished."""
    if not numbers:
        return
    # Fresh interpreters read the thread variables when they import NumPy; one worker runs in a
    # process of its own too, so that it counts exactly as several do.
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(numbers))
    with single_threaded(), ProcessPoolExecutor(count, context, prepare_worker) as pool:
        futures = [pool.submit(make_person, out, parameters, number) for number in numbers]
        try:
            for finished, future in enumerate(as_completed(futures), 1):
                future.result()
                yield finished
        except BrokenProcessPool as err:
            raise DataError(
                f"one of {count} workers was killed, perhaps for lack of memory: use fewer "
                "workers and repeat the command; what is made is kept"
            ) from err
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prepare_worker() -> None:
    """Leave Ctrl-C to the main process, and end with it when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the main process to end; without it this one would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Let processes started meanwhile use one thread each."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def make_person(out: Path, parameters: Parameters, number: int) -> None:
    """Make and write all pictures of a person, then the record that says so."""
    simulator = shared_simulator()
    name = person_name(number)
    folder = out / "images" / name
    rows = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in simulator.pictures(
            parameters.seed, number, parameters.portraits, parameters.size
        ):
            path = folder / picture.name
            write_png(path, picture.pixels, MARK)
            rows.append(
                {
                    "person": name,
                    "view": picture.view,
                    "kind": picture.kind,
                    "file": path.relative_to(out).as_posix(),
                    "sha256": digest(path),
                }
            )
        person, _ = simulator.person(parameters.seed, number)
        record = {"person": {"person": name, **person.row()}, "images": rows}
        record_path(out, number).parent.mkdir(exist_ok=True)
        write_whole(record_path(out, number), json.dumps(record, indent=1) + "\n")
    except (OSError, ImageError) as err:
        raise DataError(f"{folder} cannot be written ({err}): free the disk, then repeat") from err


def write_tables(out: Path, parameters: Parameters) -> None:
    """Write people.csv and images.csv from the records, in order."""
    records = [read_record(out, number, parameters) for number in parameters.numbers()]
    complete = [record for record in records if record is not None]
    if len(complete) < parameters.people:
        missing = parameters.people - len(complete)
        raise DataError(f"{out} lacks {missing} people after making them: repeat the command")
    write_whole(out / "people.csv", table([record["person"] for record in complete]))
    images = [row for record in complete for row in record["images"]]
    write_whole(out / "images.csv", table(images))


def table(rows: list[dict[str, str]]) -> str:
    """Lay rows out as CSV with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
