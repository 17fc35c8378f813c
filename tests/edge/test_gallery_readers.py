"""Readers beside a writer see whole states only, and are never turned away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from some_galleries import KEY, make_gallery, make_vector

from fcr_edge.gallery import Gallery

ROOT = Path(__file__).parents[2]
OTHERS = 20
READER = """
import json, sys, time
from pathlib import Path
from some_galleries import KEY, make_vector
from fcr_edge.gallery import Gallery

path, until, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
rounds, states = 0, set()
while time.time() < until:
    with Gallery.open(path, KEY) as gallery:
        for _ in range(5):
            found = gallery.search(make_vector(seed), k=100)
            names = tuple(sorted(one.person.id for one in found.candidates))
            states.add((names, found.candidates[0].person.id, found.candidates[0].similarity))
            rounds += 1
print(rounds)
print(json.dumps(sorted(states)))
"""


@pytest.mark.parametrize(
    ("seconds", "readers"),
    [
        pytest.param(6, 3, id="6 s"),
        pytest.param(600, 8, id="10 min", marks=pytest.mark.slow),
    ],
)
def test_readers_see_what_a_serial_run_shows(
    tmp_path: Path, seconds: float, readers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two people come and go together: both are there, or neither, and the scores are the same."""
    path = tmp_path / "db.bin"
    with make_gallery(path, KEY, people=OTHERS + 2) as gallery:
        pair = [gallery.person(f"q{number:05d}") for number in (OTHERS, OTHERS + 1)]
        photos = [gallery.photos(person.id) for person in pair]
        with_pair = {seed: answer(gallery, seed) for seed in range(readers)}
        one, other = pair
        gallery.remove(one.id)
        gallery.remove(other.id)
        without = {seed: answer(gallery, seed) for seed in range(readers)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    until = time.time() + seconds
    children = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(until), str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for seed in range(readers)
    ]
    changes = 0
    with Gallery.open(path, KEY) as gallery:
        while time.time() < until:
            gallery.enroll_all([*zip(pair, photos, strict=True)])
            if changes % 3 == 0:
                gallery.pack()
            gallery.remove(one.id)
            gallery.remove(other.id)
            changes += 3

    rounds = 0
    for seed, child in enumerate(children):
        said, complaint = child.communicate()
        assert child.returncode == 0, complaint
        count, states = said.splitlines()
        rounds += int(count)
        half = {one.id, other.id}
        for names, first, similarity in json.loads(states):
            seen = (tuple(names), first, similarity)
            there = half & {*names}
            assert len(names) == OTHERS + len(there)
            assert there in (set(), half, {other.id}), "the first is removed first"
            if not there:
                assert seen == without[seed]
            if there == half:
                assert seen == with_pair[seed]
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{readers} readers, {rounds} searches beside {changes} changes in {seconds} s,"
            " 0 errors, 0 answers that a serial run does not give"
        )
    assert rounds > readers
    assert changes > 0


def answer(gallery: Gallery, seed: int) -> tuple[tuple[str, ...], str, float]:
    found = gallery.search(make_vector(seed), k=100).candidates
    return tuple(sorted(one.person.id for one in found)), found[0].person.id, found[0].similarity
