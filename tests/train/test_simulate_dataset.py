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
from pathlib import Path

import pytest

from fcr_edge.errors import ConfigError, DataError
from fcr_edge.imaging import read_picture
from fcr_train.simulate import simulate
from fcr_train.simulate.dataset import MARK
from fcr_train.simulate.person import shared_simulator

SIZE = 64
PEOPLE = 2


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def make(out: Path, workers: int = 1) -> None:
    simulate(out, people=PEOPLE, seed=1, workers=workers, portraits=1, size=SIZE)


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

    simulate(dataset, PEOPLE, portraits=1, size=SIZE, progress=lambda *done: calls.append(done))

    assert calls == [(PEOPLE, PEOPLE)]


def test_tables_list_every_person_and_picture(dataset: Path) -> None:
    people, images = rows(dataset / "people.csv"), rows(dataset / "images.csv")

    assert [row["person"] for row in people] == ["p00001", "p00002"]
    assert {row["sex"] for row in people} <= {"female", "male"}
    assert all(18 <= float(row["age"]) <= 35 and 17 <= float(row["bmi"]) <= 34 for row in people)
    assert sorted((row["view"], row["kind"]) for row in images if row["person"] == "p00001") == [
        (view, kind) for view in ("frontal", "lateral") for kind in ("bone", "face", "xray")
    ]
    on_disk = {name for name in contents(dataset) if name.endswith(".png")}
    assert {row["file"] for row in images} == on_disk
    assert json.loads((dataset / "dataset.json").read_text())["schema"] == "fcr-dataset/1"


def test_pictures_are_marked_synthetic_and_have_their_shapes(dataset: Path) -> None:
    for row in rows(dataset / "images.csv"):
        picture = read_picture(dataset / row["file"])
        assert picture.shape == ((SIZE, SIZE, 3) if row["kind"] == "face" else (SIZE, SIZE))
        assert MARK["Synthetic"].encode() in (dataset / row["file"]).read_bytes()


def test_another_seed_gives_other_pictures(dataset: Path) -> None:
    other = next(shared_simulator().pictures(seed=2, number=1, portraits=1, size=SIZE))

    same_name = read_picture(dataset / "images" / "p00001" / other.name)
    assert (other.pixels != same_name).mean() > 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param({"people": 0}, "people is 0", id="nobody"),
        pytest.param({"people": 2, "size": 100}, "size is 100", id="size"),
        pytest.param({"people": 2, "portraits": 0}, "portraits is 0", id="no portrait"),
        pytest.param({"people": 2, "first": 0}, "first is 0", id="person 0"),
        pytest.param({"people": 2, "seed": -1}, "seed is -1", id="negative seed"),
        pytest.param({"people": 2, "workers": 0}, "workers is 0", id="no worker"),
    ],
)
def test_a_value_out_of_range_is_refused(
    tmp_path: Path, wrong: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate(tmp_path / "out", **wrong)

    assert not (tmp_path / "out").exists()


def test_a_dataset_of_other_parameters_is_not_mixed_into(dataset: Path) -> None:
    with pytest.raises(DataError, match="other parameters"):
        simulate(dataset, PEOPLE, seed=2, portraits=1, size=SIZE)


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"")

    with pytest.raises(DataError, match="holds files but no dataset"):
        simulate(tmp_path, PEOPLE)

    assert contents(tmp_path) == {"holiday.png": b""}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DataError, match="cannot be written"):
        simulate(tmp_path / "file" / "out", PEOPLE)


@pytest.mark.slow
def test_killing_the_whole_run_loses_nothing(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\nfrom fcr_train.simulate import simulate\n"
        "if __name__ == '__main__':\n"
        f"    out = Path({str(tmp_path / 'killed')!r})\n"
        f"    simulate(out, 4, workers=1, portraits=1, size={SIZE})\n"
    )
    (tmp_path / "run.py").write_text(script)
    run = subprocess.Popen([sys.executable, tmp_path / "run.py"])
    while not list((tmp_path / "killed").glob("records/*.json")):
        assert run.poll() is None
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()

    for out in ("killed", "whole"):
        simulate(tmp_path / out, 4, workers=2, portraits=1, size=SIZE)

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
