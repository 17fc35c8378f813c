"""The simulated dataset: same bytes however it is made, nothing lost, clear refusals."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcr_edge.errors import ConfigError, DataError
from fcr_edge.imaging import read_picture
from fcr_train.simulate import Plan, simulate
from fcr_train.simulate.dataset import MARK, shared_simulator
from fcr_train.simulate.exposure import BONE_FULL
from fcr_train.simulate.pictures import make_pictures
from fcr_train.simulate.plan import DEFAULT_KINDS, KINDS
from fcr_train.simulate.radiograph import VIEWS

SIZE = 64
PEOPLE = 2
PLAN = Plan(PEOPLE, portraits=1, size=SIZE)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def make(out: Path, workers: int = 1) -> None:
    simulate(out, PLAN, workers)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "one"
    make(out)
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_two_workers_make_the_same_bytes_as_one(dataset: Path, tmp_path: Path) -> None:
    make(tmp_path / "two", workers=2)

    assert contents(tmp_path / "two") == contents(dataset)


def test_an_interrupted_dataset_is_finished_to_the_same_bytes(
    dataset: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    picture = broken / "images" / "p00002" / "lateral_xray.png"
    picture.write_bytes(picture.read_bytes()[:100])
    for table in ("people.csv", "images.csv"):
        (broken / table).unlink()
    kept = (broken / "images" / "p00001" / "frontal_xray.png").stat().st_mtime_ns

    make(broken)

    assert contents(broken) == contents(dataset)
    assert (broken / "images" / "p00001" / "frontal_xray.png").stat().st_mtime_ns == kept


def test_a_finished_dataset_is_not_made_again(dataset: Path) -> None:
    calls: list[tuple[int, int]] = []

    simulate(dataset, PLAN, progress=lambda *done: calls.append(done))

    assert calls == [(PEOPLE, PEOPLE)]


def test_tables_list_every_person_and_picture(dataset: Path) -> None:
    people, images = rows(dataset / "people.csv"), rows(dataset / "images.csv")

    assert [row["person"] for row in people] == ["p00001", "p00002"]
    assert {row["sex"] for row in people} <= {"female", "male"}
    assert all(18 <= float(row["age"]) <= 35 and 17 <= float(row["bmi"]) <= 34 for row in people)
    assert sorted((row["view"], row["kind"]) for row in images if row["person"] == "p00001") == [
        (view, kind) for view in ("frontal", "lateral") for kind in sorted(DEFAULT_KINDS)
    ]
    on_disk = {name for name in contents(dataset) if name.endswith(".png")}
    assert {row["file"] for row in images} == on_disk
    assert json.loads((dataset / "dataset.json").read_text())["schema"] == "fcr-dataset/1"


def test_pictures_are_marked_synthetic_and_have_their_shapes(dataset: Path) -> None:
    for row in rows(dataset / "images.csv"):
        picture = read_picture(dataset / row["file"])
        assert picture.shape == ((SIZE, SIZE, 3) if row["kind"] == "face" else (SIZE, SIZE))
        assert MARK["Synthetic"].encode() in (dataset / row["file"]).read_bytes()


def pictures(plan: Plan, number: int = 1) -> dict[str, np.ndarray]:
    made = make_pictures(shared_simulator(), plan, number)
    return {picture.name: picture.pixels for picture in made.pictures}


@pytest.fixture(scope="module")
def everything() -> dict[str, np.ndarray]:
    return pictures(replace(PLAN, kinds=KINDS, portraits=2))


def test_another_seed_gives_other_pictures(everything: dict[str, np.ndarray]) -> None:
    other = pictures(replace(PLAN, seed=2))

    for name, pixels in other.items():
        assert (pixels != everything[name]).mean() > 0.05


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"kinds": ("face",)}, id="faces only"),
        pytest.param({"kinds": ("bone", "xray")}, id="films only, in another order"),
        pytest.param({"views": ("lateral",)}, id="one view"),
        pytest.param({"portraits": 1}, id="fewer portraits"),
        pytest.param({"first": 1, "people": 5}, id="more people"),
    ],
)
def test_asking_for_less_gives_the_same_pictures(
    everything: dict[str, np.ndarray], changes: dict[str, Any]
) -> None:
    for name, pixels in pictures(replace(PLAN, **changes)).items():
        np.testing.assert_array_equal(pixels, everything[name])


def test_lines_are_the_film_and_bone_shows_them_in_proportion(
    everything: dict[str, np.ndarray],
) -> None:
    for view in VIEWS:
        soft, bone = everything[f"{view}_lines.npy"]
        shown = everything[f"{view}_bone.png"] / 255

        assert min(soft.min(), bone.min()) >= 0
        np.testing.assert_allclose(shown, np.clip(bone / BONE_FULL, 0, 1), atol=0.51 / 255)


def test_skull_is_the_film_where_there_is_bone_and_black_elsewhere(
    everything: dict[str, np.ndarray],
) -> None:
    for view in VIEWS:
        skull, xray = everything[f"{view}_skull.png"], everything[f"{view}_xray.png"]
        bone = everything[f"{view}_lines.npy"][1]

        assert skull[0].max() == 0
        assert (skull > 0).sum() < 0.9 * (xray > 0).sum()
        dense = bone > 0.5
        assert (np.abs(skull[dense].astype(int) - xray[dense]) <= 2).mean() > 0.8


def test_films_of_16_bits_are_those_of_8(everything: dict[str, np.ndarray]) -> None:
    for name, pixels in pictures(replace(PLAN, bits=16, kinds=("xray", "skull"))).items():
        assert pixels.dtype == np.uint16
        assert np.abs(pixels / 65535 - everything[name] / 255).max() < 0.51 / 255


def test_landmarks_lie_on_the_film_and_bone_below_the_skin(dataset: Path) -> None:
    landmarks, depths = rows(dataset / "landmarks.csv"), rows(dataset / "depths.csv")

    places = {(r["person"], r["view"], r["landmark"], r["side"]): r for r in landmarks}
    nasion = places["p00001", "lateral", "nasion", "midline"]
    menton = places["p00001", "lateral", "menton", "midline"]
    pixel_mm = float(rows(dataset / "films.csv")[1]["pixel_mm"])
    apart = float(nasion["skin_column"]) - float(nasion["bone_column"])
    assert 2 < apart * pixel_mm < 15
    assert float(menton["skin_row"]) > float(nasion["skin_row"])
    assert len(landmarks) == 2 * len(depths)
    assert all(0 < float(r["target_mm"]) < 60 for r in depths)


def test_a_film_without_faces_and_faces_without_films_make_their_own_tables(
    tmp_path: Path,
) -> None:
    simulate(tmp_path / "faces", replace(PLAN, people=1, kinds=("face",)), workers=1)

    written = {path.name for path in (tmp_path / "faces").glob("*.csv")}
    assert written == {"people.csv", "images.csv", "portraits.csv"}
    assert {r["portrait"] for r in rows(tmp_path / "faces" / "images.csv")} == {"1"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param({"people": 0}, "people is 0", id="nobody"),
        pytest.param({"size": 100}, "size has 100", id="size"),
        pytest.param({"portraits": 0}, "portraits is 0", id="no portrait"),
        pytest.param({"first": 0}, "first is 0", id="person 0"),
        pytest.param({"seed": -1}, "seed is -1", id="negative seed"),
        pytest.param({"bits": 12}, "bits has 12", id="bits"),
        pytest.param({"kinds": ("xray", "mri")}, "kinds has 'mri'", id="kind"),
        pytest.param({"kinds": ()}, "kinds is ''", id="no kind"),
        pytest.param({"views": ("lateral", "lateral")}, "each one once", id="view twice"),
    ],
)
def test_a_value_out_of_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(**{"people": 2, **wrong})


def test_no_worker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers is 0"):
        simulate(tmp_path / "out", PLAN, workers=0)

    assert not (tmp_path / "out").exists()


def test_a_dataset_of_other_parameters_is_not_mixed_into(dataset: Path) -> None:
    with pytest.raises(DataError, match="other parameters"):
        simulate(dataset, replace(PLAN, seed=2))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"")

    with pytest.raises(DataError, match="holds files but no dataset"):
        simulate(tmp_path, PLAN)

    assert contents(tmp_path) == {"holiday.png": b""}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DataError, match="cannot be written"):
        simulate(tmp_path / "file" / "out", PLAN)


@pytest.mark.slow
def test_killing_the_whole_run_loses_nothing(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\nfrom fcr_train.simulate import Plan, simulate\n"
        "if __name__ == '__main__':\n"
        f"    out = Path({str(tmp_path / 'killed')!r})\n"
        f"    simulate(out, Plan(4, portraits=1, size={SIZE}), workers=1)\n"
    )
    (tmp_path / "run.py").write_text(script)
    run = subprocess.Popen([sys.executable, tmp_path / "run.py"])
    while not list((tmp_path / "killed").glob("records/*.json")):
        assert run.poll() is None
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()

    for out in ("killed", "whole"):
        simulate(tmp_path / out, replace(PLAN, people=4), workers=2)

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
