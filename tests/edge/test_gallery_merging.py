"""What a merge brings in is what was there, and undo takes back all of it."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from some_galleries import ANA, BEN, KEY, make_gallery, make_photo

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Among, Gallery, Person, merge

OTHER = KEY[::-1]


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Gallery]:
    with make_gallery(tmp_path / "ours.bin", KEY, people=4) as gallery:
        gallery.enroll(ANA, [make_photo(1)])
        yield gallery


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Gallery]:
    with make_gallery(tmp_path / "theirs.bin", OTHER) as gallery:
        gallery.enroll(ANA, [make_photo(1), make_photo(2)])
        gallery.enroll(BEN, [make_photo(3)])
        yield gallery


def test_the_result_is_what_enrolling_both_would_have_made(
    ours: Gallery, theirs: Gallery, tmp_path: Path
) -> None:
    before = theirs.path.read_bytes()

    told = merge(ours, theirs)
    again = merge(ours, theirs)

    with make_gallery(tmp_path / "direct.bin", None, people=4) as direct:
        direct.enroll(ANA, [make_photo(1), make_photo(2)])
        direct.enroll(BEN, [make_photo(3)])
        assert ours.digest == direct.digest
    assert (told.people, told.added, told.conflicts, told.shared) == (2, 2, (), ())
    assert again.added == 0
    assert theirs.path.read_bytes() == before
    assert ours.verify().people == 6


@pytest.mark.parametrize(
    ("details", "place"), [("same", "Split"), ("ours", "Split"), ("theirs", "Zadar")]
)
def test_conflicts_are_listed_and_decided_by_the_user(
    ours: Gallery, theirs: Gallery, details: str, place: str
) -> None:
    theirs.enroll(dataclasses.replace(ANA, place="Zadar"), [], update=True)
    before = ours.digest

    told = merge(ours, theirs, details)

    (conflict,) = told.conflicts
    assert "place is 'Split', now given 'Zadar'" in conflict
    assert ours.person(ANA.id).place == place
    if details == "same":
        assert ours.digest == before
    else:
        assert len(ours.photos(ANA.id)) == 2
        assert ours.person(BEN.id) == BEN


def test_a_photo_of_two_people_is_pointed_out(ours: Gallery, theirs: Gallery) -> None:
    theirs.enroll(Person("x7"), [make_photo(1)])

    (sentence,) = merge(ours, theirs).shared

    assert f"{ANA.id} and x7" in sentence


def test_some_people_only(ours: Gallery, theirs: Gallery) -> None:
    told = merge(ours, theirs, among=Among(sex="male"))

    assert (told.people, told.added) == (1, 1)
    assert len(ours.photos(ANA.id)) == 1


def test_another_embedders_people_are_refused(ours: Gallery, tmp_path: Path) -> None:
    with (
        Gallery.create(tmp_path / "old.bin", "0" * 64, 48) as old,
        pytest.raises(GalleryError, match="was enrolled with embedder"),
    ):
        merge(ours, old)


def test_undo_takes_a_merge_back(ours: Gallery, theirs: Gallery, monkeypatch) -> None:
    monkeypatch.setattr("fcr_edge.gallery.merging.BATCH", 1)
    theirs.enroll(dataclasses.replace(ANA, place="Zadar"), [], update=True)
    before, photos = ours.digest, ours.verify().photos
    merge(ours, theirs, "theirs")
    assert ours.digest != before

    done = ours.undo()

    assert (done.removed, done.restored, done.photos) == ((BEN.id,), (ANA.id,), 2)
    assert ours.digest == before
    assert ours.verify().photos == photos
    assert [event.action for event in ours.history()][-3:] == ["enroll", "enroll", "undo"]
    with pytest.raises(GalleryError, match="was no enrolment, and cannot be taken back"):
        ours.undo()


def test_undo_takes_back_one_change_and_not_the_one_before(ours: Gallery) -> None:
    before = ours.digest
    ours.enroll(BEN, [make_photo(5)])
    ours.enroll(BEN, [make_photo(5)])  # changes nothing
    assert ours.undo().removed == (BEN.id,)
    assert ours.digest == before

    ours.enroll_all([(BEN, [make_photo(5)]), (BEN, [make_photo(6)])])
    ours.log_search([], "", [])
    done = ours.undo()
    assert (done.removed, done.photos) == ((BEN.id,), 2)
    assert ours.digest == before
    assert ours.verify().people == 5


@pytest.mark.parametrize("change", ["remove", "rekey", "nothing"])
def test_what_is_gone_for_good_cannot_be_taken_back(ours: Gallery, change: str) -> None:
    if change == "remove":
        ours.remove(ANA.id)
    elif change == "rekey":
        ours.rekey(OTHER)
    else:
        ours.undo()
    before = ours.digest

    with pytest.raises(GalleryError, match="restore a copy"):
        ours.undo()

    assert ours.digest == before


def test_a_change_in_between_is_not_taken_back_with_it(ours: Gallery) -> None:
    with Gallery.open(ours.path, KEY) as somebody:
        ours.enroll_all([(BEN, [make_photo(5)])], change="mine")
        somebody.enroll(Person("s1"), [make_photo(8)])
        ours.enroll_all([(Person("b2"), [make_photo(6)])], change="mine")

    assert ours.undo().removed == ("b2",)
    assert {BEN.id, "s1"} <= {person.id for person in ours.people()}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_change_with_a_piece_missing_is_not_half_taken_back(ours: Gallery, number: int) -> None:
    for name in ("a", "b", "c"):
        ours.enroll_all([(Person(name), [make_photo(ord(name))])], change="one")
    with sqlite3.connect(ours.path) as database:
        database.execute("DELETE FROM cache WHERE name = 'undo' AND number = ?", (number,))
    before = ours.digest

    with pytest.raises(GalleryError, match=r"damaged|cannot be taken back"):
        ours.undo()

    assert ours.digest == before
