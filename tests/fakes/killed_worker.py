"""Changes a gallery over and over, says before and after what it does, and waits to be killed.

Run as a program it reads lines of "path seed", forks a process for each, and prints that one's
number; the process prints what it does until it is killed. Forking saves the start of Python.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from some_galleries import KEY, make_photo

from fcr_edge.gallery import Gallery, Person, store

KEYS = (KEY, KEY[::-1])
PEOPLE = [f"w{number:02d}" for number in range(24)]
Step = tuple[str, ...]


def choose_step(rng: random.Random, enrolled: set[str]) -> Step:
    """Choose what to do next: enrol some who are not there, remove one, compact, or rekey."""
    kind = rng.choices(["enroll", "remove", "compact", "rekey", "pack"], [6, 3, 1, 1, 3])[0]
    absent = sorted({*PEOPLE} - enrolled)
    if kind == "enroll" and absent:
        return "enroll", *rng.sample(absent, min(len(absent), rng.randint(1, 4)))
    if kind == "remove" and enrolled:
        return "remove", rng.choice(sorted(enrolled))
    return (kind,) if kind in ("compact", "rekey", "pack") else ("compact",)


def take_step(gallery: Gallery, step: Step, key: bytes) -> bytes:
    """Do it; gives the gallery's key from then on."""
    kind, *names = step
    if kind == "enroll":
        gallery.enroll_all([(Person(name), photos_of(name)) for name in names])
    elif kind == "remove":
        gallery.remove(names[0])
    elif kind == "compact":
        gallery.compact()
    elif kind == "pack":
        gallery.pack()
    else:
        key = other(key)
        gallery.rekey(key)
    return key


def photos_of(name: str) -> list[object]:
    """Give the two photographs of one of PEOPLE."""
    number = PEOPLE.index(name)
    return [make_photo(5000 + 2 * number), make_photo(5001 + 2 * number)]


def other(key: bytes) -> bytes:
    """Give the other one of two keys."""
    return KEYS[1 - KEYS.index(key)]


def after(enrolled: set[str], step: Step) -> set[str]:
    """Give who is enrolled after a step."""
    kind, *names = step
    if kind == "enroll":
        return enrolled | {*names}
    return enrolled - {*names}


def work(path: Path, key: bytes, seed: int) -> None:
    """Change the gallery until killed."""
    store.PACKED_FROM = 1
    rng = random.Random(seed)
    with Gallery.open(path, key) as gallery:
        enrolled = {person.id for person in gallery.people()} & {*PEOPLE}
        say("open")
        while True:
            step = choose_step(rng, enrolled)
            say("begin", *step)
            key = take_step(gallery, step, key)
            say("done", *step)
            enrolled = after(enrolled, step)


def say(*words: str) -> None:
    """Print in one write, which a kill cannot cut in two."""
    os.write(1, (" ".join(words) + "\n").encode())


def main() -> None:
    """Fork a process for each line that is read."""
    for line in sys.stdin:
        path, key, seed = line.split("\t")
        child = os.fork()
        if child == 0:
            work(Path(path), bytes.fromhex(key), int(seed))
        say("pid", str(child))
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
