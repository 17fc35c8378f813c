"""Whose time is over goes, nobody else does, and the receipt tells what happened."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from some_galleries import KEY, make_gallery, make_photo
from typer.testing import CliRunner

from fcr_edge.cli import app
from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Gallery, Person
from fcr_edge.gallery.purging import check_receipt, find_expired, purge

DAY = "2026-11-22"
SIGNER = Ed25519PrivateKey.generate()


@pytest.fixture
def gallery(tmp_path: Path):
    with make_gallery(tmp_path / "db.bin", KEY, people=2) as made:
        for number, until in enumerate(
            ("2026-11-21", "2026-11-22", "2026-10", "2026", "2025", "")
        ):
            person = Person(f"r{number}", name=f"Somebody {number}", retain_until=until)
            made.enroll(person, [make_photo(100 + number)])
        yield made


def test_time_is_over_after_the_last_day(gallery: Gallery) -> None:
    assert [one.id for one in find_expired(gallery, DAY)] == ["r0", "r2", "r4"]
    assert [one.id for one in find_expired(gallery, "2027-01-01")] == [
        "r0",
        "r1",
        "r2",
        "r3",
        "r4",
    ]


@pytest.mark.parametrize("day", ["2026", "2026-02-30", "today"])
def test_a_day_that_is_none_is_refused(gallery: Gallery, day: str) -> None:
    with pytest.raises(GalleryError, match="write it as"):
        find_expired(gallery, day)


def test_the_receipt_attests_what_the_log_says(gallery: Gallery, tmp_path: Path) -> None:
    expired = find_expired(gallery, DAY)
    hashes = {person: digest for digest, person in gallery.name_hashes().items()}

    purge(gallery, expired, DAY, tmp_path / "receipt.json", SIGNER)

    receipt = check_receipt(tmp_path / "receipt.json", SIGNER.public_key())
    last = gallery.history()[-1]
    assert receipt["people"] == [[hashes[one.id], 1] for one in expired]
    assert (receipt["last_entry"], receipt["log_head"]) == (last.number, last.hash)
    assert receipt["as_of"] == DAY
    assert "Somebody" not in (tmp_path / "receipt.json").read_text()
    assert gallery.verify().people == 5
    assert not find_expired(gallery, DAY)


@pytest.mark.parametrize("harm", ["another key", "changed", "cut", "other"])
def test_a_receipt_that_was_touched_is_refused(
    gallery: Gallery, tmp_path: Path, harm: str
) -> None:
    path, key = tmp_path / "receipt.json", SIGNER
    purge(gallery, find_expired(gallery, DAY), DAY, path, key)
    if harm == "another key":
        key = Ed25519PrivateKey.generate()
    elif harm == "changed":
        path.write_text(path.read_text().replace('"as_of": "2026', '"as_of": "2025'))
    else:
        path.write_bytes(path.read_bytes()[:50] if harm == "cut" else b"[]")

    with pytest.raises(GalleryError, match=r"not signed by this key|is no receipt"):
        check_receipt(path, key.public_key())


def test_without_a_receipt_nobody_goes(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired, before = find_expired(gallery, DAY), gallery.verify()
    (tmp_path / "there.json").write_text("precious")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(GalleryError, match="exists already"):
        purge(gallery, expired, DAY, tmp_path / "there.json", SIGNER)
    with pytest.raises(GalleryError, match="nobody was removed"):
        purge(gallery, expired, DAY, tmp_path / "absent" / "receipt.json", SIGNER)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(GalleryError, match=r"No space left .* nobody was removed"):
            purge(gallery, expired, DAY, tmp_path / "receipt.json", SIGNER)

    assert gallery.verify() == before
    assert (tmp_path / "there.json").read_text() == "precious"
    assert not (tmp_path / "receipt.json").exists()


def test_a_purge_that_fails_leaves_no_receipt(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gallery.verify()

    def fail(state: object) -> None:
        raise GalleryError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(gallery._tables, "write_state", fail)
        with pytest.raises(GalleryError, match="disk is full"):
            purge(gallery, find_expired(gallery, DAY), DAY, tmp_path / "receipt.json", SIGNER)

    assert gallery.verify() == before
    assert not (tmp_path / "receipt.json").exists()


def test_from_the_command_line(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    signer, receipt = tmp_path / "sign.pem", tmp_path / "receipt.json"
    run = CliRunner().invoke
    command = ["gallery", "purge", str(gallery.path), "--key-file", str(tmp_path / "key")]
    command += ["--receipt", str(receipt), "--sign-with", str(signer), "--as-of", DAY]

    made = run(app, ["gallery", "keygen", "--purpose", "receipts", "--out", str(signer)])
    refused = run(app, command, input="n\n")
    done = run(app, [*command, "--yes"])
    again = run(app, [*command, "--yes"])
    checked = run(app, ["gallery", "check-receipt", str(receipt), "--key", f"{signer}.pub"])

    assert made.exit_code == 0, made.stderr
    assert refused.exit_code == 1
    assert "r0, until 2026-11-21" in refused.stderr
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{receipt}\n"
    assert "nobody's time is over" in again.stderr
    assert len(json.loads(checked.stdout)["people"]) == 3
