from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_edge import imaging
from fcr_edge.enroll import list_people
from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def write_photo(path: Path, level: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    imaging.write_png(path, np.full((40, 30, 3), level, np.uint8))


def test_folder_holds_a_folder_or_a_picture_a_person(tmp_path: Path) -> None:
    write_photo(tmp_path / "anna" / "1.png")
    write_photo(tmp_path / "anna" / "2.png")
    write_photo(tmp_path / "ben.png")
    (tmp_path / "README").write_text("not a photograph")

    people, skipped = list_people(tmp_path)

    assert [(p.person.id, len(p.photos)) for p in people] == [("anna", 2), ("ben", 1)]
    assert skipped == [tmp_path / "README"]


def test_table_gives_details_and_views(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(
        "person,file,name,sex,birth_year,view\n"
        "a1,x/1.png,Anna,female,1990,frontal\n"
        "a1,x/2.png,Anna,female,1990,lateral\n"
        "b2,b.png,,,,\n"
    )

    people, _ = list_people(tmp_path / "people.csv")

    anna, ben = people
    assert (anna.person.name, anna.person.sex, anna.person.birth_year) == ("Anna", "female", 1990)
    assert anna.photos == ((tmp_path / "x/1.png", "frontal"), (tmp_path / "x/2.png", "lateral"))
    assert (ben.person.sex, ben.photos[0][1]) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("name,file\n", "lacks the column person", id="missing column"),
        pytest.param("person,file,age\n", "unknown column age", id="unknown column"),
        pytest.param("person,file\n", "holds no photograph", id="nobody"),
        pytest.param("person,file\na,\n", "line 2: the file is missing", id="no file"),
        pytest.param("person,file,sex\na,1.png,x\n", "line 2: 'x' is not one of", id="sex"),
        pytest.param("person,file,birth_year\na,1.png,old\n", "line 2", id="year"),
        pytest.param("person,file,birth_year\na,1.png,1990-1980\n", "line 2", id="years"),
        pytest.param("person,file,height_cm\na,1.png,tall\n", "line 2: height_cm", id="height"),
        pytest.param("person,file,height_cm\na,1.png,17\n", "line 2.*50 to 250", id="short"),
        pytest.param(
            "person,file,name\na,1.png,Anna\na,2.png,Ben\n", "line 3: .* otherwise", id="two names"
        ),
    ],
)
def test_wrong_table_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "people.csv").write_text(text)

    with pytest.raises(DataError, match=message):
        list_people(tmp_path / "people.csv")


def test_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list_people(tmp_path / "absent")


def test_table_that_is_a_picture_is_refused(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")

    with pytest.raises(DataError, match="CSV"):
        list_people(tmp_path / "a.png")


def test_spans_and_heights_are_read(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(
        "person,file,birth_year,height_cm\na,1.png,1985-1990,171\nb,2.png,1985,\nc,3.png,,\n"
    )

    people, _ = list_people(tmp_path / "people.csv")

    found = [(p.person.birth_year, p.person.birth_year_to, p.person.height_cm) for p in people]
    assert found == [(1985, 1990, 171), (1985, None, None), (None, None, None)]


def test_a_table_may_call_its_columns_otherwise(tmp_path: Path) -> None:
    (tmp_path / "export.csv").write_text(
        "Case No,Photo,Surname,sex,Officer\nM-17,1.png,Kova\u010d,male,7\n", encoding="utf-8"
    )
    columns = {"person": "Case No", "file": "Photo", "name": "Surname"}

    ((entry,), _) = list_people(tmp_path / "export.csv", columns)

    assert (entry.person.id, entry.person.name, entry.person.sex) == ("M-17", "Kova\u010d", "male")
    assert entry.photos == ((tmp_path / "1.png", None),)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"person": "Case", "file": "Photo"}, "has no column Case: it has Case No, Photo"),
        ({"surname": "Photo"}, "there is no column surname to fill"),
        ({"person": "Case No"}, "lacks the column file"),
    ],
)
def test_a_wrong_map_of_columns_is_explained(
    tmp_path: Path, columns: dict[str, str], message: str
) -> None:
    (tmp_path / "export.csv").write_text("Case No,Photo\nM-17,1.png\n")

    with pytest.raises(DataError, match=message):
        list_people(tmp_path / "export.csv", columns)
