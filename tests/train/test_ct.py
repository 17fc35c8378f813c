"""Head CTs: what is read, what is refused, and that films, faces and templates are true."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from fcr_edge.errors import DataError
from fcr_train.simulate.ct import MARK, ScannedHead, read_scan
from fcr_train.simulate.ct import scan as scan_module
from fcr_train.simulate.ct.body import find_body
from fcr_train.simulate.ct.films import film_of_head, film_projection
from fcr_train.simulate.ct.head import UprightHead, upright_head
from fcr_train.simulate.ct.placement import Placement, place_head
from fcr_train.simulate.ct.reading import read_files
from fcr_train.simulate.ct.scan import Scan, orient
from fcr_train.simulate.ct.sidecar import natural_key
from fcr_train.simulate.ct.skin import face_surface
from fcr_train.simulate.ct.template import without_metal
from fcr_train.simulate.person import Simulator, Subject, shared_simulator
from fcr_train.simulate.radiograph import CENTRE, SOFT, VIEWS
from fcr_train.simulate.raster import fill_inside
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM
from fcr_train.simulate.traits import SkullTraits
from fcr_train.simulate.warp import STRAIGHT, Calibration, Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fcr_train.simulate.radiograph import View
    from fcr_train.simulate.shape import Surfaces
    from fcr_train.simulate.skull import Template

SEED = 3
NUMBER = 2
COARSE = 2
"""Every second voxel of the fine head: quick to write and to read."""
BONE_START_HU, BONE_PER_HU = 156.0, 0.060 / 1150
HEAD_BOTTOM = 32
"""Index of the lowest slice of most tests: below the chin, above the shoulders."""
SCAN_ORIGIN = np.array([ORIGIN[0], ORIGIN[1] + HEAD_BOTTOM * STEP_MM, ORIGIN[2]])
"""First voxel of the fine scan in the frame of the simulator [mm]."""
pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return shared_simulator()


@pytest.fixture(scope="module")
def subject(simulator: Simulator) -> Subject:
    return simulator.subject(SEED, NUMBER)


@pytest.fixture(scope="module")
def procedural(simulator: Simulator) -> Template:
    return simulator.skull_of(SkullTraits())[0]


@pytest.fixture(scope="module")
def surfaces(subject: Subject) -> Surfaces:
    return subject.surfaces


@pytest.fixture(scope="module")
def fine_hu(simulator: Simulator, subject: Subject) -> np.ndarray:
    """A simulated person's head in Hounsfield units on the reference grid."""
    head = simulator.anatomy.head
    bony = subject.surfaces.bony
    field = simulator.warp.field(bony, subject.calibration)
    skull = simulator.warp.skull(subject.template, bony, field, STRAIGHT)
    return hounsfield(head, subject.surfaces.skin, skull)


def hounsfield(head: Any, skin: np.ndarray, skull: Any) -> np.ndarray:
    inside = fill_inside(head.as_solid(skin), head.finer.triangles, ORIGIN, STEP_MM, SHAPE)
    inside = ndimage.binary_closing(inside, iterations=3) | inside
    hu = -1000 + 1050 * ndimage.gaussian_filter(inside.astype(np.float32), 0.5)
    start = (skull.grid.start - ORIGIN) / STEP_MM
    bone, air = (
        ndimage.shift(embedded(volume, start), start - np.floor(start), order=1)
        for volume in (skull.bone, skull.air)
    )
    hu = hu * (1 - air) - 1000 * air
    return np.round(np.where(bone > 1e-4, BONE_START_HU + bone / BONE_PER_HU, hu))


def embedded(volume: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Put a volume whose first voxel has index `start`, rounded down, into the reference grid."""
    out = np.zeros(SHAPE, np.float32)
    first = np.floor(start).astype(int)
    low = np.maximum(first, 0)
    high = np.minimum(first + volume.shape, SHAPE)
    part = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = volume[part]
    return out


@pytest.fixture(scope="module")
def scan(fine_hu: np.ndarray) -> Scan:
    hu = fine_hu[:, HEAD_BOTTOM:].astype(np.float32)
    return Scan(np.maximum(hu, -1024), (STEP_MM,) * 3, "simulated")


@pytest.fixture(scope="module")
def coarse(fine_hu: np.ndarray) -> Scan:
    hu = fine_hu[::COARSE, HEAD_BOTTOM::COARSE, ::COARSE].astype(np.float32)
    return Scan(np.maximum(hu, -1024), (COARSE * STEP_MM,) * 3, "simulated")


# Writers


def write_series(folder: Path, scan: Scan, **tags: Any) -> Path:
    """Write a scan as axial DICOM slices; a callable tag is given the slice's number."""
    folder.mkdir(parents=True, exist_ok=True)
    series = tags.pop("SeriesInstanceUID", pydicom.uid.generate_uid(entropy_srcs=["series"]))
    for k in range(scan.hu.shape[1]):
        dataset = slice_dataset(scan, k)
        dataset.SeriesInstanceUID = series
        for name, value in tags.items():
            setattr(dataset, name, value(k) if callable(value) else value)
        # File names in another order than the slices lie.
        dataset.save_as(folder / f"{(7 * k) % 211:03d}_{k}.dcm", enforce_file_format=True)
    return folder


def slice_dataset(scan: Scan, k: int) -> Any:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    uid = pydicom.uid.generate_uid(entropy_srcs=[str(k)])
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    x, y, z = scan.spacing_mm
    dataset.PixelSpacing = [z, x]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-100, -120, y * k]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    pixels = (scan.hu[:, k, ::-1].T + 1024).astype("<i2")
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    return dataset


def write_nifti(path: Path, scan: Scan) -> Path:
    x, y, z = scan.spacing_mm
    image = nibabel.Nifti1Image(
        scan.hu.transpose(0, 2, 1).astype(np.int16), np.diag([-x, z, y, 1.0])
    )
    nibabel.save(image, path)
    return path


SIDECAR: dict[str, Any] = {
    "files": '"slice_*.raw"',
    "type": '"int16"',
    "byte_order": '"big"',
    "axes": '["top to bottom", "front to back", "left to right"]',
    "intercept": "-1024",
}


def write_raw(folder: Path, scan: Scan, **changed: Any) -> Path:
    """Write big-endian slices from the top, and a sidecar with some lines changed."""
    stored = (scan.hu[::-1, ::-1, ::-1].transpose(1, 2, 0) + 1024).astype(">i2")
    for k, pixels in enumerate(stored):
        (folder / f"slice_{k}.raw").write_bytes(pixels.tobytes())
    x, y, z = scan.spacing_mm
    lines = {
        **SIDECAR,
        "shape": list(stored.shape),
        "spacing_mm": [y, z, x],
        **changed,
    }
    path = folder / "ct.toml"
    path.write_text("".join(f"{k} = {v}\n" for k, v in lines.items() if v is not None))
    return path


# Reading


def test_dicom_nifti_and_raw_give_the_same_scan(tmp_path: Path, coarse: Scan) -> None:
    sources = [
        write_series(tmp_path / "series", coarse),
        write_nifti(tmp_path / "head.nii.gz", coarse),
        write_raw(tmp_path, coarse),
    ]

    scans = [read_files(source) for source in sources]

    for read in scans:
        np.testing.assert_array_equal(read.hu, coarse.hu)
        assert read.spacing_mm == pytest.approx(coarse.spacing_mm)


def test_a_head_is_accepted_with_a_word_about_its_use(
    tmp_path: Path, coarse: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_nifti(tmp_path / "head.nii", coarse)

    scan = read_scan(path)

    assert scan.hu.shape == coarse.hu.shape
    assert [record.message for record in caplog.records] == [
        "head.nii: the scan must be yours to use: a face made from it shows a real person"
    ]


def test_fine_voxels_are_averaged(coarse: Scan) -> None:
    directions = np.eye(3)

    scan = orient(coarse.hu, directions, (0.35, 0.7, 0.5), "fine")

    assert scan.spacing_mm == pytest.approx((0.7, 0.7, 1.0))
    pair = (coarse.hu[20, 30, 0] + coarse.hu[21, 30, 0]) / 2
    other = (coarse.hu[20, 30, 1] + coarse.hu[21, 30, 1]) / 2
    assert scan.hu[10, 30, 0] == pytest.approx((pair + other) / 2)


def test_the_largest_series_is_read_and_named(
    tmp_path: Path, coarse: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "whole", coarse, SeriesDescription="head 3 mm")
    part = Scan(coarse.hu[:, :20] * 0, coarse.spacing_mm, "part")
    write_series(tmp_path / "part", part, SeriesInstanceUID="1.2.3", SeriesDescription="scout")

    scan = read_files(tmp_path)

    np.testing.assert_array_equal(scan.hu, coarse.hu)
    assert "2 series of" in caplog.text
    assert "head 3 mm" in caplog.text


def test_slices_are_sorted_by_the_numbers_in_their_names(tmp_path: Path) -> None:
    names = ["s10.raw", "s9.raw", "s1.raw"]

    ordered = sorted((tmp_path / name for name in names), key=natural_key)

    assert [path.name for path in ordered] == ["s1.raw", "s9.raw", "s10.raw"]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        pytest.param({"GantryDetectorTilt": 12.5}, "tilted by 12.5 degrees", id="tilt"),
        pytest.param(
            {"ImagePositionPatient": lambda k: [0, 0.4 * k, 3 * k]},
            "shifted by 7.6 degrees",
            id="sheared",
        ),
        pytest.param(
            {"ImagePositionPatient": lambda k: [0, 0, 3 * k + 3 * (k > 9)]},
            "3.00 to 6.00 mm apart",
            id="gap",
        ),
        pytest.param(
            {"ImagePositionPatient": lambda k: [0, 0, 3 * max(k, 1)]},
            "two slices at",
            id="double",
        ),
        pytest.param(
            {"ImageOrientationPatient": None}, "its orientation is unknown", id="no orientation"
        ),
        pytest.param({"NumberOfFrames": 4}, "several frames", id="multi-frame"),
        pytest.param({"Modality": "MR"}, "no CT images but MR", id="not CT"),
        pytest.param(
            {"SOPInstanceUID": "1.3.6.1.4.1.14519.5.2.1.7.8"},
            "TCIA's terms forbid making faces",
            id="TCIA identifier",
        ),
        pytest.param(
            {"ClinicalTrialSponsorName": "TCIA"}, "TCIA's terms forbid", id="TCIA sponsor"
        ),
    ],
)
def test_a_series_that_cannot_be_used_is_refused(
    tmp_path: Path, coarse: Scan, tags: Mapping[str, Any], message: str
) -> None:
    few = Scan(coarse.hu[:, :20], coarse.spacing_mm, "few")
    folder = write_series(tmp_path / "series", few, **tags)

    with pytest.raises(DataError, match=message):
        read_files(folder)


def test_a_private_collection_tag_of_the_archive_is_refused(tmp_path: Path, coarse: Scan) -> None:
    dataset = slice_dataset(coarse, 0)
    dataset.private_block(0x0013, "CTP", create=True).add_new(0x10, "LO", "HNSCC")
    dataset.save_as(tmp_path / "one.dcm", enforce_file_format=True)

    with pytest.raises(DataError, match="collection 'HNSCC'"):
        read_files(tmp_path)


def test_a_folder_named_after_the_archive_is_refused(tmp_path: Path, coarse: Scan) -> None:
    (tmp_path / "TCIA").mkdir()
    path = write_nifti(tmp_path / "TCIA" / "head.nii", coarse)

    with pytest.raises(DataError, match="TCIA's terms forbid"):
        read_scan(path)


def test_a_single_slice_is_refused(tmp_path: Path, coarse: Scan) -> None:
    slice_dataset(coarse, 0).save_as(tmp_path / "one.dcm", enforce_file_format=True)

    with pytest.raises(DataError, match="give the folder of the whole series"):
        read_files(tmp_path / "one.dcm")


def test_a_nifti_without_orientation_is_refused(tmp_path: Path, coarse: Scan) -> None:
    image = nibabel.Nifti1Image(coarse.hu.astype(np.int16), None)
    image.header.set_zooms(coarse.spacing_mm)
    nibabel.save(image, tmp_path / "head.nii")

    with pytest.raises(DataError, match="does not say how it is oriented"):
        read_files(tmp_path / "head.nii")


def test_a_sheared_nifti_is_refused(tmp_path: Path, coarse: Scan) -> None:
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[1, 2] = 0.5
    nibabel.save(nibabel.Nifti1Image(coarse.hu.astype(np.int16), affine), tmp_path / "head.nii")

    with pytest.raises(DataError, match="gantry tilted"):
        read_files(tmp_path / "head.nii")


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz", "head.dcm", "head.img"])
def test_a_damaged_file_is_refused_with_advice(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\0" * 128 + b"DICM" * name.endswith("dcm") + b"\x05" * 400)

    with pytest.raises(DataError):
        read_files(path)


def test_raw_files_without_a_sidecar_show_the_lines_to_write(tmp_path: Path) -> None:
    (tmp_path / "head.raw").write_bytes(b"\0" * 100)

    for path in (tmp_path, tmp_path / "head.raw"):
        with pytest.raises(DataError, match=r"ct\.toml(.|\n)*spacing_mm = (.|\n)*axes = "):
            read_files(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"axes": '["left to right", "up", "x"]'}, "give three of", id="axes"),
        pytest.param(
            {"axes": '["left to right", "right to left", "top to bottom"]'},
            "one along each axis",
            id="axis twice",
        ),
        pytest.param({"type": '"int12"'}, "type = 'int12': give one of uint8", id="type"),
        pytest.param({"files": '"../x"'}, "give a file name", id="files"),
        pytest.param({"shape": [93, 64]}, "give three counts", id="shape"),
        pytest.param({"shape": [84, 99, 71]}, "correct", id="count"),
        pytest.param({"type": '"uint8"'}, "bytes instead of", id="size"),
        pytest.param({"spacing_mm": [3.0, 3.0, 9.0]}, "0.05 to 5 mm", id="coarse"),
        pytest.param({"spacing_mm": None}, "no spacing_mm", id="missing key"),
        pytest.param({"gain": 2}, "unknown gain", id="unknown key"),
    ],
)
def test_a_wrong_sidecar_says_which_line(
    tmp_path: Path, coarse: Scan, changed: Mapping[str, Any], message: str
) -> None:
    path = write_raw(tmp_path, coarse, **changed)

    with pytest.raises(DataError, match=message):
        read_files(path)


def test_a_volume_too_large_to_hold_is_refused(
    tmp_path: Path, coarse: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "MAX_VOXELS", 1000)

    with pytest.raises(DataError, match="more than 1000: cut it to the head"):
        read_files(write_nifti(tmp_path / "head.nii", coarse))


# Checks of what the scan shows


def sphere(radius_mm: float) -> np.ndarray:
    axis = 3.0 * (np.arange(90) - 44.5)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.sqrt(x**2 + y**2 + z**2) < radius_mm


def phantom(_: np.ndarray) -> np.ndarray:
    """A bone shell full of water."""
    hu = np.where(sphere(90), 0, -1000)
    return np.where(sphere(80) & ~sphere(74), 1200, hu)


def hollow_phantom(_: np.ndarray) -> np.ndarray:
    """The same with a hole of air: no face on it."""
    hu = phantom(_)
    return np.where(np.roll(sphere(14), 8, 2), -1000, hu)


def leg(_: np.ndarray) -> np.ndarray:
    axis = 3.0 * (np.arange(90) - 44.5)
    radius = np.hypot(axis[:, None], axis[None])[:, None, :]
    hu = np.where(radius < 70, 40, -1000) + np.zeros((1, 90, 1))
    return np.where((radius < 22) & (radius > 12), 1300, hu)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda hu: np.minimum(hu, 120), "0 cm3 of bone", id="no bone"),
        pytest.param(phantom, "of air inside", id="phantom"),
        pytest.param(leg, "shows no head", id="leg"),
        pytest.param(
            lambda hu: np.clip((hu + 1000) / 10, 0, 255), "which are no Hounsfield", id="8 bit"
        ),
        pytest.param(lambda hu: hu[..., :-12], "touches the front .* over", id="face cut"),
        pytest.param(lambda hu: hu[16:], "touches the right side", id="side cut"),
    ],
)
def test_what_is_no_whole_head_is_refused(
    tmp_path: Path, coarse: Scan, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    changed = Scan(change(coarse.hu).astype(np.float32), coarse.spacing_mm, "changed")

    with pytest.raises(DataError, match=message):
        read_scan(write_nifti(tmp_path / "head.nii", changed))


def test_a_missing_vault_is_a_warning(
    tmp_path: Path, coarse: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    cut = Scan(coarse.hu[:, :60], coarse.spacing_mm, "cut")

    read_scan(write_nifti(tmp_path / "head.nii", cut))

    assert "top of the head is missing" in caplog.text
    assert "procedural vault" in caplog.text


def test_table_headrest_and_tube_are_no_part_of_the_body(coarse: Scan) -> None:
    body = find_body(coarse)
    hu = coarse.hu.copy()
    hu[6:-6, :, 1:3] = 150
    hu[34:37, 10:30, -3:] = 300

    furnished = find_body(Scan(hu, coarse.spacing_mm, "furnished"))

    assert (furnished.hu > -500).sum() > 1.05 * (body.hu > -500).sum()
    assert (furnished.tissue ^ body.tissue).sum() < 0.002 * body.tissue.sum()


# Films


def in_air(shape: tuple[int, int, int], step: float, hu: np.ndarray) -> UprightHead:
    """A head of any content, its middle in the middle of the film."""
    half = step * (np.array(shape) - 1) / 2
    grid = Grid(np.array(CENTRE) - half, step, shape)
    return UprightHead(grid, hu.astype(np.float32), hu > -500, step / 2)


@pytest.mark.parametrize("view", VIEWS)
def test_a_parallel_beam_through_water_and_bone_is_as_the_formula_says(view: View) -> None:
    axis = np.arange(-60.0, 61.0)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    water = np.clip(50.5 - radius, 0, 1) * 1000 - 1000
    bone = np.abs(axis) <= 4.5
    plate = np.where(bone[:, None, None] | bone, 1306.0, water) * (radius < 40)
    plate = np.where(radius < 40, plate, water)

    ball = film_of_head(in_air((121,) * 3, 1.0, water), film_projection(view, 256, "parallel"))
    plated = film_of_head(in_air((121,) * 3, 1.0, plate), film_projection(view, 256, "parallel"))

    across, up = film_projection(view, 256, "parallel").offsets()
    square = across[None] ** 2 + up[:, None] ** 2
    chord = 2 * np.sqrt(np.maximum(50**2 - square, 0))
    expected = SOFT * 1000 / 1050 * chord
    inside = square < 45**2
    np.testing.assert_allclose(ball.soft[inside], expected[inside], rtol=0.005)
    assert ball.bone.max() == 0
    # Nine voxels of 1 mm of cortical bone, across the beam.
    assert plated.bone[128, 128 + 20] == pytest.approx(9 * 0.060, rel=0.005)
    assert plated.soft.max() > ball.soft.max()


def test_a_parallel_beam_magnifies_nothing_and_a_divergent_one_does() -> None:
    hu = np.full((121, 121, 121), -1000.0)
    hu[100, 60, 20] = 2000
    head = in_air((121,) * 3, 1.0, hu)
    columns = np.arange(512)

    places = {}
    for beam in ("parallel", "divergent"):
        seen = film_of_head(head, film_projection("frontal", 512, beam)).bone
        places[beam] = ((seen.sum(0) * columns).sum() / seen.sum() - 255.5) * 281.6 / 512

    assert places["parallel"] == pytest.approx(40, abs=0.06)
    assert places["divergent"] == pytest.approx(40 * 1600 / 1560, abs=0.06)


@pytest.fixture(scope="module")
def scanned(scan: Scan, simulator: Simulator) -> ScannedHead:
    return ScannedHead(scan, simulator.anatomy)


@pytest.fixture(scope="module")
def as_simulated(scanned: ScannedHead) -> UprightHead:
    """The head exactly where the simulator put it, not where it is found to be upright."""
    placement = Placement(np.eye(3), 1.0, -SCAN_ORIGIN)
    return upright_head(scanned.scan, scanned.registration.body, placement)


@pytest.mark.parametrize("view", VIEWS)
def test_films_of_a_scan_are_those_of_the_person_scanned(
    as_simulated: UprightHead, simulator: Simulator, subject: Subject, view: View
) -> None:
    truth = simulator.films(subject, {view: STRAIGHT}, 128)[view]

    film = film_of_head(as_simulated, film_projection(view, 128, "divergent"))

    np.testing.assert_allclose(film.full, film.soft + film.bone, rtol=1e-6)
    assert film.soft.min() >= 0
    # Of the face and brain case: the bones of the simulated neck reach below the scan.
    upper = slice(0, 80)
    bone = truth.bone / subject.person.bone_density
    for seen, true in ((film.bone, bone), (film.full, truth.soft + bone)):
        assert np.corrcoef(seen[upper].ravel(), true[upper].ravel())[0, 1] > 0.98
    assert film.bone[upper].sum() == pytest.approx(bone[upper].sum(), rel=0.05)


def test_pictures_repeat_and_are_films_and_faces_of_both_views(scanned: ScannedHead) -> None:
    pictures = list(scanned.pictures(64))
    again = list(scanned.pictures(64, views=("lateral",)))

    names = [picture.name for picture in pictures]
    assert names == [f"{v}_{k}.png" for v in VIEWS for k in ("xray", "skull", "bone", "face")]
    for one, other in zip(pictures[4:], again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.pixels.std() > 20
    assert "real person" in MARK["CT"]


# Skin, registration and template


@pytest.fixture(scope="module")
def template(scanned: ScannedHead, procedural: Template) -> Template:
    return scanned.template(procedural)


def true_skin(scanned: ScannedHead, surfaces: Surfaces) -> np.ndarray:
    """The simulated skin where the scan has it, in the upright frame."""
    return scanned.registration.placement.from_scan(surfaces.skin - SCAN_ORIGIN)


def test_skin_of_a_scan_is_within_a_voxel_of_the_truth(
    scanned: ScannedHead, simulator: Simulator, surfaces: Surfaces
) -> None:
    surface = face_surface(scanned.upright)

    # What was scanned is the rounded surface; its first vertices are those of the skin.
    solid = replace(surfaces, skin=simulator.anatomy.head.as_solid(surfaces.skin))
    truth = true_skin(scanned, solid)[simulator.anatomy.control]
    near = cKDTree(surface.points).query(truth)[1]
    distance = np.abs(((truth - surface.points[near]) * surface.normals[near]).sum(1))
    shown = simulator.anatomy.reference[simulator.anatomy.control, 1] > -115
    # Nostrils, the slit of the mouth and the folds behind the ears are closed.
    assert np.median(distance[shown]) < 0.3 * STEP_MM
    assert np.percentile(distance[shown], 90) < STEP_MM


def test_surface_normals_point_outwards(scanned: ScannedHead) -> None:
    surface = face_surface(scanned.upright)

    outward = ((surface.points - surface.points.mean(0)) * surface.normals).sum(1)

    assert (outward > 0).mean() > 0.9
    corners = surface.points[surface.triangles]
    turned = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert abs((turned * surface.normals[surface.triangles[:, 0]]).sum(1).mean()) > 0


def test_registration_finds_each_part_of_another_head(
    scanned: ScannedHead, simulator: Simulator, surfaces: Surfaces
) -> None:
    registration = scanned.registration

    truth = true_skin(scanned, surfaces)[simulator.anatomy.control]
    error = np.linalg.norm(registration.head - truth, axis=1)
    assert registration.residual_mm < 1
    # Elsewhere the skin has no features: it lies on that of the scan, but may slide along it.
    assert np.median(error[simulator.anatomy.head.masks["face"][simulator.anatomy.control]]) < 4
    assert {"nose tip", "chin", "left ear", "right ear"} <= set(registration.landmarks)
    assert registration.missing_top_mm == 0


def test_a_turned_head_is_found(scan: Scan, scanned: ScannedHead, simulator: Simulator) -> None:
    turned = ndimage.rotate(scan.hu, 15, (1, 2), reshape=False, order=1, cval=-1000)
    body = find_body(Scan(turned, scan.spacing_mm, "turned"))

    placement, _ = place_head(body, simulator.anatomy, "turned")

    turn = scanned.registration.placement.rotation.T @ placement.rotation
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(15, abs=1)


def test_a_hollow_phantom_has_no_face(simulator: Simulator) -> None:
    scan = Scan(hollow_phantom(np.empty(0)).astype(np.float32), (3.0,) * 3, "phantom")

    with pytest.raises(DataError, match="phantom shows no face"):
        ScannedHead(scan, simulator.anatomy)


def test_a_scan_that_ends_above_the_chin_is_refused(scan: Scan, simulator: Simulator) -> None:
    cut = Scan(scan.hu[:, 37:], scan.spacing_mm, "cut")

    with pytest.raises(DataError, match=r"it ends about \d+ mm above the lower edge"):
        ScannedHead(cut, simulator.anatomy)


def test_calibration_brings_a_scan_template_to_the_mean_depths(
    template: Template, procedural: Template, simulator: Simulator
) -> None:
    anatomy = simulator.anatomy

    raw, calibrated = (Calibration(anatomy, template, rounds=n) for n in (0, 6))
    before, after = (
        np.abs(c.template_depths(template) - anatomy.table.mean) for c in (raw, calibrated)
    )
    testable = ~np.isin(anatomy.table.names, ("rhinion", "alare curvature"))
    assert np.isfinite(after[testable]).mean() > 0.9
    assert np.median(after[testable]) < 0.5 * np.median(before[testable])
    assert template.bone.shape == procedural.bone.shape
    assert template.bone.dtype == np.float32
    assert 0 <= template.bone.min() <= template.bone.max() < 0.17
    assert 0 <= template.air.min() <= template.air.max() <= 1


def test_metal_at_the_teeth_gives_way_to_procedural_teeth(
    procedural: Template, caplog: pytest.LogCaptureFixture
) -> None:
    x, y, z = (start + STEP_MM * np.arange(n) for start, n in zip(ORIGIN, SHAPE, strict=True))
    bone = np.full(SHAPE, 0.01, np.float32)
    hu = np.full(SHAPE, 40.0, np.float32)
    filling = np.ix_(np.abs(x + 22) < 4, np.abs(y + 70) < 3, np.abs(z - 8) < 4)

    clean = without_metal(bone.copy(), hu, procedural)
    hu[filling], bone[filling] = 8000, 0.16
    repaired = without_metal(bone, hu, procedural)

    assert np.ptp(clean) == 0
    assert "mm3 of metal at the teeth" in caplog.text
    bite, front, above = (y > -76) & (y < -65), z > -20, y > -20
    np.testing.assert_allclose(
        repaired[:, bite][:, :, front], procedural.bone[:, bite][:, :, front], atol=0.01
    )
    np.testing.assert_allclose(repaired[:, above], clean[:, above])


def test_a_cut_vault_is_completed(
    scan: Scan, template: Template, procedural: Template, simulator: Simulator
) -> None:
    cut = Scan(scan.hu[:, :114], scan.spacing_mm, "cut")

    other = ScannedHead(cut, simulator.anatomy)

    completed = other.template(procedural)
    top = ORIGIN[1] + STEP_MM * np.arange(SHAPE[1]) > 80
    assert other.registration.missing_top_mm > 20
    np.testing.assert_allclose(completed.bone[:, top], procedural.bone[:, top], atol=1e-6)
    assert completed.bone[:, top].sum() == pytest.approx(template.bone[:, top].sum(), rel=0.25)


def test_a_real_head_without_vault_becomes_films_a_face_and_a_template(
    headsq_ct: Path, simulator: Simulator, procedural: Template, caplog: pytest.LogCaptureFixture
) -> None:
    scan = read_scan(headsq_ct)
    head = ScannedHead(scan, simulator.anatomy)

    assert "the top of the head is missing" in caplog.text
    assert head.registration.residual_mm < 2
    assert head.registration.missing_top_mm > 50
    pictures = list(head.pictures(128))
    assert len(pictures) == 8
    assert all(picture.pixels.std() > 20 for picture in pictures)
    template = head.template(procedural)
    calibration = Calibration(simulator.anatomy, template)
    depths = calibration.template_depths(template)
    assert np.isfinite(depths).mean() > 0.8
