from __future__ import annotations

import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_edge import imaging, reading, sandbox
from fcr_edge.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not sandbox.FORKS, reason="these limits need Linux: skipped")
HOSTILE = """
import os, signal, socket, time
from fcr_edge.errors import ImageError

def preload(data): pass

def answer(data, name):
    deed = data.decode()
    if deed == "dies": os.kill(os.getpid(), signal.SIGSEGV)
    if deed == "hangs": time.sleep(600)
    if deed == "spins":
        while True: pass
    if deed == "eats": return {"size": len(bytearray(3 * 1024**3))}, b""
    if deed == "opens": open("/etc/passwd")
    if deed == "connects": socket.socket()
    if deed == "babbles": os.write(1, b"no json\\n" * 9)
    if deed == "promises": os.write(1, b'{"facts": {}, "bytes": 99999999999}\\n')
    if deed == "stops short":
        os.write(1, b'{"facts": {}, ')
        os._exit(0)
    if deed == "lies": return {"shape": [9, 9], "depth": "object", "record": {}}, b"a"
    if deed == "lacks": os.write(1, b'{"facts": {}}\\n')
    if deed == "nests": os.write(1, b"[" * 900000 + b"\\n")
    if deed == "answers ahead":
        os.write(1, b'{"error": "ImageError", "message": "first", "token": "0"}\\n')
    if deed == "refuses": raise ImageError(f"{name} is bad\\x1b[2J")
    return {"deed": deed}, data
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A decoder that has been taken over, in place of the real one."""
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    boot = sandbox.BOOT.replace(
        "sandbox.serve()", "sandbox.TASKS = {'read': 'hostile'}; sandbox.serve()"
    )
    monkeypatch.setattr(sandbox, "BOOT", boot)
    sandbox.close()
    yield
    sandbox.close()


@pytest.mark.usefixtures("hostile")
def test_an_honest_answer_comes_back_from_the_same_process() -> None:
    replies = [sandbox.ask("read", text, "film") for text in (b"one", b"two")]

    assert [reply.facts["deed"] for reply in replies] == ["one", "two"]
    assert bytes(replies[1].payload) == b"two"


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("dies", "broke the process"),
        ("eats", "768 MiB of memory"),
        ("opens", "broke the process"),
        ("connects", "broke the process"),
        ("babbles", "broke the process"),
        ("promises", "broke the process"),
        ("lacks", "broke the process"),
        ("nests", "broke the process"),
        ("answers ahead", "broke the process"),
    ],
)
def test_a_harmed_decoder_gives_one_image_error_and_the_next_file_is_read(
    deed: str, message: str
) -> None:
    with pytest.raises(ImageError, match=rf"bad\.dcm.*{message}"):
        sandbox.ask("read", deed.encode(), "bad.dcm")

    assert sandbox.ask("read", b"fine", "good.dcm").facts == {"deed": "fine"}


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("deed", [b"hangs", b"stops short"])
def test_a_decoder_that_keeps_one_waiting_is_stopped(
    deed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.ask("read", b"fine", "film")
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.3)

    with pytest.raises(ImageError, match=r"took more than 0 s to decode"):
        sandbox.ask("read", deed, "film")


@pytest.mark.usefixtures("hostile")
def test_a_decoder_that_spins_is_stopped_by_its_processor_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited = sandbox.BOOT.replace(
        "sandbox.serve()", "sandbox.MAX_CPU_SECONDS = 1; sandbox.serve()"
    )
    monkeypatch.setattr(sandbox, "BOOT", limited)

    with pytest.raises(ImageError, match="processor time"):
        sandbox.ask("read", b"spins", "film")


@pytest.mark.usefixtures("hostile")
def test_control_characters_do_not_reach_the_terminal() -> None:
    with pytest.raises(ImageError) as caught:
        sandbox.ask("read", b"refuses", "film")

    assert "\x1b" not in str(caught.value)


@pytest.mark.usefixtures("hostile")
def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"lies")

    with pytest.raises(ImageError, match="do not trust"):
        reading.read_film(tmp_path / "film.png")


def test_without_forks_one_process_serves_and_is_replaced_when_harmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows."""
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    setting = "sandbox.FORKS = False; sandbox.TASKS = {'read': 'hostile'}; sandbox.serve()"
    monkeypatch.setattr(sandbox, "BOOT", sandbox.BOOT.replace("sandbox.serve()", setting))
    sandbox.close()

    first = sandbox.find_worker().process_id
    assert sandbox.ask("read", b"fine", "good.dcm").facts == {"deed": "fine"}
    with pytest.raises(ImageError, match="broke the process"):
        sandbox.ask("read", b"dies", "bad.dcm")
    assert sandbox.ask("read", b"fine", "good.dcm").facts == {"deed": "fine"}
    assert sandbox.find_worker().process_id != first
    sandbox.close()


def test_threads_may_read_at_once(tmp_path: Path) -> None:
    pictures = [np.full((64, 64), level, np.uint8) for level in range(8)]
    for level, picture in enumerate(pictures):
        imaging.write_png(tmp_path / f"{level}.png", picture)
    levels: dict[int, int] = {}

    def read(level: int) -> None:
        levels[level] = int(reading.read_film(tmp_path / f"{level}.png").pixels.max())

    threads = [threading.Thread(target=read, args=(level,)) for level in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert levels == {level: level for level in range(8)}


def test_a_forked_caller_starts_a_decoder_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "fork.py"
    imaging.write_png(tmp_path / "a.png", np.full((64, 64), 7, np.uint8))
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from fcr_edge import reading\n"
        "film = Path(sys.argv[1])\n"
        "assert reading.read_film(film).pixels.max() == 7\n"
        "child = os.fork()\n"
        "assert reading.read_film(film).pixels.max() == 7\n"
        "if child: assert os.waitpid(child, 0)[1] == 0\n"
    )

    subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path / "a.png")], check=True
    )


def test_nothing_is_left_running_when_the_caller_ends(tmp_path: Path) -> None:
    imaging.write_png(tmp_path / "a.png", np.full((64, 64), 7, np.uint8))
    script = (
        "import sys; from pathlib import Path; from fcr_edge import reading, sandbox;"
        " reading.read_film(Path(sys.argv[1])); print(sandbox.find_worker().process_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.png")],
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stderr == ""
    assert not Path("/proc", done.stdout.strip()).exists()


def test_the_decoder_does_not_import_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken over')")
    imaging.write_png(tmp_path / "a.png", np.full((64, 64), 7, np.uint8))
    monkeypatch.chdir(tmp_path)
    sandbox.close()

    assert reading.read_film(tmp_path / "a.png").pixels.max() == 7


def test_a_bomb_of_a_picture_stays_within_its_memory(tmp_path: Path) -> None:
    """119 million pixels of 16-bit colour, 713 MB, in a file of under 1 MB."""
    side = 10_900
    packer = zlib.compressobj(1)
    row = bytes(1 + 6 * side)
    packed = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    (tmp_path / "bomb.png").write_bytes(imaging.PNG_MAGIC + b"".join(chunks))

    with pytest.raises(ImageError, match=r"bomb\.png"):
        reading.read_film(tmp_path / "bomb.png")
