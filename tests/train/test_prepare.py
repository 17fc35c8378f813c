from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError
from fcr_train import prepare
from fcr_train.augment import AUGMENTATIONS, apply_change, draw_change
from fcr_train.cli import app
from fcr_train.copies import find_copies, fingerprint
from fcr_train.dataset import Person, divide, read_dataset
from fcr_train.layouts import KINDS, VIEWS, NameFault, read_folders_name, read_s2f_name, read_table
from fcr_train.splits import split_by_pair
from fcr_train.survey import looks_inverted, survey

runner = CliRunner()
Draw = Callable[..., np.ndarray]
WritePairs = Callable[..., Path]


@pytest.fixture
def folder(write_pairs: WritePairs, tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", 4)


def make(folder: Path, out: Path, *options: str) -> tuple[int, str, str]:
    result = runner.invoke(app, ["prepare", str(folder), "--out", str(out), *options])
    return result.exit_code, result.stdout, result.stderr


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def problems(folder: Path, **options: object) -> list[tuple[str, str]]:
    surveyed = survey(folder, "s2f", size=64, **options)  # type: ignore[arg-type]
    return [(problem.level, problem.check) for problem in surveyed.problems]


FINE = [("note", "people"), ("note", "people")]  # neither sex nor age is known


def test_a_folder_becomes_a_dataset_of_the_same_pixels(folder: Path, tmp_path: Path) -> None:
    code, stdout, stderr = make(folder, tmp_path / "data", "--size", "64")

    assert code == 0, stderr
    assert stdout.splitlines()[-1] == str(tmp_path / "data")
    dataset = read_dataset(tmp_path / "data")
    assert dataset.generator == "fcr-prepare"
    assert dataset.people[0] == Person("p00001", "", None)
    assert Counter(row.kind for row in dataset.pictures) == {"xray": 8, "face": 8}
    for row in dataset.pictures:
        source = folder / f"{row.person[-2:]}_{row.view}_{row.kind}.png"
        assert np.array_equal(imaging.read_picture(row.path), imaging.read_picture(source))
    report = json.loads((tmp_path / "data" / "report.json").read_text())
    assert report["people"] == 4
    assert report["pictures"] == {
        "face": {"frontal": 4, "lateral": 4},
        "xray": {"frontal": 4, "lateral": 4},
    }
    assert len(report["used"]) == 16


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("03_frontal_xray.png", ("p00003", "frontal", "xray"), id="plain"),
        pytest.param("Skull/Side/S12.JPG", ("p00012", "lateral", "skull"), id="folders"),
        pytest.param("x-ray/12 PA.dcm", ("p00012", "frontal", "xray"), id="x-ray"),
        pytest.param("X Rays/f7.png", ("p00007", "frontal", "xray"), id="glued letter"),
        pytest.param("photos/L-007.png", ("p00007", "lateral", "face"), id="single letter"),
        pytest.param("S2F/f_12_lateral_photo.png", ("p00012", "lateral", "face"), id="sex"),
        pytest.param("Skull2Face/12/Film Lat.tif", ("p00012", "lateral", "xray"), id="set"),
        pytest.param("skull and face/12_face_ap.png", ("p00012", "frontal", "face"), id="nearest"),
        pytest.param("12/12_front_face.png", ("p00012", "frontal", "face"), id="number twice"),
    ],
)
def test_s2f_names_are_understood(name: str, shown: tuple[str, str, str]) -> None:
    assert read_s2f_name(PurePosixPath(name)) == shown


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("frontal_xray.png", "found: none"),
        ("3_frontal_xray_2.png", "found: 2, 3"),
        ("3_xray.png", "names no view"),
        ("3_frontal.png", "names no kind"),
        ("3_frontal_lateral_xray.png", "two views"),
        ("3_frontal_skull_xray.png", "two kinds"),
    ],
)
def test_s2f_names_with_a_fault_are_refused(name: str, words: str) -> None:
    with pytest.raises(NameFault, match=words):
        read_s2f_name(PurePosixPath(name))


@given(
    number=st.integers(0, 99999),
    view=st.sampled_from(["Frontal", "PA", "front", "LATERAL", "side"]),
    kind=st.sampled_from(["xray", "X-Ray", "film", "Skull", "face", "PHOTO"]),
    gap=st.sampled_from(["_", "-", " ", "."]),
    order=st.permutations([0, 1, 2]),
)
def test_s2f_words_come_in_any_order(
    number: int, view: str, kind: str, gap: str, order: list[int]
) -> None:
    name = gap.join([(str(number), view, kind)[place] for place in order])

    person, read_view, read_kind = read_s2f_name(PurePosixPath(name + ".png"))

    assert person == f"p{number:05d}"
    assert read_view == ("lateral" if view in ("LATERAL", "side") else "frontal")
    ours = {"x-ray": "xray", "film": "xray", "photo": "face"}
    assert read_kind == ours.get(kind.lower(), kind.lower())


@given(parts=st.lists(st.text(st.characters(exclude_characters="\0/")), min_size=1, max_size=4))
def test_any_name_is_understood_or_refused(parts: list[str]) -> None:
    name = PurePosixPath("/".join(["x", *parts]))

    for read in (read_s2f_name, read_folders_name):
        try:
            person, view, kind = read(name)
        except NameFault:
            continue
        assert (person != "", view in VIEWS, kind in KINDS) == (True, True, True)


@pytest.mark.parametrize(
    "name",
    [
        "anna.png",
        "teeth/frontal/anna.png",
        "anna/frontal.png",
        "anna/frontal_face_x.png",
        "a/b/c/d.png",
        "xray/frontal/-.png",
    ],
)
def test_folders_names_with_a_fault_are_refused(name: str) -> None:
    with pytest.raises(NameFault):
        read_folders_name(PurePosixPath(name))


def test_the_three_layouts_make_the_same_dataset(folder: Path, draw: Draw, tmp_path: Path) -> None:
    by_kind, by_person = tmp_path / "kinds", tmp_path / "people"
    table = ["person,view,kind,file,sex,age"]
    for path in sorted(folder.iterdir()):
        number, view, kind = path.stem.split("_")
        person = f"p000{number}"
        for target in (
            by_kind / kind.upper() / view / f"{person}.png",
            by_person / person / f"{view}_{kind}.png",
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        table.append(f"{person},{view},{kind},{path.name},,")
    (tmp_path / "table.csv").write_text("\n".join(table))
    options = ("--layout", "csv", "--table", str(tmp_path / "table.csv"))

    made = [
        make(folder, tmp_path / "1"),
        make(by_kind, tmp_path / "2", "--layout", "folders"),
        make(by_person, tmp_path / "3", "--layout", "folders"),
        make(folder, tmp_path / "4", *options),
    ]

    assert [code for code, *_ in made] == [0, 0, 0, 0], made
    first, *others = (
        {
            name: content
            for name, content in contents(tmp_path / out).items()
            if name not in ("report.json", "dataset.json")
        }
        for out in "1234"
    )
    assert all(other == first for other in others)


def test_people_may_have_a_table(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text(
        "person,sex,age,birth_year,film_year,bmi\n"
        "1,F,24,,,22.5\n2,man,,1999,2024,\nP03,,,1990,,100\n99,f,3,,,\n"
    )

    code, _, stderr = make(folder, tmp_path / "data", "--table", str(table))

    assert code == 0
    assert "1 people without a picture, p00099" in stderr
    assert read_dataset(tmp_path / "data").people == (
        Person("p00001", "female", 24.0, 22.5),
        Person("p00002", "male", 25.0),
        Person("p00003", "", None, 100.0),
        Person("p00004", "", None),
    )
    assert rows(tmp_path / "data" / "people.csv")[2]["birth_year"] == "1990"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("person,sex\n1,x\n", "sex is 'x'"),
        ("person,age\n1,old\n", "age is 'old'"),
        ("person,age\n1,30\n1,31\n", "says of p00001 what another"),
        ("person,age\nanna,30\n", "no one number"),
        ("person,birth_year,film_year\n1,2000,1990\n", "age is -10"),
        ("person,bmi\n1,4.9\n", "bmi is '4.9': write 5 to 100 kg/m2 or leave it empty"),
        ("person,bmi\n1,101\n", "bmi is '101'"),
        ("person,bmi\n1,stout\n", "bmi is 'stout'"),
        ("person,bmi\n1,22\n1,23\n", "says of p00001 what another"),
        ("name\nanna\n", "no column person"),
    ],
)
def test_a_wrong_table_of_people_is_refused(
    folder: Path, tmp_path: Path, table: str, words: str
) -> None:
    (tmp_path / "t.csv").write_text(table)

    with pytest.raises(DataError, match=words):
        survey(folder, "s2f", tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,frontal,hand,x.png", "names no kind"),
        ("a b,frontal,face,x.png", "names a person 'a b'"),
        ("b,frontal,face,01_frontal_face.png", "a second time"),
    ],
)
def test_a_wrong_table_of_files_is_refused(
    folder: Path, tmp_path: Path, row: str, words: str
) -> None:
    first = "a,frontal,face,01_frontal_face.png"
    (tmp_path / "t.csv").write_text(f"person,view,kind,file\n{first}\n{row}\n")

    with pytest.raises(DataError, match=words):
        survey(folder, "csv", tmp_path / "t.csv")


def test_the_csv_layout_needs_its_table(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="columns person, view, kind and file"):
        survey(folder, "csv")
    (tmp_path / "t.csv").write_text("person,view,kind,file\na,f,face,gone.png\n")

    surveyed = survey(folder, "csv", tmp_path / "t.csv")

    assert any("no such file" in problem.message for problem in surveyed.errors)
    assert {one.reason for one in surveyed.unused} >= {"not in the table"}


def test_every_file_is_used_or_listed_with_a_reason(folder: Path) -> None:
    for name in (".DS_Store", "notes.txt", "no_extension", "sub/.x/1_f_face.png", "1_odd.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"nothing")
    (folder / "09_frontal_face.png").write_bytes(b"\x89PNG\r\n\x1a\n, and cut off")

    surveyed = survey(folder, "s2f")

    report = surveyed.report()
    listed = [one["source"] for one in (*report["used"], *report["unused"])]
    assert sorted(listed) == sorted(contents(folder))
    assert all(one["reason"] for one in report["unused"])
    assert {problem.check for problem in surveyed.errors} == {"name", "unreadable"}


def test_missing_mates_are_reported_both_ways(folder: Path) -> None:
    (folder / "02_lateral_face.png").unlink()
    (folder / "03_frontal_xray.png").unlink()

    surveyed = survey(folder, "s2f", size=64)

    messages = [one.message for one in surveyed.problems if one.check == "mates"]
    assert messages == [
        "1 views have a film but no face: p00002 lateral",
        "1 views have a face but no film: p00003 frontal",
    ]


def test_a_sound_folder_has_no_warning(folder: Path) -> None:
    assert problems(folder) == FINE


def test_sizes_are_reported(folder: Path, draw: Draw) -> None:
    imaging.write_png(folder / "01_frontal_face.png", draw("large", "face", size=1100))
    imaging.write_png(folder / "01_lateral_face.png", draw("small", "face", size=40))

    surveyed = survey(folder, "s2f", size=64)

    found = {problem.message: problem.level for problem in surveyed.problems}
    assert found["1 pictures have a side below 64 pixels, which training asks for"] == "warning"
    assert found["1 pictures are stored reduced to 1024 pixels a side"] == "note"
    assert any(message.startswith("pictures of kind face have 3 sizes") for message in found)


def test_large_pictures_are_reduced_in_proportion(
    folder: Path, draw: Draw, tmp_path: Path
) -> None:
    imaging.write_png(folder / "01_frontal_face.png", draw("large", "face", size=1200)[:600])

    make(folder, tmp_path / "data")

    shape = imaging.read_picture(tmp_path / "data/images/p00001/frontal_face.png").shape
    assert shape == (512, 1024, 3)


def test_an_inverted_film_is_reported(folder: Path, draw: Draw) -> None:
    imaging.write_png(folder / "01_frontal_xray.png", 255 - draw("1", "frontal", "xray"))

    assert problems(folder) == [("warning", "polarity"), *FINE]


def test_an_unreadable_file_stops(folder: Path, tmp_path: Path) -> None:
    path = folder / "01_frontal_xray.png"
    path.write_bytes(path.read_bytes()[:200])

    code, _, stderr = make(folder, tmp_path / "data")

    assert code == 3
    assert "01_frontal_xray.png" in stderr
    assert "nothing is written" in stderr
    assert not (tmp_path / "data").exists()


def test_a_film_that_shows_nothing_stops(folder: Path) -> None:
    imaging.write_png(folder / "01_frontal_xray.png", np.full((64, 64), 9, np.uint8))

    assert problems(folder)[0] == ("error", "unreadable")


def test_a_photograph_as_dicom_stops(folder: Path) -> None:
    (folder / "09_frontal_face.dcm").write_bytes(bytes(128) + b"DICM" + bytes(64))

    surveyed = survey(folder, "s2f")

    assert "give a photograph as PNG or JPEG" in surveyed.errors[0].message


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "same": lambda picture: picture,
    "half": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "larger": lambda picture: picture.resize((picture.width * 2, picture.height * 2)),
    "cropped": lambda picture: picture.crop(
        (4, 3, picture.width - 5, picture.height - 2)  # about 2 % a side
    ),
    "brighter": lambda picture: picture.point(lambda level: min(255, int(level * 1.15))),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["xray", "face"])
def test_a_copy_under_another_name_stops(
    folder: Path, draw: Draw, tmp_path: Path, change: str, kind: str
) -> None:
    picture = draw("someone", kind, size=192)
    imaging.write_png(folder / f"05_frontal_{kind}.png", picture)
    copy = CHANGES[change](Image.fromarray(picture))
    copy.save(folder / f"06_frontal_{kind}.jpg", quality=60)

    surveyed = survey(folder, "s2f")

    (error,) = surveyed.errors
    assert error.check == "two names"
    assert error.files == (f"05_frontal_{kind}.png", f"06_frontal_{kind}.jpg")
    with pytest.raises(DataError, match="p00005 and p00006"):
        prepare.write_dataset(surveyed, tmp_path / "data")


def test_the_same_file_twice_is_found_in_any_kind(folder: Path) -> None:
    shutil.copy(folder / "01_frontal_face.png", folder / "02_lateral_xray.png")
    shutil.copy(folder / "03_frontal_face.png", folder / "03_lateral_face.png")

    assert problems(folder)[:2] == [("error", "two names"), ("warning", "duplicate")]


def test_people_who_differ_in_case_stop(draw: Draw, tmp_path: Path) -> None:
    for person in ("Anna", "anna"):
        folder = tmp_path / "pairs" / person
        folder.mkdir(parents=True)
        imaging.write_png(folder / "frontal_face.png", draw(person, "face"))

    surveyed = survey(tmp_path / "pairs", "folders")

    assert [problem.message for problem in surveyed.errors] == [
        "Anna and anna differ in case only: rename"
    ]


def test_check_only_writes_nothing_and_prints_json(folder: Path) -> None:
    before = contents(folder.parent)

    result = runner.invoke(app, ["prepare", str(folder), "--check-only", "--json"])

    assert result.exit_code == 0
    assert json.loads(result.stdout)["schema"] == "fcr-prepare-report/1"
    assert "warning: 16 pictures have a side below 256" in result.stderr
    assert contents(folder.parent) == before


def test_an_output_folder_is_needed(folder: Path) -> None:
    result = runner.invoke(app, ["prepare", str(folder)])

    assert result.exit_code == 3
    assert "--check-only" in result.stderr


@pytest.mark.parametrize("where", ["pairs/data", "full"])
def test_a_folder_in_use_is_refused(folder: Path, where: str) -> None:
    out = folder.parent / where
    if where == "full":
        out.mkdir()
        (out / "mine.txt").touch()

    code, _, stderr = make(folder, out)

    assert code == 3
    assert "choose a" in stderr


def test_a_complete_dataset_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    make(folder, tmp_path / "data")
    before = contents(tmp_path / "data")

    code, _, stderr = make(folder, tmp_path / "data")

    assert code == 3
    assert "holds a dataset already" in stderr
    assert contents(tmp_path / "data") == before


def test_an_interrupted_prepare_reads_as_no_dataset_and_is_finished(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(folder, tmp_path / "whole", "--augment", "1")
    surveyed = survey(folder, "s2f")
    write, calls = prepare._write, []

    def interrupted(*arguments: object) -> dict[str, str]:
        calls.append(arguments)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.write_dataset(surveyed, tmp_path / "data", augment=1)
    monkeypatch.undo()

    with pytest.raises(DataError, match="cannot read"):
        read_dataset(tmp_path / "data")
    with pytest.raises(DataError, match="begun from something else"):
        prepare.write_dataset(surveyed, tmp_path / "data", augment=2)
    prepare.write_dataset(surveyed, tmp_path / "data", augment=1)
    assert contents(tmp_path / "data").keys() == contents(tmp_path / "whole").keys()
    assert (tmp_path / "data/images.csv").read_bytes() == (
        tmp_path / "whole/images.csv"
    ).read_bytes()


def test_a_picture_that_changed_meanwhile_is_refused(folder: Path, tmp_path: Path) -> None:
    surveyed = survey(folder, "s2f")
    shutil.copy(folder / "01_frontal_face.png", folder / "02_frontal_face.png")

    with pytest.raises(DataError, match="has changed since"):
        prepare.write_dataset(surveyed, tmp_path / "data")


def test_a_photograph_is_turned_and_loses_its_metadata(
    folder: Path, draw: Draw, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "Jane Doe"  # turn by 90 degrees clockwise; a description
    picture = Image.fromarray(draw("new", "face")[:40])
    (folder / "01_frontal_face.png").unlink()
    picture.save(folder / "01_frontal_face.jpg", exif=exif, quality=95)

    make(folder, tmp_path / "data")

    stored = tmp_path / "data/images/p00001/frontal_face.png"
    assert imaging.read_picture(stored).shape == (64, 40, 3)
    assert b"Jane" in (folder / "01_frontal_face.jpg").read_bytes()
    assert all(b"Jane" not in content for content in contents(tmp_path / "data").values())


def test_films_keep_sixteen_bits(folder: Path, draw: Draw, tmp_path: Path) -> None:
    deep = draw("1", "frontal", "xray").astype(np.uint16) * 200 + 3
    imaging.write_png(folder / "01_frontal_xray.png", deep)

    make(folder, tmp_path / "data", "--augment", "4")

    stored = tmp_path / "data/images/p00001"
    assert np.array_equal(imaging.read_picture(stored / "frontal_xray.png"), deep)
    for name in AUGMENTATIONS:
        assert imaging.read_picture(stored / f"frontal_xray_{name}.png").dtype == np.uint16


def test_a_film_of_twelve_bits_is_known_again(draw: Draw) -> None:
    film = draw("1", "frontal", "xray")

    prints = [fingerprint(film), fingerprint(film.astype(np.uint16) * 16)]

    assert find_copies(prints, "ab") == [(0, 1)]


def test_dicom_films_lose_the_patient(folder: Path, draw: Draw, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    (folder / "01_frontal_xray.png").unlink()
    values = draw("1", "frontal", "xray").astype(np.uint16)
    record = pydicom.Dataset()
    record.PatientName, record.Modality = "Doe^Jane", "DX"
    record.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    record.SOPInstanceUID = pydicom.uid.generate_uid()
    record.file_meta = pydicom.dataset.FileMetaDataset()
    record.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    record.set_pixel_data(255 - values, "MONOCHROME1", 8)
    record.save_as(folder / "01_frontal_xray", enforce_file_format=True)  # no ending

    code, _, stderr = make(folder, tmp_path / "data")

    assert code == 0, stderr
    stored = imaging.read_picture(tmp_path / "data/images/p00001/frontal_xray.png")
    span = (values - values.min()) / np.ptp(values) * 65535
    assert np.abs(stored - span).max() <= 1
    assert all(b"Doe" not in content for content in contents(tmp_path / "data").values())


def test_several_photographs_of_a_view_are_numbered(draw: Draw, tmp_path: Path) -> None:
    for person in ("anna", "ben"):
        (tmp_path / "pairs" / person).mkdir(parents=True)
        for name in ("frontal_face", "frontal_face_2", "frontal_xray"):
            picture = draw(person, name, name.split("_")[1])
            imaging.write_png(tmp_path / "pairs" / person / f"{name}.png", picture)

    make(tmp_path / "pairs", tmp_path / "data", "--layout", "folders")

    assert sorted(path.name for path in (tmp_path / "data/images/anna").iterdir()) == [
        "frontal_face_1.png",
        "frontal_face_2.png",
        "frontal_xray.png",
    ]


@pytest.fixture(scope="module")
def s2f_like(write_pairs: WritePairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty-one people, 102 pairs, with the four augmentations."""
    folder = tmp_path_factory.mktemp("s2f")
    write_pairs(folder / "pairs", 51, kinds=("skull", "face"))
    code, _, stderr = make(folder / "pairs", folder / "data", "--augment", "4")
    assert code == 0, stderr
    return folder / "data"


def test_82_training_pairs_become_410(s2f_like: Path) -> None:
    dataset = read_dataset(s2f_like)
    assert len(dataset.pairs()) == 102

    training, testing = divide(dataset, split_by_pair(dataset).fold(0).held_out)

    assert len(testing.pairs()) == 20
    assert len(training.pairs()) == 82
    for kind in ("skull", "face"):
        assert len(training.select(kind, training.names)) == 410  # type: ignore[arg-type]
        assert len(testing.select(kind, testing.names)) == 20  # type: ignore[arg-type]


@settings(max_examples=25)
@given(draws=st.data())
def test_augmented_pictures_never_show_who_is_held_out(
    s2f_like: Path, draws: st.DataObject
) -> None:
    dataset = read_dataset(s2f_like)
    pairs = draws.draw(st.sets(st.sampled_from(dataset.pairs()), min_size=1, max_size=100))

    training, testing = divide(dataset, pairs)

    assert not any(row.augmentation for row in testing.pictures)
    assert not testing.augmented
    assert not {row.pair for row in training.pictures} & pairs
    augmented = [row for row in training.pictures if row.augmentation]
    assert len(augmented) == 4 * (len(training.pictures) - len(augmented))
    assert len(training.pictures) + len(testing.pictures) + 4 * len(testing.pictures) == 1020


def test_augmented_pictures_are_of_no_use_but_in_training(s2f_like: Path) -> None:
    dataset = read_dataset(s2f_like)

    assert not any(row.augmentation for row in dataset.select("face", dataset.names))
    assert len(dataset.augmented) == 816
    assert {row.augmentation for row in dataset.augmented} == {*AUGMENTATIONS}


@pytest.mark.parametrize("name", ["flip", "rotation", "affine"])
def test_film_and_face_move_alike(draw: Draw, name: str) -> None:
    film = draw("pair", "xray", size=96)
    change = draw_change(name, 1, "p00001", "frontal")

    moved_film = apply_change(film, change, is_face=False)
    moved_face = apply_change(imaging.to_rgb(film), change, is_face=True)
    half = apply_change(imaging.resize(film, (48, 48)), change, is_face=False)

    inside = moved_film > 8  # outside the film is black, the face's edge goes on
    assert np.array_equal(moved_face[inside][:, 0], moved_film[inside])
    assert np.abs(moved_film.astype(int) - film).mean() > 1
    reduced = imaging.resize(moved_film, (48, 48)).astype(int)
    assert np.abs(reduced - half).mean() < 3


def test_a_flip_mirrors_and_twice_gives_back(draw: Draw) -> None:
    face, change = draw("a", "face"), draw_change("flip", 1, "p00001", "frontal")

    once = apply_change(face, change, is_face=True)

    assert np.array_equal(once, face[:, ::-1])
    assert np.array_equal(apply_change(once, change, is_face=True), face)


def test_jitter_keeps_places_and_a_films_black(draw: Draw) -> None:
    film = draw("a", "xray").copy()
    film[:8] = 0
    change = draw_change("jitter", 1, "p00001", "frontal")

    changed = apply_change(film, change, is_face=False)

    assert not changed[:8].any()
    assert not np.array_equal(changed, film)
    order = np.argsort(film.ravel(), kind="stable")
    assert (np.diff(changed.ravel()[order].astype(int)) >= 0).all()


@given(person=st.text(max_size=9))
def test_jitter_washes_no_bone_out(person: str) -> None:
    film = np.arange(256, dtype=np.uint8).reshape(16, 16)

    changed = apply_change(film, draw_change("jitter", 1, person, "frontal"), is_face=False)

    assert (changed == 255).sum() <= 1
    assert np.unique(changed).size > 150


@given(person=st.text(max_size=9), view=st.sampled_from(["frontal", "lateral"]))
def test_changes_stay_in_range_and_belong_to_the_pair(person: str, view: str) -> None:
    change = draw_change("affine", 3, person, view)

    assert np.array_equal(change.matrix, draw_change("affine", 3, person, view).matrix)
    assert not np.array_equal(change.matrix, draw_change("affine", 4, person, view).matrix)
    assert np.abs(change.shift).max() <= 0.05
    assert 0.9**2 - 1e-9 <= np.linalg.det(change.matrix) <= 1.1**2 + 1e-9


def test_more_than_four_augmentations_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 to 4"):
        prepare.write_dataset(survey(folder, "s2f"), tmp_path / "data", augment=5)


def test_a_table_may_begin_with_a_mark_of_byte_order(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("person,age\n1, 30 \n", encoding="utf-8-sig")

    assert read_table(tmp_path / "t.csv") == [{"person": "1", "age": "30"}]


def test_nothing_to_prepare_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no picture"):
        survey(tmp_path, "s2f")
    with pytest.raises(DataError, match="there is no folder"):
        survey(tmp_path / "gone", "s2f")


def test_real_faces_of_different_people_are_no_copies(orl_faces: Path) -> None:
    files = sorted(orl_faces.glob("s*/*.pgm"))
    prints = [fingerprint(imaging.read_picture(path)) for path in files]

    assert len(prints) == 400
    assert find_copies(prints, [path.parent.name for path in files]) == []


def test_planted_copies_of_real_faces_are_found(orl_faces: Path, tmp_path: Path) -> None:
    files = sorted(orl_faces.glob("s*/1.pgm"))
    prints = [fingerprint(imaging.read_picture(path)) for path in files]
    for place, change in enumerate(CHANGES.values()):
        picture = Image.open(files[place])
        change(picture).save(tmp_path / "copy.jpg", quality=60)
        copy = fingerprint(imaging.read_picture(tmp_path / "copy.jpg"))

        found = find_copies([*prints, copy], range(len(prints) + 1))

        assert found == [(place, len(prints))]


def test_real_films_are_neither_inverted_nor_copies(cephalograms: Path) -> None:
    films = [imaging.read_picture(path) for path in sorted(cephalograms.glob("*.jpg"))]

    assert not any(looks_inverted(film) for film in films)
    assert all(looks_inverted(255 - film) for film in films)
    assert find_copies([fingerprint(film) for film in films], range(len(films))) == []
