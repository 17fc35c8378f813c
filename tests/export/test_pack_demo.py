from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from export.pack_demo import pack_demo
from fcr_edge import imaging
from fcr_edge.enroll import list_people
from fcr_edge.errors import DataError
from fcr_edge.identify import demo_folder

PEOPLE = 9


def write_dataset(folder: Path) -> Path:
    rows = ["person,view,kind,file,sha256"]
    for number in range(1, PEOPLE + 1):
        person = f"p{number:05d}"
        (folder / "images" / person).mkdir(parents=True)
        for view in ("frontal", "lateral"):
            for name in ("xray", "face_1"):
                file = f"images/{person}/{view}_{name}.png"
                imaging.write_png(folder / file, np.full((8, 8), number, np.uint8))
                rows.append(f"{person},{view},{name.split('_')[0]},{file},")
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    people = [f"p{number:05d},female" for number in range(1, PEOPLE + 1)]
    (folder / "people.csv").write_text("\n".join(["person,sex", *people]) + "\n")
    return folder


def test_last_person_is_a_stranger_and_no_file_tells_who_is_on_it(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")

    pack_demo(data, demo_folder() / "bundle", tmp_path / "demo")

    people, _ = list_people(tmp_path / "demo" / "people.csv")
    with (tmp_path / "demo" / "xrays.csv").open(newline="") as file:
        films = list(csv.DictReader(file))
    mates = [film["person"] for film in films]
    assert len(people) == PEOPLE - 1
    assert mates[-1] == ""
    assert len({*mates[:-1]} & {item.person.id for item in people}) == 6
    assert not any(film["person"] and film["person"] in film["file"] for film in films)
    for film in films[:-1]:
        picture = imaging.read_picture(tmp_path / "demo" / film["file"])
        assert picture[0, 0] == int(film["person"][1:])  # the film is the mate's own


def test_dataset_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"people\.csv"):
        pack_demo(tmp_path, demo_folder() / "bundle", tmp_path / "demo")
