from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_edge import Bundle, Gallery, Identifier, demo, imaging, photo, report
from fcr_edge.enroll import Enrolment, enroll
from fcr_edge.errors import BundleError, FilmError, GalleryError
from fcr_edge.gallery import Among, Person
from fcr_edge.identify import STAGES, demo_folder, find_bundle

if TYPE_CHECKING:
    from pathlib import Path

UNIT_TOLERANCE = 1e-5  # float32 rounding of a sum of a thousand squares
REAL_FILMS = 24
REAL_PEOPLE = 40


@pytest.fixture
def xray() -> Path:
    return demo.list_films()[0].xray


def test_enrolled_photo_is_most_similar_to_itself(
    identifier: Identifier, gallery_file: Path, people: list[Enrolment]
) -> None:
    face = photo.read_face(people[3].photos[0][0])

    with Gallery.open(gallery_file) as gallery:
        found = gallery.search(identifier.embed([face])[0], k=3)

    assert found.candidates[0].person == people[3].person
    assert found.candidates[0].similarity == pytest.approx(1, abs=1e-4)


def test_embeddings_are_unit_vectors_whoever_is_beside(
    identifier: Identifier, people: list[Enrolment]
) -> None:
    faces = [photo.read_face(item.photos[0][0]) for item in people[:3]]

    together, alone = identifier.embed(faces), identifier.embed(faces[1:2])

    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < UNIT_TOLERANCE
    assert np.array_equal(together[1], alone[0])


def test_every_person_is_ranked_once_by_falling_similarity(
    identifier: Identifier, gallery_file: Path, people: list[Enrolment], xray: Path
) -> None:
    with Gallery.open(gallery_file) as gallery:
        result = identifier.identify([xray], gallery, k=100)

    found = result.search.candidates
    similarities = [candidate.similarity for candidate in found]
    assert [candidate.rank for candidate in found] == list(range(1, len(people) + 1))
    assert {candidate.person.id for candidate in found} == {item.person.id for item in people}
    assert similarities == sorted(similarities, reverse=True)
    assert list(result.timings_ms) == list(STAGES)


def test_same_film_bundle_and_gallery_give_the_same_files(
    identifier: Identifier, gallery_file: Path, xray: Path, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        with Gallery.open(gallery_file) as gallery:
            result = identifier.identify([xray], gallery)
            report.write_report(result, gallery, tmp_path / folder)

    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["face.png", "film.png", "result.json", "result.png", "skull.png"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_report_says_what_it_is(
    identifier: Identifier, gallery_file: Path, xray: Path, tmp_path: Path
) -> None:
    with Gallery.open(gallery_file) as gallery:
        result = identifier.identify([xray], gallery, k=2)
        report.write_report(result, gallery, tmp_path, mate=result.search.candidates[1].person.id)

    record = json.loads((tmp_path / "result.json").read_text())
    face = imaging.read_picture(tmp_path / "face.png")
    made = result.reconstructions[0].face
    assert record["schema"] == "fcr-result/1"
    assert "not an identification" in record["notice"]
    assert record["films"][0]["film"]["container"] == "PNG"
    assert record["films"][0]["film"]["steps"][0] == "decoded: PNG"
    assert record["films"][0]["view"] == "frontal"
    assert record["fusion"] is None
    assert len(record["candidates"]) == 2
    assert any("simulated" in warning for warning in record["warnings"])
    assert np.array_equal(face[: len(made)], made)  # the pixels embedded, above the mark
    assert b"not a photograph" in (tmp_path / "face.png").read_bytes()
    picture = imaging.read_picture(tmp_path / "result.png")
    assert (picture == report.GREEN).all(axis=2).sum() > 1000  # the mate's frame


@pytest.mark.parametrize("lie", ["turned", "inverted", "mirrored and turned"])
def test_the_packaged_bundle_puts_a_film_right(
    identifier: Identifier, gallery_file: Path, tmp_path: Path, lie: str
) -> None:
    film = demo.list_films()[1].xray
    pixels = imaging.to_grey(imaging.read_picture(film))
    lies = {
        "turned": np.rot90(pixels),
        "inverted": 255 - pixels,
        "mirrored and turned": np.rot90(pixels[:, ::-1], 2),
    }
    imaging.write_png(tmp_path / "film.png", np.ascontiguousarray(lies[lie]))

    with Gallery.open(gallery_file) as gallery:
        right = identifier.identify([film], gallery)
        found = identifier.identify([tmp_path / "film.png"], gallery)

    understood = found.reconstructions[0].understood
    assert understood is not None
    assert (understood.view, understood.verdict) == ("lateral", "pass")
    assert understood.inverted == ("inverted" in lie)
    assert understood.mirrored == ("mirrored" in lie)
    assert understood.quarter_turns == {"turned": 1, "inverted": 0}.get(lie, 2)
    best, other = (result.search.candidates[0] for result in (right, found))
    assert best.person.id == other.person.id
    assert best.similarity == pytest.approx(other.similarity, abs=0.02)


def test_the_packaged_bundle_takes_no_photograph_for_a_film(identifier: Identifier) -> None:
    photographs = sorted((demo_folder() / "photos").glob("*.jpg"))[:20]
    refused = warned = 0

    for photograph in photographs:
        try:
            made = identifier.reconstruct(photograph)
        except FilmError as error:
            refused += "was refused" in str(error)
        else:
            warned += bool(made.warnings)

    assert refused + warned == len(photographs)
    assert refused > 0.8 * len(photographs)


def test_the_packaged_bundle_tells_two_films_apart(
    identifier: Identifier, gallery_file: Path
) -> None:
    front, side = (film.xray for film in demo.list_films()[:2])

    with Gallery.open(gallery_file) as gallery:
        result = identifier.identify([side, front], gallery)

    assert [made.view for made in result.reconstructions] == ["lateral", "frontal"]
    assert result.fusion is not None


def test_what_the_file_says_of_itself_is_warned_of(
    identifier: Identifier, gallery_file: Path, xray: Path, tmp_path: Path
) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) absent: skipped")
    levels = imaging.to_grey(imaging.read_picture(xray))
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    dataset.SOPInstanceUID, dataset.Modality, dataset.PatientName = "1.2.3", "CR", "Doe^Jane"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *levels.shape, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME1", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PresentationLUTShape, dataset.BurnedInAnnotation = "IDENTITY", "YES"
    dataset.PixelData = (255 - levels).tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "film.dcm", dataset, enforce_file_format=True)

    with Gallery.open(gallery_file) as gallery:
        result = identifier.identify([tmp_path / "film.dcm"], gallery)
        report.write_report(result, gallery, tmp_path / "out")

    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["films"][0]["film"]["polarity"] == "turned over"
    assert any("contradicts itself" in warning for warning in record["warnings"])
    assert any("burned into" in warning for warning in record["warnings"])
    assert "Doe" not in json.dumps(record)


def test_blank_film_is_refused_by_name(identifier: Identifier, tmp_path: Path) -> None:
    black = tmp_path / "black.png"
    imaging.write_png(black, np.zeros((300, 300), np.uint8))

    with pytest.raises(FilmError, match=r"black\.png"):
        identifier.reconstruct(black)


def test_gallery_of_another_embedder_is_refused(
    identifier: Identifier, tmp_path: Path, xray: Path
) -> None:
    with (
        Gallery.create(tmp_path / "db.bin", "0" * 64, 16) as gallery,
        pytest.raises(GalleryError, match="enroll again or pass the matching bundle"),
    ):
        identifier.identify([xray], gallery)


def test_unreadable_photo_is_reported_and_the_rest_enrolled(
    identifier: Identifier, people: list[Enrolment], tmp_path: Path
) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(people[0].photos[0][0].read_bytes()[:2000])
    items = [Enrolment(Person(id="torn"), ((torn, None),)), people[1]]
    dimension = identifier.bundle.manifest.embedder.output.dimension

    with Gallery.create(tmp_path / "db.bin", identifier.bundle.fingerprint, dimension) as gallery:
        told = enroll(items, gallery, identifier)
        enrolled = gallery.people()

    assert enrolled == [people[1].person]
    assert told.people == 1
    assert "torn.jpg" in told.refused[0]


def test_enrolling_again_changes_nothing(
    identifier: Identifier, people: list[Enrolment], tmp_path: Path
) -> None:
    dimension = identifier.bundle.manifest.embedder.output.dimension
    with Gallery.create(tmp_path / "db.bin", identifier.bundle.fingerprint, dimension) as gallery:
        enroll(people[:3], gallery, identifier)
        digest, generation = gallery.digest, gallery.generation

        enroll(people[:3], gallery, identifier)

        assert (gallery.digest, gallery.generation) == (digest, generation)


def test_bundle_is_found_by_the_gallery_s_fingerprint(
    identifier: Identifier, gallery_file: Path
) -> None:
    fingerprint = identifier.bundle.fingerprint

    assert find_bundle(fingerprint, gallery_file).folder == demo_folder() / "bundle"
    with pytest.raises(BundleError, match="--bundle"):
        find_bundle("0" * 64, gallery_file)


def test_other_bundles_beside_the_gallery_are_passed_over(
    identifier: Identifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}")
    shutil.copytree(demo_folder() / "bundle", tmp_path / "fitting")

    found = find_bundle(identifier.bundle.fingerprint, tmp_path / "db.bin")

    assert found.folder == tmp_path / "fitting"
    assert "passed over" in caplog.text


def test_fitting_bundle_that_is_not_whole_is_refused(
    identifier: Identifier, tmp_path: Path
) -> None:
    shutil.copytree(demo_folder() / "bundle", tmp_path / "fitting")
    (tmp_path / "fitting" / "translator.onnx").write_bytes(b"another translator")

    with pytest.raises(BundleError, match=r"translator\.onnx has 18 bytes"):
        find_bundle(identifier.bundle.fingerprint, tmp_path / "db.bin")


def test_demo_bundle_is_whole_and_small() -> None:
    size = sum(path.stat().st_size for path in demo_folder().rglob("*") if path.is_file())

    bundle = Bundle.load(demo_folder() / "bundle")

    assert size < 25e6
    assert bundle.manifest.name == "demo"
    for entry in bundle.manifest.models.values():
        assert entry.parity
        assert all(row.passed for row in entry.parity)


def test_real_films_and_faces_go_all_the_way(
    cephalograms: Path, orl_faces: Path, identifier: Identifier, tmp_path: Path
) -> None:
    people = [
        Enrolment(Person(id=folder.name), tuple((path, None) for path in sorted(folder.iterdir())))
        for folder in sorted(orl_faces.glob("s*"))
    ]
    films = sorted(cephalograms.glob("*.jpg"))
    dimension = identifier.bundle.manifest.embedder.output.dimension
    with Gallery.create(tmp_path / "db.bin", identifier.bundle.fingerprint, dimension) as gallery:
        enroll(people, gallery, identifier)

        results = [identifier.identify([film], gallery, k=REAL_PEOPLE) for film in films]

    assert len(results) == REAL_FILMS
    for result in results:
        made = result.reconstructions[0]
        assert len(result.search.candidates) == REAL_PEOPLE
        assert made.view == "lateral"
        assert 0.05 < (made.skull > 60).mean() < 0.65
        assert made.face.std() > 15  # a picture, not one colour


def make_empty(identifier: Identifier, path: Path) -> Gallery:
    manifest = identifier.bundle.manifest
    return Gallery.create(path, identifier.bundle.fingerprint, manifest.embedder.output.dimension)


def test_a_photo_that_is_known_is_not_read_again(
    identifier: Identifier,
    people: list[Enrolment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with make_empty(identifier, tmp_path / "db.bin") as gallery:
        first = enroll(people[:3], gallery, identifier)
        monkeypatch.setattr("fcr_edge.imaging.decode_picture", None)
        monkeypatch.setattr(identifier, "embed", None)

        again = enroll(people[:3], gallery, identifier)

    assert (first.added, again.added) == (first.photos, 0)
    assert (again.people, again.photos) == (first.people, first.photos)


def test_a_photo_of_two_people_is_pointed_out(
    identifier: Identifier, people: list[Enrolment], tmp_path: Path
) -> None:
    twin = Enrolment(Person(id="twin"), people[0].photos[:1])
    with make_empty(identifier, tmp_path / "db.bin") as gallery:
        told = enroll([people[0], twin], gallery, identifier)
        kept = gallery.people()

    (sentence,) = told.shared
    assert sentence.startswith(
        f"{people[0].photos[0][0].name} of twin is also enrolled for {people[0].person.id}"
    )
    assert len(kept) == 2, "an examiner decides who it is"


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        pytest.param(np.full((47, 300, 3), 90, np.uint8), "300 x 47 pixels", id="small"),
        pytest.param(np.full((300, 300, 3), 90, np.uint8), "next to nothing", id="blank"),
        pytest.param(np.eye(300, dtype=np.uint8) * 255, "black or white in 100%", id="burnt"),
    ],
)
def test_a_photo_that_shows_too_little_is_refused(
    identifier: Identifier, tmp_path: Path, picture: np.ndarray, reason: str
) -> None:
    imaging.write_png(tmp_path / "poor.png", picture)
    poor = Enrolment(Person(id="poor"), ((tmp_path / "poor.png", None),))

    with make_empty(identifier, tmp_path / "db.bin") as gallery:
        told = enroll([poor], gallery, identifier)
        assert gallery.people() == []

    (refusal,) = told.refused
    assert "poor.png" in refusal
    assert reason in refusal


def test_other_details_are_reported_and_taken_on_purpose_only(
    identifier: Identifier, people: list[Enrolment], tmp_path: Path
) -> None:
    changed = replace(people[0], person=replace(people[0].person, place="Harbour"))
    with make_empty(identifier, tmp_path / "db.bin") as gallery:
        enroll(people[:2], gallery, identifier)

        told = enroll([changed, people[2]], gallery, identifier)
        assert "now given 'Harbour'" in told.refused[0]
        assert "--update" in told.refused[0]
        assert told.people == 1
        assert gallery.person(people[0].person.id) == people[0].person

        told = enroll([changed], gallery, identifier, update=True)
        assert told.refused == ()
        assert (told.people, told.added) == (1, 0)
        assert gallery.person(people[0].person.id).place == "Harbour"


def test_quality_grows_with_size_and_contrast() -> None:
    noise = np.random.default_rng(1).normal(128, 20, (512, 512)).clip(1, 254).astype(np.uint8)

    whole, small, dull = (
        photo.assess(picture, "p") for picture in (noise, noise[:64, :64], noise // 2)
    )

    assert 0.5 < whole <= 1
    assert small == pytest.approx(whole / 4, rel=0.1)
    assert dull < 0.6 * whole


def test_a_search_that_cannot_be_logged_says_so(
    identifier: Identifier, people: list[Enrolment], xray: Path, tmp_path: Path
) -> None:
    with make_empty(identifier, tmp_path / "db.bin") as gallery:
        enroll(people[:3], gallery, identifier)
        logged = identifier.identify([xray], gallery)
        gallery._database.execute("PRAGMA query_only = ON")

        found = identifier.identify([xray], gallery)

        assert found.search == logged.search
        assert (
            [one for one in found.warnings if one not in logged.warnings]
            == [one for one in found.warnings if "this search is not in the gallery's log" in one]
            != []
        )
        assert [event.action for event in gallery.history()][3:] == ["search"]


def test_the_picture_says_that_people_were_left_out(
    identifier: Identifier, people: list[Enrolment], xray: Path, tmp_path: Path, monkeypatch
) -> None:
    drawn: list[str] = []
    draw = imaging.draw_text
    monkeypatch.setattr(
        imaging, "draw_text", lambda *args, **more: (drawn.append(args[1]), draw(*args, **more))
    )
    with make_empty(identifier, tmp_path / "db.bin") as gallery:
        enroll(people[:12], gallery, identifier)
        for among in (Among(), Among(sex="female", age=(20, 60))):
            drawn.clear()
            found = identifier.identify([xray], gallery, among=among)
            report.draw_result(found, gallery)
            told = " ".join(drawn)
            words = f"{found.search.people} people searched, {found.search.excluded} left out by:"
            assert (words in told) != among.everybody

    assert "female, aged 20 to 60 at death" in told
