"""A gallery for another embedder is the one that enrolling everybody anew would have made."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from some_galleries import KEY
from typer.testing import CliRunner

from fcr_edge import Gallery, Identifier
from fcr_edge.cli import app
from fcr_edge.enroll import Enrolment, enroll
from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Photo
from fcr_edge.identify import demo_folder
from fcr_edge.reembed import re_embed

KEPT, LOST = 3, 2
"""People whose originals the old gallery keeps, and others."""


def make_old(path: Path, people: list[Enrolment]) -> None:
    """Write a gallery of an embedder of long ago."""
    with Gallery.create(path, "0" * 64, 16, KEY) as gallery:
        for number, item in enumerate(people):
            photos = []
            for file, view in item.photos:
                data = file.read_bytes()
                vector = np.eye(16, dtype=np.float32)[len(photos)]
                kept = data if number < KEPT else b""
                sha256 = hashlib.sha256(data).hexdigest()
                photos.append(Photo(sha256, file.name, view, b"", vector, original=kept))
            gallery.enroll(item.person, photos)


@pytest.fixture
def some(people: list[Enrolment]) -> list[Enrolment]:
    return people[: KEPT + LOST]


@pytest.fixture
def old(tmp_path: Path, some: list[Enrolment]) -> Iterator[Gallery]:
    make_old(tmp_path / "old.bin", some)
    with Gallery.open(tmp_path / "old.bin", KEY) as gallery:
        yield gallery


@pytest.fixture
def new(tmp_path: Path, identifier: Identifier) -> Iterator[Gallery]:
    dimension = identifier.bundle.manifest.embedder.output.dimension
    path = tmp_path / "new.bin"
    with Gallery.create(path, identifier.bundle.fingerprint, dimension, KEY) as gallery:
        yield gallery


@pytest.fixture
def folder(tmp_path: Path, some: list[Enrolment]) -> Path:
    """The photographs that the gallery did not keep, under other names, and one more file."""
    files = [file for item in some[KEPT:] for file, _ in item.photos]
    for number, file in enumerate(files):
        target = tmp_path / "files" / f"deep-{number}" / "renamed.jpg"
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
    (tmp_path / "files" / "notes.jpg").write_text("no photograph")
    return tmp_path / "files"


def test_it_is_the_gallery_that_enrolling_makes(
    old: Gallery,
    new: Gallery,
    identifier: Identifier,
    folder: Path,
    some: list[Enrolment],
    tmp_path: Path,
) -> None:
    before = old.path.read_bytes()

    told = re_embed(old, new, identifier, folder)
    again = re_embed(old, new, identifier, folder)

    with Gallery.create(
        tmp_path / "direct.bin", identifier.bundle.fingerprint, new.dimension
    ) as direct:
        enroll(some, direct, identifier)
        assert new.digest == direct.digest
    assert (told.people, told.refused) == (len(some), ())
    assert told.added == told.photos
    assert (again.added, again.photos) == (0, told.photos)
    assert old.path.read_bytes() == before
    assert new.verify().people == len(some)
    kept = {item.person.id: new.original(item.person.id, photo_of(item)) for item in some}
    assert [data is not None for data in kept.values()] == [True] * KEPT + [False] * LOST


def photo_of(item: Enrolment) -> str:
    return hashlib.sha256(item.photos[0][0].read_bytes()).hexdigest()


def test_what_is_missing_is_named_and_nothing_written(
    old: Gallery, new: Gallery, identifier: Identifier, some: list[Enrolment]
) -> None:
    lost = sum(len(item.photos) for item in some[KEPT:])

    with pytest.raises(GalleryError, match=f"{lost} photographs are not at hand: .* of ") as told:
        re_embed(old, new, identifier)

    assert some[KEPT].photos[0][0].name in str(told.value)
    assert new.people() == []

    report = re_embed(old, new, identifier, without_missing=True)
    assert report.people == KEPT
    assert [person.id for person in new.people()] == sorted(item.person.id for item in some[:KEPT])


def test_a_folder_that_is_none_is_refused(
    old: Gallery, new: Gallery, identifier: Identifier, tmp_path: Path
) -> None:
    with pytest.raises(GalleryError, match="is no folder"):
        re_embed(old, new, identifier, tmp_path / "absent")


def test_originals_come_back_and_are_locked_and_removed_with_the_person(
    old: Gallery, some: list[Enrolment]
) -> None:
    item = some[0]
    data = item.photos[0][0].read_bytes()
    assert old.original(item.person.id, photo_of(item)) == data
    assert old.original(some[-1].person.id, photo_of(some[-1])) is None
    with pytest.raises(GalleryError, match="has no photo"):
        old.original(item.person.id, "0" * 64)
    assert not holds(old.path, data)

    old.rekey(None)
    assert holds(old.path, data)
    old.rekey(KEY[::-1])
    assert not holds(old.path, data)
    assert old.original(item.person.id, photo_of(item)) == data
    assert old.verify().people == len(some)

    old.rekey(None)
    old.remove(item.person.id)
    assert not holds(old.path, data)


def holds(path: Path, data: bytes) -> bool:
    """Tell whether a file holds pieces from the middle of data, its heads being all alike."""
    content, middle = path.read_bytes(), len(data) // 2
    return any(data[start : start + 40] in content for start in range(middle, middle + 500, 50))


def test_an_original_is_the_file_of_its_hash() -> None:
    with pytest.raises(GalleryError, match="not the file of that SHA-256"):
        Photo("0" * 64, "a.jpg", None, b"", np.eye(1, 16, dtype=np.float32)[0], original=b"other")


def test_from_the_command_line(
    old: Gallery, folder: Path, tmp_path: Path, some: list[Enrolment]
) -> None:
    (tmp_path / "key").write_bytes(KEY)
    bundle = demo_folder() / "bundle"
    command = ["gallery", "re-embed", str(old.path), str(tmp_path / "made.bin")]
    command += ["--bundle", str(bundle), "--key-file", str(tmp_path / "key"), "--device", "cpu"]

    refused = CliRunner().invoke(app, command)
    done = CliRunner().invoke(app, [*command, "--photos", str(folder)])
    again = CliRunner().invoke(app, [*command, "--photos", str(folder)])

    assert refused.exit_code == 3
    assert "--without-missing" in refused.stderr
    assert (done.exit_code, again.exit_code) == (0, 0), done.stderr
    assert f"{len(some)} people" in done.stdout
    assert " 0 of them new" in again.stdout
    with Gallery.open(tmp_path / "made.bin", KEY) as made:
        assert made.verify().people == len(some)
