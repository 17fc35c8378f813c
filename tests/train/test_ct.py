"""Head CTs: what is read, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from fcr_edge.errors import DataError
from fcr_train.simulate.ct import read_scan
from fcr_train.simulate.ct import scan as scan_module
from fcr_train.simulate.ct.reading import read_files
from fcr_train.simulate.ct.scan import Scan, orient
from fcr_train.simulate.ct.sidecar import natural_key
from fcr_train.simulate.person import Simulator, shared_simulator
from fcr_train.simulate.raster import fill_inside
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM
from fcr_train.simulate.warp import STRAIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fcr_train.simulate.shape import Surfaces

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
def surfaces(simulator: Simulator) -> Surfaces:
    return simulator.person(SEED, NUMBER)[1]


@pytest.fixture(scope="module")
def fine_hu(simulator: Simulator, surfaces: Surfaces) -> np.ndarray:
    """A simulated person's head in Hounsfield units on the reference grid."""
    head = simulator.anatomy.head
    skull = simulator.warp.skull(surfaces.bony, simulator.warp.field(surfaces.bony), STRAIGHT)
    return hounsfield(head, surfaces.skin, skull)


def hounsfield(head: Any, skin: np.ndarray, skull: Any) -> np.ndarray:
    closed = head.with_closed_mouth(skin)
    inside = fill_inside(closed, head.skin, ORIGIN, STEP_MM, SHAPE)
    inside |= fill_inside(closed, head.eyes, ORIGIN, STEP_MM, SHAPE)
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
