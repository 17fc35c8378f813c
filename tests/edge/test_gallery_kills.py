"""kill -9 at any moment: whatever was acknowledged is in the gallery, and the gallery is sound."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import killed_worker
import pytest
from some_galleries import KEY, make_gallery

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Gallery

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here: skipped")

ROOT = Path(__file__).parents[2]
OTHERS = 12
"""People who are in the gallery all the time."""
EACH = 25
"""Kills of one gallery: its log, which is read at each check, only grows."""
LONGEST = 0.06
"""A worker lives for up to this time after it opened the gallery [s]."""


@pytest.mark.parametrize(
    "kills", [pytest.param(300, id="300"), pytest.param(3000, id="3000", marks=pytest.mark.slow)]
)
def test_nothing_acknowledged_is_lost(
    tmp_path: Path, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(kills)
    acknowledged = 0
    struck: Counter[str] = Counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with subprocess.Popen(
        [sys.executable, killed_worker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        for seed in range(kills):
            if seed % EACH == 0:
                path, key, expected = tmp_path / f"{seed}.bin", KEY, set[str]()
                make_gallery(path, KEY, people=OTHERS).close()
            zygote.stdin.write(f"{path}\t{key.hex()}\t{seed}\n")
            zygote.stdin.flush()
            said: list[list[str]] = []
            pid = None
            while pid is None or ["open"] not in said:
                words = zygote.stdout.readline().split()
                assert words, "the worker died by itself"
                pid = int(words[1]) if words[0] == "pid" else pid
                said.append(words)
            time.sleep(rng.uniform(0, LONGEST))
            os.kill(pid, signal.SIGKILL)
            while (words := zygote.stdout.readline().split()) != ["dead"]:
                said.append(words)

            done = [tuple(step) for word, *step in said if word == "done"]
            begun = [tuple(step) for word, *step in said if word == "begin"]
            for step in done:
                expected = killed_worker.after(expected, step)
                key = killed_worker.other(key) if step == ("rekey",) else key
            acknowledged += len(done)
            in_flight = begun[len(done)] if len(begun) > len(done) else ("nothing",)
            struck[in_flight[0]] += 1
            # What was under way may have been committed before it could be said.
            if in_flight == ("rekey",) and not opens(path, key):
                key = killed_worker.other(key)
            with Gallery.open(path, key) as gallery:
                health = gallery.verify()
                found = {person.id for person in gallery.people()}
            assert health.photos == 2 * health.people
            mine = {name for name in found if name in killed_worker.PEOPLE}
            assert len(found - mine) == OTHERS
            assert mine in (expected, killed_worker.after(expected, in_flight)), (seed, in_flight)
            expected = mine
        zygote.stdin.close()
    with capsys.disabled():
        told = f"{kills} kills, {acknowledged} changes acknowledged, 0 lost"
        sys.stdout.write(f"\n{told}; struck while: {dict(struck)}\n")
    assert min(struck[kind] for kind in ("enroll", "remove", "compact", "rekey")) > 0
    assert not list(tmp_path.glob("*.new"))


def opens(path: Path, key: bytes) -> bool:
    """Tell whether a key opens the gallery."""
    try:
        Gallery.open(path, key).close()
    except GalleryError as error:
        return "wrong key file" not in str(error)
    return True
