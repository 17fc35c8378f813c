"""Worker processes: one thread each, ended with the run that started them, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One thread a worker: more would fight for the cores, and could change the last bit of a sum."""


def run_in_workers(
    task: Callable[[int], None], numbers: Sequence[int], workers: int
) -> Iterator[int]:
    """Run a task for every number in processes of their own, yielding how many are finished.

    Raises what the task raises, and DataError when a worker is killed.
    """
    if not numbers:
        return
    # Fresh interpreters read the thread variables when they import NumPy; one worker runs in a
    # process of its own too, so that it counts exactly as several do.
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(numbers))
    with single_threaded(), ProcessPoolExecutor(count, context, prepare_worker) as pool:
        futures = [pool.submit(task, number) for number in numbers]
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
