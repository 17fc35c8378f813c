from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fcr_edge import Gallery, demo, imaging
from fcr_edge.cli import app
from fcr_edge.identify import demo_folder

XRAY = demo.list_films()[0].xray
MANY_PEOPLE = 400
"""Enough that their enrolment takes seconds."""
SOME_BYTES = 100_000
"""A gallery of this size holds a few people, at about 8 kB each."""


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed)


def test_identify_prints_candidates_and_the_limit(gallery_file: Path) -> None:
    done = run("identify", XRAY, "--gallery", gallery_file, "-k", 3, "--device", "cpu")

    assert done.exit_code == 0
    assert "not an identification" in done.stdout
    assert "recall 1.000" in done.stdout
    assert "bundle: demo" in done.stderr
    assert "not encrypted" in done.stderr


def test_identify_json_is_one_document_on_stdout(gallery_file: Path) -> None:
    done = run("identify", XRAY, "--gallery", gallery_file, "--json", "-k", 3)

    record = json.loads(done.stdout)
    assert [candidate["rank"] for candidate in record["candidates"]] == [1, 2, 3]
    assert set(record["timings_ms"]) >= {"film", "translator", "search"}
    assert record["device"]["device"] in ("cpu", "cuda")


def test_identify_writes_into_the_folder_named_and_the_log(
    gallery_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "gallery" / "db.bin"
    file.parent.mkdir()
    shutil.copy(gallery_file, file)
    with Gallery.open(file) as gallery:
        before, events = gallery.verify(), len(gallery.history())

    done = run("identify", XRAY, "--gallery", file, "--out", tmp_path / "case")

    assert done.exit_code == 0
    assert {path.name for path in (tmp_path / "case").iterdir()} == {
        "result.json",
        "result.png",
        "film.png",
        "skull.png",
        "face.png",
    }
    assert [path.name for path in file.parent.iterdir()] == ["db.bin"]
    with Gallery.open(file) as gallery:
        assert gallery.verify() == before
        assert len(gallery.history()) == events + 1


def test_enroll_list_show_remove(tmp_path: Path) -> None:
    shutil.copy(demo_folder() / "photos" / "p00001_frontal.jpg", tmp_path / "anna.jpg")
    shutil.copy(demo_folder() / "photos" / "p00002_frontal.jpg", tmp_path / "ben.jpg")
    (tmp_path / "notes.txt").write_text("not a photograph")
    file = tmp_path / "out" / "db.bin"
    file.parent.mkdir()

    enrolled = run("enroll", tmp_path, "--gallery", file, "--plain")
    shown = run("gallery", "show", "anna", "--gallery", file)
    removed = run("gallery", "remove", "ben", "--gallery", file, "--yes")
    listed = run("gallery", "list", "--gallery", file, "--json")

    assert "2 people with 2 photographs enrolled" in enrolled.stdout
    assert "notes.txt is not taken" in enrolled.stderr
    assert "simulated people only" in enrolled.stderr
    assert "can be read by anyone" in enrolled.stderr
    assert "anna.jpg" in shown.stdout
    assert removed.exit_code == 0
    assert [person["id"] for person in json.loads(listed.stdout)["people"]] == ["anna"]


def test_passphrase_locks_the_gallery(tmp_path: Path) -> None:
    photos, file = tmp_path / "photos", tmp_path / "db.bin"
    photos.mkdir()
    shutil.copy(demo_folder() / "photos" / "p00001_frontal.jpg", photos / "anna.jpg")

    made = run("enroll", photos, "--gallery", file, "--passphrase", typed="correct horse\n")
    opened = run("gallery", "list", "--gallery", file, "--passphrase", typed="correct horse\n")
    wrong = run("gallery", "list", "--gallery", file, "--passphrase", typed="battery\n")
    without = run("gallery", "list", "--gallery", file)

    assert (made.exit_code, opened.exit_code) == (0, 0)
    assert "anna" in opened.stdout
    assert b"anna" not in file.read_bytes()
    assert (wrong.exit_code, without.exit_code) == (3, 3)
    assert "--passphrase" in without.stderr


def test_a_gallery_is_made_locked_and_locked_anew(tmp_path: Path) -> None:
    file, keys = tmp_path / "db.bin", tmp_path / "hq.pem"
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(demo_folder() / "photos" / "p00001_frontal.jpg", photos / "anna.jpg")
    asking = ("--gallery", file, "--passphrase")

    made = run("gallery", "create", file, "--passphrase", typed="correct horse battery\n")
    enrolled = run("enroll", photos, *asking, typed="correct horse battery\n")
    keygen = run("gallery", "keygen", "--out", keys, "--passphrase", typed="gray owl\n")
    rekeyed = run(
        *("gallery", "rekey", file, "--passphrase", "--new-passphrase"),
        *("--headquarters", keygen.stdout.strip()),
        typed="correct horse battery\nshort\n",
    )
    old = run("gallery", "list", *asking, typed="correct horse battery\n")
    new = run("gallery", "list", *asking, typed="short\n")
    rescued = run("gallery", "list", "--gallery", file, "--key-file", keys, typed="gray owl\n")
    opened = run("gallery", "rekey", file, "--key-file", keys, "--plain", typed="gray owl\n")
    plain = run("gallery", "list", "--gallery", file)

    for done in (made, enrolled, keygen, rekeyed, new, rescued, opened, plain):
        assert done.exit_code == 0, done.stderr
    assert made.stdout == rekeyed.stdout == f"{file}\n"
    assert "no second key" in made.stderr
    assert "no second key" not in rekeyed.stderr
    assert "5 characters" in rekeyed.stderr
    assert "copies made before still open" in rekeyed.stderr
    assert old.exit_code == 3
    assert "wrong passphrase" in old.stderr
    assert "headquarters" in old.stderr
    assert "anna" in new.stdout == rescued.stdout == plain.stdout
    assert "can be read by anyone" in opened.stderr


def test_a_search_is_confined_to_whom_the_examiner_asks_for(tmp_path: Path) -> None:
    photos, file, table = demo_folder() / "photos", tmp_path / "db.bin", tmp_path / "people.csv"
    table.write_text(
        "Number,file,sex,Born,height_cm,date\n"
        f"anna,{photos / 'p00001_frontal.jpg'},female,1980-1982,171,2019\n"
        f"ben,{photos / 'p00002_frontal.jpg'},male,1950,,2019\n"
        f"cem,{photos / 'p00003_frontal.jpg'},,,,\n"
    )
    names = ("--column", "person=Number", "--column", "birth_year=Born")
    asked = ("--only-sex", "female", "--only-age", "30-45", "--missing-since", "2018")

    enrolled = run("enroll", table, "-g", file, "--plain", *names)
    listed = run("gallery", "list", "-g", file, *asked)
    found = run("identify", XRAY, "-g", file, *asked, "--json")
    shown = run("identify", XRAY, "-g", file, *asked)
    nobody = run("identify", XRAY, "-g", file, "--only-sex", "female", "--only-age", "3")
    wrong = run("identify", XRAY, "-g", file, "--only-age", "young")

    assert enrolled.exit_code == 0, enrolled.stderr
    assert listed.stdout == "anna  female  1980-1982  171 cm  2019\ncem\n"
    record = json.loads(found.stdout)
    assert {one["person"]["id"] for one in record["candidates"]} == {"anna", "cem"}
    assert (record["gallery"]["people"], record["gallery"]["excluded"]) == (2, 1)
    assert record["among"]["age"] == [30, 45]
    assert record["among"]["year"] >= 2026
    assert "1 not among those asked for" in shown.stdout
    assert nobody.exit_code == 0, "cem may be anybody"
    assert (wrong.exit_code, "--only-age is 'young'" in wrong.stderr) == (3, True)


def test_the_audit_says_who_searched_for_what(gallery_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "db.bin"
    shutil.copy(gallery_file, file)

    found = json.loads(run("identify", XRAY, "-g", file, "-k", "7", "--json").stdout)
    benched = run("bench", "--gallery", file, "--repeats", "2", "--json")
    names = [one["person"]["id"] for one in found["candidates"]]
    run("gallery", "remove", names[1], "-g", file, "--yes")
    shown = run("gallery", "audit", file)
    told = json.loads(run("gallery", "audit", file, "--json").stdout)

    assert benched.exit_code == 0, benched.stderr
    search, removal = told["events"][-2:]
    assert (search["action"], removal["action"]) == ("search", "remove"), "timing logs nothing"
    assert search["films"] == [found["films"][0]["xray"]["sha256"]]
    assert search["bundle"] == found["bundle"]["manifest_sha256"]
    assert len(search["candidates"]) == 7
    assert "@" in search["operator"]
    line = shown.stdout.splitlines()[-2]
    assert names[0] in line
    assert names[1] not in line
    assert search["candidates"][1][:12] in line
    assert "and 2 more" in line
    assert "unbroken" in shown.stderr


def test_galleries_are_merged_exported_and_changes_taken_back(
    gallery_file: Path, tmp_path: Path
) -> None:
    file, part, photos = tmp_path / "db.bin", tmp_path / "part.bin", tmp_path / "photos"
    shutil.copy(gallery_file, file)
    photos.mkdir()
    shutil.copy(demo_folder() / "photos" / "p00001_frontal.jpg", photos / "zoe.jpg")
    before = len(json.loads(run("gallery", "list", "-g", file, "--json").stdout)["people"])

    asked = ("--only-sex", "female", "--new-passphrase")
    exported = run("gallery", "export", file, part, *asked, typed="gray owl and mice\n")
    added = run("enroll", photos, "-g", part, "--passphrase", typed="gray owl and mice\n")
    merged = run("gallery", "merge", file, part, "--other-passphrase", typed="gray owl and mice\n")
    after = len(json.loads(run("gallery", "list", "-g", file, "--json").stdout)["people"])
    undone = run("gallery", "undo", file)
    twice = run("gallery", "undo", file)

    for done in (exported, added, merged, undone):
        assert done.exit_code == 0, done.stderr
    assert after == before + 1
    assert "1 photographs of them new" in merged.stdout
    assert "p00001 and zoe" in merged.stderr
    assert "not enrolled any more: zoe" in undone.stderr
    assert twice.exit_code == 3
    assert len(json.loads(run("gallery", "list", "-g", file, "--json").stdout)["people"]) == before


def test_a_gallery_is_copied_checked_and_put_back(gallery_file: Path, tmp_path: Path) -> None:
    file, copy = tmp_path / "db.bin", tmp_path / "copy.bin"
    shutil.copy(gallery_file, file)

    copied = run("gallery", "backup", file, copy)
    again = run("gallery", "backup", file, copy)
    checked = run("gallery", "verify", file)
    told = run("gallery", "verify", file, "--json")
    file.write_bytes(file.read_bytes()[:30_000])
    found = run("gallery", "verify", file)
    restored = run("gallery", "restore", copy, file)
    mended = run("gallery", "verify", file, "--json")
    compacted = run("gallery", "compact", file)

    for done in (copied, checked, told, restored, mended, compacted):
        assert done.exit_code == 0, done.stderr
    assert copied.stdout == f"{copy}\n"
    assert "exists already" in again.stderr
    assert "all sound" in checked.stdout
    assert "none: anyone can read it" in checked.stdout
    assert json.loads(told.stdout)["schema"] == "fcr-gallery-health/1"
    assert (again.exit_code, found.exit_code) == (3, 3)
    assert "damaged" in found.stderr
    assert json.loads(mended.stdout) == json.loads(told.stdout)
    assert "db.bin.replaced-1" in restored.stderr
    assert (tmp_path / "db.bin.replaced-1").stat().st_size == 30_000


@pytest.mark.parametrize(
    "command", [("gallery", "create", "FILE"), ("enroll", "PHOTOS", "-g", "FILE")]
)
def test_no_gallery_is_left_readable_unasked(tmp_path: Path, command: tuple[str, ...]) -> None:
    shutil.copy(demo_folder() / "photos" / "p00001_frontal.jpg", tmp_path / "anna.jpg")
    places = {"FILE": tmp_path / "db.bin", "PHOTOS": tmp_path}

    done = run(*(places.get(word, word) for word in command))

    assert done.exit_code == 3
    assert "--plain to leave its faces and names readable" in done.stderr
    assert not (tmp_path / "db.bin").exists()


def test_headquarters_private_key_is_no_new_key(tmp_path: Path) -> None:
    run("gallery", "keygen", "--out", tmp_path / "hq.pem")

    done = run("gallery", "create", tmp_path / "db.bin", "--key-file", tmp_path / "hq.pem")

    assert done.exit_code == 3
    assert "give its .pub as --headquarters" in done.stderr


def test_reconstruct_and_preprocess_write_pictures(tmp_path: Path) -> None:
    face = run("reconstruct", XRAY, "-o", tmp_path / "face.png")
    skull = run("preprocess", XRAY, "-o", tmp_path / "skull.png")

    assert (face.exit_code, skull.exit_code) == (0, 0)
    assert imaging.read_picture(tmp_path / "face.png").ndim == 3
    assert imaging.read_picture(tmp_path / "skull.png").shape == (256, 256)


def test_preprocess_tells_what_was_done_to_the_film(tmp_path: Path) -> None:
    turned = tmp_path / "turned.png"
    imaging.write_png(turned, imaging.to_grey(imaging.read_picture(XRAY)))

    plain = run("preprocess", turned, "-o", tmp_path / "a.png")
    record = json.loads(run("preprocess", turned, "-o", tmp_path / "b.png", "--json").stdout)

    assert "decoded: PNG" in plain.stdout
    assert record["schema"] == "fcr-skull/1"
    assert record["film"]["container"] == "PNG"
    assert record["film"]["polarity"] == "as stored"
    assert record["soft_tissue"] == "learned-1"


def test_deidentify_writes_a_copy_once_and_says_what_stays(tmp_path: Path) -> None:
    source = tmp_path / "film.png"
    imaging.write_png(source, imaging.read_picture(XRAY), {"Author": "Doe"})

    done = run("deidentify", source, "-o", tmp_path / "copy.png")
    again = run("deidentify", source, "-o", tmp_path / "copy.png")

    assert done.exit_code == 0
    assert "1 entries removed" in done.stdout
    assert "burned into them" in done.stderr
    assert b"Doe" not in (tmp_path / "copy.png").read_bytes()
    assert b"Doe" in source.read_bytes()
    assert again.exit_code == 3
    assert "exists" in again.stderr


def test_bench_counts_every_stage() -> None:
    done = run("bench", "--repeats", 2, "--json")

    record = json.loads(done.stdout)
    assert {stage: row["runs"] for stage, row in record["stages"].items()} == dict.fromkeys(
        ("film", "soft_tissue", "translator", "embedder", "search", "total"), 2
    )
    assert record["machine"]["people"] == 60


def test_doctor_finds_a_whole_bundle_and_the_cpu(gallery_file: Path) -> None:
    done = run("doctor", "--gallery", gallery_file)

    assert done.exit_code == 0
    assert "bundle demo" in done.stdout
    assert "device cpu" in done.stdout
    assert "JPEG 2000" in done.stdout
    assert "decoded in" in done.stdout
    assert "8 people" in done.stdout


def test_doctor_fails_on_a_damaged_bundle(tmp_path: Path) -> None:
    shutil.copytree(demo_folder() / "bundle", tmp_path / "bundle")
    with (tmp_path / "bundle" / "translator.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"!")

    done = run("doctor", "--bundle", tmp_path / "bundle")

    assert done.exit_code == 3
    assert "translator.onnx" in done.stdout


def test_demo_shows_ranks_chance_and_limit(tmp_path: Path) -> None:
    done = run("demo", "--out", tmp_path / "demo", "--device", "cpu")

    assert done.exit_code == 0
    assert "not enrolled" in done.stdout
    assert "drawing lots" in done.stdout
    assert "not an identification" in done.stdout
    assert len(list((tmp_path / "demo").glob("*/result.png"))) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("identify", "absent.png", "-g", "GALLERY"), "absent.png", id="no film"),
        pytest.param(("identify", "TEXT", "-g", "GALLERY"), "not a picture", id="text"),
        pytest.param(("identify", "BLACK", "-g", "GALLERY"), "show nothing", id="black"),
        pytest.param(("identify", "XRAY", "-g", "absent.bin"), "absent.bin", id="no gallery"),
        pytest.param(("identify", "XRAY", "-g", "TEXT"), "page.png", id="no database"),
        pytest.param(("identify", "XRAY", "-g", "TORN"), "torn.bin", id="truncated gallery"),
        pytest.param(("identify", "XRAY", "-g", "OTHER"), "--bundle", id="other embedder"),
        pytest.param(
            ("identify", "XRAY", "-g", "OTHER", "-b", "DEMO"), "enroll again", id="wrong bundle"
        ),
        pytest.param(
            ("identify", "XRAY", "-g", "GALLERY", "-b", "TEXT"), "cannot be read", id="no bundle"
        ),
        pytest.param(
            ("identify", "XRAY", "-g", "GALLERY", "--out", "TEXT"), "cannot write", id="out"
        ),
        pytest.param(
            ("identify", "XRAY", "-g", "GALLERY", "--device", "trt"), "TensorRT", id="device"
        ),
        pytest.param(("enroll", "absent", "-g", "new.bin"), "does not exist", id="nobody"),
        pytest.param(("gallery", "show", "p0001", "-g", "GALLERY"), "p00001", id="near name"),
        pytest.param(("preprocess", "XRAY", "-o", "no/a.png"), "cannot write", id="no folder"),
    ],
)
def test_bad_input_is_one_clear_sentence(
    arguments: tuple[str, ...], message: str, gallery_file: Path, tmp_path: Path
) -> None:
    places = {
        "GALLERY": gallery_file,
        "XRAY": XRAY,
        "DEMO": demo_folder() / "bundle",
        "TEXT": tmp_path / "page.png",
        "BLACK": tmp_path / "black.png",
        "TORN": tmp_path / "torn.bin",
        "OTHER": tmp_path / "other" / "db.bin",
    }
    places["TEXT"].write_text("a letter, named as a picture\n" * 40)
    imaging.write_png(places["BLACK"], np.zeros((300, 300), np.uint8))
    places["TORN"].write_bytes(gallery_file.read_bytes()[:20_000])
    places["OTHER"].parent.mkdir()
    Gallery.create(places["OTHER"], "0" * 64, 16).close()
    before = gallery_file.read_bytes()

    done = run(*(places.get(argument, argument) for argument in arguments))

    assert done.exit_code == 3, done.stderr
    assert done.stdout == ""
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert message in line
    assert gallery_file.read_bytes() == before


def test_usage_error_exits_2() -> None:
    assert run("identify").exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind: skipped")
def test_interrupted_enrolment_keeps_what_was_committed(tmp_path: Path) -> None:
    file, table = tmp_path / "db.bin", tmp_path / "people.csv"
    photo = demo_folder() / "photos" / "p00001_frontal.jpg"
    table.write_text("person,file\n" + "".join(f"p{n},{photo}\n" for n in range(MANY_PEOPLE)))
    command = [sys.executable, "-m", "fcr_edge", "enroll", str(table)]
    command += ["--gallery", str(file), "--device", "cpu", "--plain"]
    child = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Background jobs of a shell, as this run may be one, ignore Ctrl-C by inheritance.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while child.poll() is None and not (file.exists() and file.stat().st_size > SOME_BYTES):
        time.sleep(0.01)

    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    kept = count_people(file)
    again = subprocess.run(command, capture_output=True, text=True, check=False)

    assert child.returncode == 130, told
    assert "run the same command to go on" in told
    assert 0 < kept < MANY_PEOPLE
    assert again.returncode == 0, again.stderr
    assert count_people(file) == MANY_PEOPLE


def count_people(file: Path) -> int:
    with Gallery.open(file) as gallery:
        return len(gallery.people())
