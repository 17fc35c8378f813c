from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError
from fcr_train import prepare, sheet
from fcr_train.cli import app
from fcr_train.dataset import Dataset, read_dataset
from fcr_train.survey import survey

runner = CliRunner()


@pytest.fixture(scope="module")
def folder(write_pairs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sheet")
    pairs = write_pairs(root / "pairs", 3, kinds=("xray", "skull", "face"))
    (pairs / "02_lateral_face.png").unlink()
    prepare.write_dataset(survey(pairs, "s2f"), root / "data")
    return root / "data"


def draw_sheet(dataset: Dataset, path: Path, **options: object) -> np.ndarray:
    sheet.write_sheet(dataset, path, **options)  # type: ignore[arg-type]
    return imaging.read_picture(path)


def cell(pixels: np.ndarray, row: int, left: int) -> np.ndarray:
    top = sheet._top(row)
    return pixels[top : top + sheet.CELL, left : left + sheet.CELL]


def test_each_person_has_a_row_of_their_pictures(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)

    pixels = draw_sheet(dataset, tmp_path / "sheet.png")

    lefts = sheet._place_columns(["frontal"] * 3 + ["lateral"] * 3)
    assert pixels.shape[:2] == (sheet._top(3) - sheet.GAP + sheet.MARGIN, 1116)
    columns = [(v, k) for v in ("frontal", "lateral") for k in ("xray", "skull", "face")]
    for row, person in enumerate(dataset.names):
        for left, (view, kind) in zip(lefts, columns, strict=True):
            shown = cell(pixels, row, left)
            path = folder / "images" / person / f"{view}_{kind}.png"
            if path.exists():
                picture = imaging.to_rgb(imaging.read_picture(path))
                assert np.array_equal(shown, imaging.resize(picture, (sheet.CELL, sheet.CELL)))
            else:
                assert (person, view, kind) == ("p00002", "lateral", "face")
                assert (shown == sheet.EMPTY).all()


def test_a_column_that_nobody_has_is_left_out(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)

    one = draw_sheet(dataset, tmp_path / "1.png", kinds=("bone", "face"), views=("frontal",))
    two = draw_sheet(dataset, tmp_path / "2.png", kinds=("face",), views=("frontal", "up"))

    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("generator", "grows"), [("fcr-simulate", True), ("fcr-prepare", False), ("unknown", False)]
)
def test_only_simulated_people_carry_the_notice(
    folder: Path, tmp_path: Path, generator: str, grows: bool
) -> None:
    dataset = replace(read_dataset(folder), generator=generator)

    pixels = draw_sheet(dataset, tmp_path / "sheet.png")

    plain = sheet._top(3) - sheet.GAP + sheet.MARGIN
    assert len(pixels) == plain + sheet.FOOTER * grows
    assert (b"simulated people" in (tmp_path / "sheet.png").read_bytes()) is grows


def test_films_as_they_arrive_can_be_shown(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)
    rough = tuple(replace(p, kind="field") for p in dataset.pictures if p.kind == "xray")

    pixels = draw_sheet(
        replace(dataset, pictures=rough), tmp_path / "sheet.png", kinds=("field",), people=1
    )

    assert cell(pixels, 0, sheet._place_columns(["frontal", "lateral"])[0]).std() > 20


def test_people_are_drawn_by_the_seed(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)
    drawn = [
        draw_sheet(dataset, tmp_path / "s.png", people=1, seed=seed).tobytes() for seed in range(6)
    ]

    assert len({*drawn}) == 3
    assert draw_sheet(dataset, tmp_path / "s.png", people=1, seed=0).tobytes() == drawn[0]


def test_long_names_and_unknown_ages_fit(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)
    people = tuple(replace(person, name="x" * 90) for person in dataset.people[:1])
    rows = tuple(replace(row, person="x" * 90) for row in dataset.pictures[:2])

    pixels = draw_sheet(replace(dataset, people=people, pictures=rows), tmp_path / "sheet.png")

    gutter = pixels[
        sheet._top(0) :, sheet.MARGIN + sheet.CAPTION - 2 : sheet._place_columns("f")[0]
    ]
    assert (gutter == sheet.BACKGROUND).all()


def test_pictures_of_any_shape_and_depth_are_shown_whole(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)
    path = tmp_path / "wide.png"
    imaging.write_png(path, np.full((50, 100), 40000, np.uint16))
    rows = (replace(dataset.pictures[0], path=path),)

    pixels = draw_sheet(replace(dataset, pictures=rows), tmp_path / "s.png", people=3)

    shown = cell(pixels, 0, sheet._place_columns(["frontal"])[0])
    assert (shown[40:120] == 255).all()
    assert (shown[:40] == sheet.EMPTY).all()


def test_what_cannot_be_shown_is_refused(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)

    with pytest.raises(ConfigError, match="'teeth' is unknown"):
        sheet.write_sheet(dataset, tmp_path / "s.png", kinds=("teeth",))
    with pytest.raises(DataError, match="frontal face"):
        sheet.write_sheet(dataset, tmp_path / "s.png", kinds=("bone",))
    assert not (tmp_path / "s.png").exists()


def test_the_command_writes_the_file_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    options = ["--people", "2", "--kinds", "face,xray", "--views", "lateral"]

    result = runner.invoke(app, ["gallery-sheet", str(folder), "-o", str(out), *options])

    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert imaging.read_picture(out).shape[1] == sheet._place_columns(["lateral"] * 2)[1] + 174
