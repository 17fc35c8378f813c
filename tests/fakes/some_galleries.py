"""People who are nobody, their photographs, galleries of them, and all that a gallery answers."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.gallery import Gallery, Person, Photo, Probe

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32

    from fcr_edge.gallery import Key

DIMENSION = 48
FINGERPRINT = "9f3c" * 16
KEY = bytes(range(32))
ANA = Person("p00001", "Ana Kovač", "female", 1990, "Split", "2019-05-03", "scar on the chin")
BEN = Person("p00002", "Ben Ito", "male", 1985, "Osaka", "2021", "")


def make_vector(seed: int) -> Float32[np.ndarray, " d"]:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def make_photo(seed: int, **changes: object) -> Photo:
    thumbnail = b"\xff\xd8\xff" + random.Random(seed).randbytes(2_000)
    photo = Photo(
        sha256=hashlib.sha256(b"photo %d" % seed).hexdigest(),
        file_name=f"portrait-{seed}.png",
        view="frontal",
        thumbnail=thumbnail,
        embedding=make_vector(seed),
        quality=0.5,
    )
    return dataclasses.replace(photo, **changes)


def make_gallery(path: Path, key: Key | None = None, people: int = 0) -> Gallery:
    gallery = Gallery.create(path, FINGERPRINT, DIMENSION, key)
    for index in range(people):
        photos = [make_photo(1000 + 2 * index), make_photo(1001 + 2 * index)]
        gallery.enroll(Person(f"q{index:05d}", name=f"Person {index}"), photos)
    return gallery


def read_all(path: Path, key: Key | None) -> tuple[object, ...]:
    """Everything a gallery answers."""
    with Gallery.open(path, key) as gallery:
        people = gallery.people()
        photos = [
            tuple(vars(photo).values())[:4] for p in people for photo in gallery.photos(p.id)
        ]
        found = gallery.search(make_vector(7), k=5)
        joint = gallery.search_together([Probe(make_vector(7), "frontal", 0.0, 1.0)], k=5)
        return people, photos, found, joint, gallery.digest, gallery.history()
