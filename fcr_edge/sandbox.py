"""Files from outside are decoded in a process of their own, with limits and without rights."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import secrets
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fcr_edge.errors import FilmError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = tuple[dict[str, Any], bytes | memoryview]
    Task = Callable[[bytes, str], Answer]

MAX_SECONDS = 30.0
"""Wall-clock time for one file."""
MAX_CPU_SECONDS = 20
"""Processor time for one file; a 43 x 35 cm film of 94 million pixels takes 2 s on a laptop."""
MAX_MEMORY = 768 * 1024 * 1024
"""Address space that one file may take beside the interpreter's own [bytes]."""
MAX_HEADER = 1024 * 1024
"""Bytes of the JSON line before the pixels."""
PIPE_BYTES = 1024 * 1024
"""What a pipe holds on Linux: the default of 64 kB takes many more turns for a film."""
FORKS = sys.platform == "linux"
"""Whether each file gets a process of its own. macOS may not fork once its libraries are loaded,
Windows cannot: there one process serves until a file harms it, with fewer limits."""
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from fcr_edge import sandbox; sandbox.serve()"
)
"""Imports what the caller would: its module path, and no other from folder or environment."""
ERRORS: dict[str, type[ImageError | FilmError]] = {
    "ImageError": ImageError,
    "FilmError": FilmError,
}
TASKS: dict[str, str] = {"read": "fcr_edge.reading", "deidentify": "fcr_edge.deidentify"}
"""What a decoder may be asked for -> the module whose `answer` does it."""


class Reply(NamedTuple):
    """What the decoder made of a file."""

    facts: dict[str, Any]
    """Parsed JSON, not to be trusted before it is checked."""
    payload: bytearray


class Worker:
    """The process that decodes, started once and used again; the caller's side of it."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",  # a pool of threads does not survive a fork
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                BOOT,
                json.dumps([str(place) for place in sys.path]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders' own remarks
            bufsize=0,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the caller, who then ends this
        )
        # Without a buffer the pipes are plain files.
        self._requests = cast("io.FileIO", self._process.stdin)
        self._replies = cast("io.FileIO", self._process.stdout)
        for pipe in (self._requests, self._replies):
            _widen(pipe)

    def ask(self, task: str, data: bytes, name: str) -> Reply:
        """Have a task done on a file's bytes. Raises ImageError and FilmError."""
        overdue = threading.Event()
        watchdog = threading.Timer(MAX_SECONDS, self._kill, [overdue])
        watchdog.daemon = True
        watchdog.start()
        # A decoder that was taken over cannot answer for the next file: it has another token.
        token = secrets.token_hex(8)
        try:
            line = json.dumps({"task": task, "name": name, "token": token, "bytes": len(data)})
            _write_all(self._requests, line.encode() + b"\n")
            _write_all(self._requests, data)
            return self._receive(name, token)
        except (EOFError, OSError, ValueError, RecursionError) as err:
            self._kill(None)
            raise ImageError(self._explain(name, overdue.is_set())) from err
        finally:
            watchdog.cancel()

    def _receive(self, name: str, token: str) -> Reply:
        header = json.loads(_read_line(self._replies))
        if not isinstance(header, dict) or header.get("token") != token:
            raise ValueError("header")
        if "error" in header:
            kind = ERRORS.get(str(header["error"]), ImageError)
            raise kind(_make_printable(str(header.get("message", ""))) or f"{name} was refused")
        count, facts = header.get("bytes"), header.get("facts")
        if not isinstance(facts, dict) or type(count) is not int or not 0 <= count <= MAX_MEMORY:
            raise ValueError("header")
        return Reply(facts, _read_exactly(self._replies, count))

    def _explain(self, name: str, overdue: bool) -> str:
        if overdue:
            reason = f"took more than {MAX_SECONDS:.0f} s to decode and was stopped"
        elif self._process.wait() == EXIT_CPU:
            reason = f"took more than {MAX_CPU_SECONDS} s of processor time and was stopped"
        else:
            reason = f"broke the process that decodes it (status {self._process.returncode})"
        return f"{name} {reason}: it may be damaged or hostile; get a fresh copy"

    def _kill(self, overdue: threading.Event | None) -> None:
        """End the process and what it forked."""
        if overdue is not None:
            overdue.set()
        if hasattr(os, "killpg") and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, 9)
        self._process.kill()

    def close(self) -> None:
        """End the process; closing twice is harmless."""
        with contextlib.suppress(OSError):
            self._requests.close()
        self._kill(None)
        self._process.wait()
        self._replies.close()

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None


_workers: dict[int, Worker] = {}
"""Process -> its worker. A forked copy of the caller starts its own."""
_lock = threading.Lock()


def _unlock() -> None:
    """Free a forked copy from a lock that a thread of the caller held."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def start() -> None:
    """Start the decoder if it is not running, without waiting: it is ready when it is needed."""
    with _lock:
        find_worker()


def ask(task: str, data: bytes, name: str) -> Reply:
    """Have a task done on a file's bytes in the decoder. Raises ImageError and FilmError."""
    with _lock:
        worker = find_worker()
        try:
            return worker.ask(task, data, name)
        except (ImageError, FilmError):
            raise
        except BaseException:  # an interrupt leaves half a reply in the pipe
            worker.close()
            raise


def find_worker() -> Worker:
    """Return this process's decoder, started where it is not running."""
    worker = _workers.get(os.getpid())
    if worker is None or not worker.is_running:
        if worker is not None:
            worker.close()
        worker = _workers[os.getpid()] = _start_worker()
    return worker


def _start_worker() -> Worker:
    try:
        return Worker()
    except OSError as err:
        raise ImageError(
            f"the process that decodes files cannot be started ({err.strerror}): free memory, or"
            " check that Python may start processes"
        ) from err


@atexit.register
def close() -> None:
    """End the decoder; the next file starts it again."""
    worker = _workers.pop(os.getpid(), None)
    if worker is not None:
        worker.close()


# ---- the other side ----

EXIT_HARMED = 70
EXIT_CPU = 71


def serve() -> None:
    """Answer requests until the caller closes the pipe. Runs in the decoder."""
    from importlib import import_module

    requests, replies = io.FileIO(0, "rb"), io.FileIO(1, "wb")
    modules = {task: import_module(module) for task, module in TASKS.items()}
    while True:
        try:
            request = json.loads(_read_line(requests))
            data = bytes(_read_exactly(requests, request["bytes"]))
        except EOFError:
            return
        module = modules[request["task"]]
        module.preload(data)

        def reply(
            task: Task = module.answer,
            data: bytes = data,
            name: str = request["name"],
            token: str = request["token"],
        ) -> None:
            header, payload = _answer(task, data, name)
            _write_all(replies, json.dumps({**header, "token": token}).encode() + b"\n")
            _write_all(replies, payload)

        if FORKS:
            _run_confined(reply)
        else:
            reply()


def _run_confined(reply: Callable[[], None]) -> None:
    """Reply from a copy of this process that has limits; a harmed copy ends this one too."""
    import signal

    child = os.fork()
    if child == 0:
        try:
            _confine()
            reply()
        except BaseException:  # nothing may get back into the server's loop
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        by_clock = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        os._exit(EXIT_CPU if by_clock else EXIT_HARMED)


def _confine() -> None:
    """Take from this process what decoding does not need: memory, time, new files and sockets."""
    import resource

    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - no module is loaded for it
        own = int(file.read().split()[0]) * resource.getpagesize()
    # At the soft limit of time the kernel says why it ends the process, at the hard one not.
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS + 1))
    for kind, limit in (
        (resource.RLIMIT_AS, own + MAX_MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),  # last: what is open stays open, nothing more opens
    ):
        resource.setrlimit(kind, (limit, limit))


def _answer(task: Task, data: bytes, name: str) -> Answer:
    """Do a task; return header and payload, or the error."""
    try:
        facts, payload = task(data, name)
    except (ImageError, FilmError) as err:
        return {"error": type(err).__name__, "message": str(err)}, b""
    except MemoryError:
        limit = MAX_MEMORY // 1024**2
        message = f"{name} takes more than {limit} MiB of memory to decode: reduce it first"
        return {"error": "ImageError", "message": message}, b""
    return {"facts": facts, "bytes": len(payload)}, payload


def _read_line(pipe: io.FileIO) -> bytes:
    """Read up to a line feed, one byte at a time at its end: what follows stays in the pipe."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = pipe.read(1)
        if not byte:
            raise EOFError
        line += byte
        if len(line) > MAX_HEADER:
            raise ValueError("header")
    return bytes(line)


def _read_exactly(pipe: io.FileIO, count: int) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        got = pipe.readinto(view[done:])
        if not got:
            raise EOFError
        done += got
    return data


def _write_all(pipe: io.FileIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[pipe.write(view) :]


def _widen(pipe: io.FileIO) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _make_printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:2000])
