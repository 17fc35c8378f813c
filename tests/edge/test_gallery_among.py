"""A search confined to some people is the search among them, and leaves out nobody who may fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from some_galleries import KEY, make_gallery, make_photo, make_vector

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Among, Gallery, Person, Probe

YEAR = 2026


def person(**details: object) -> Person:
    return Person("p", **details)


@pytest.mark.parametrize(
    ("asked", "details", "admitted"),
    [
        pytest.param({"sex": "female"}, {"sex": "female"}, True, id="sex"),
        pytest.param({"sex": "female"}, {"sex": "male"}, False, id="other sex"),
        pytest.param({"sex": "female"}, {}, True, id="unknown sex"),
        pytest.param({"height": (160, 175)}, {"height_cm": 175}, True, id="height"),
        pytest.param({"height": (160, 175)}, {"height_cm": 176}, False, id="taller"),
        pytest.param({"height": (160, 175)}, {}, True, id="unknown height"),
        pytest.param({"since": "2019"}, {"date": "2019-01-01"}, True, id="first day"),
        pytest.param({"since": "2019"}, {"date": "2018-12-31"}, False, id="day before"),
        pytest.param({"since": "2019-06-02"}, {"date": "2019-06"}, True, id="some day in June"),
        pytest.param({"since": "2019-07"}, {"date": "2019"}, True, id="some day in 2019"),
        pytest.param({"until": "2019"}, {"date": "2019-12-31"}, True, id="last day"),
        pytest.param({"until": "2019"}, {"date": "2020"}, False, id="year after"),
        pytest.param({"until": "2019-06"}, {"date": "2019-06-30"}, True, id="last of June"),
        pytest.param({"since": "2019"}, {}, True, id="unknown date"),
        # Born in 2000, last seen in 2017 at 16 or 17: dead at any age from 16 to 26.
        pytest.param({"age": (20, 35)}, {"birth_year": 2000, "date": "2017"}, True, id="later"),
        pytest.param({"age": (10, 15)}, {"birth_year": 2000, "date": "2017"}, False, id="older"),
        pytest.param({"age": (10, 16)}, {"birth_year": 2000, "date": "2017"}, True, id="birthday"),
        pytest.param({"age": (27, 40)}, {"birth_year": 2000, "date": "2017"}, False, id="young"),
        pytest.param({"age": (27, 40)}, {"birth_year": 2000}, False, id="to this day"),
        pytest.param({"age": (5, 9)}, {"birth_year": 2000}, True, id="unknown when"),
        pytest.param({"age": (20, 35)}, {"date": "2017"}, True, id="unknown age"),
        pytest.param(
            {"age": (30, 35)},
            {"birth_year": 1990, "birth_year_to": 2002, "date": "2020"},
            True,
            id="span of years",
        ),
        pytest.param(
            {"age": (10, 16)},
            {"birth_year": 1990, "birth_year_to": 2002, "date": "2020"},
            False,
            id="span too old",
        ),
    ],
)
def test_who_may_be_meant_is_admitted(
    asked: dict[str, object], details: dict[str, object], admitted: bool
) -> None:
    assert Among(year=YEAR, **asked).admits(person(**details)) is admitted


@given(
    low=st.integers(0, 80),
    width=st.integers(0, 20),
    born=st.integers(1930, 2020),
    seen=st.integers(0, 60),
    died=st.integers(0, 60),
)
def test_nobody_who_died_at_that_age_is_left_out(
    low: int, width: int, born: int, seen: int, died: int
) -> None:
    last_seen = min(born + seen, YEAR)
    year_of_death = min(last_seen + died, YEAR)
    age = year_of_death - born  # or one less, where the birthday was still to come
    missing = person(birth_year=born, date=str(last_seen))

    if low <= age <= low + width or low <= age - 1 <= low + width:
        assert Among(age=(low, low + width), year=YEAR).admits(missing)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sex": "woman"}, "sex searched for is 'woman'"),
        ({"age": (35, 20)}, "age searched for is 35 to 20: write the smaller first"),
        ({"height": (-1, 20)}, "height searched for"),
        ({"since": "soon"}, "date 'soon' is none"),
    ],
)
def test_senseless_spans_are_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(GalleryError, match=message):
        Among(**asked)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    path = tmp_path_factory.mktemp("among") / "db.bin"
    with make_gallery(path, KEY) as made:
        made.enroll_all(
            [
                (
                    Person(
                        f"q{number:03d}",
                        sex=("female", "male", None)[number % 3],
                        birth_year=1950 + number,
                        date="2015",
                    ),
                    [make_photo(2 * number), make_photo(2 * number + 1)],
                )
                for number in range(60)
            ]
        )
        yield made


@pytest.mark.parametrize("mode", ["exact", "hnsw"])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_the_ranking_is_that_of_everybody_without_the_others(
    gallery: Gallery, k: int, mode: str
) -> None:
    among = Among(sex="female", age=(20, 40), year=YEAR)
    asked = {one.id for one in gallery.people() if among.admits(one)}
    assert 0 < len(asked) < 60

    for seed in range(20):
        probe = make_vector(500 + seed)
        everybody = gallery.search(probe, 1000).candidates
        found = gallery.search(probe, k, mode, among)

        expected = [one for one in everybody if one.person.id in asked][:k]
        assert [one.person.id for one in found.candidates] == [one.person.id for one in expected]
        assert [one.similarity for one in found.candidates] == [one.similarity for one in expected]
        assert [one.rank for one in found.candidates] == [*range(1, len(expected) + 1)]
        assert (found.people, found.excluded) == (len(asked), 60 - len(asked))
        assert (found.mode, found.recall) == ("exact", 1.0)


def test_two_films_are_confined_likewise(gallery: Gallery) -> None:
    among = Among(sex="male", year=YEAR)
    probes = [Probe(make_vector(600 + seed), "frontal", 0.1, 0.2) for seed in range(2)]
    everybody = gallery.search_together(probes, 1000).candidates

    found = gallery.search_together(probes, 5, among)

    expected = [one for one in everybody if one.person.sex != "female"][:5]
    assert [one.person for one in found.candidates] == [one.person for one in expected]
    assert np.allclose(
        [one.similarity for one in found.candidates], [one.similarity for one in expected]
    )
    assert (found.people, found.excluded, found.passed_over) == (40, 20, 0)


def test_it_says_what_is_asked_for() -> None:
    asked = Among("female", (20, 35), (160, 175), "2019", "2021-06")

    assert str(asked) == (
        "female, aged 20 to 35 at death, 160 to 175 cm, last seen since 2019,"
        " last seen until 2021-06"
    )
    assert str(Among()) == "everybody"


def test_nobody_left_is_said(gallery: Gallery) -> None:
    with pytest.raises(GalleryError, match=r"none of the 60 people .* is among those asked for"):
        gallery.search(make_vector(1), among=Among(since="2020"))


def test_an_older_gallery_is_brought_to_this_schema_by_its_first_change(tmp_path: Path) -> None:
    path = tmp_path / "db.bin"
    old = Path(__file__).parent / "galleries" / "schema-1-key-file.bin"
    path.write_bytes(old.read_bytes())

    with Gallery.open(path, KEY) as gallery:
        assert gallery.person("p0").height_cm is None
        assert path.read_bytes() == old.read_bytes(), "reading changes nothing"
        known = gallery.person("p1")
        gallery.remove("p2")
        assert gallery.person("p1") == known
        assert gallery.verify().people == 2

    assert int.from_bytes(path.read_bytes()[60:64], "big") == 2
    with Gallery.open(path, KEY) as gallery:
        assert gallery.verify().people == 2
