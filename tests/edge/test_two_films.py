"""Two films of one skull are searched with together, by a rule that the result states."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fcr_edge import Bundle, Gallery, Identifier, demo, film, imaging, report
from fcr_edge.bundle import write_bundle
from fcr_edge.cli import app
from fcr_edge.errors import ConfigError
from fcr_edge.gallery import Probe
from fcr_edge.identify import STAGES, demo_folder
from fcr_edge.manifest import Description, Fusion, Scale
from fcr_edge.understanding import Understanding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fcr_edge.reading import Xray

FUSION = Fusion(Scale(0.2, 0.1), Scale(0.4, 0.3), people=40, simulated=True)
FRONT, SIDE = (demo.list_films()[number].xray for number in (0, 1))
PEOPLE = 8  # of the gallery


@pytest.fixture(scope="session")
def fusing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged bundle with a rule for two films of its own, and without a film model."""
    return change_bundle(tmp_path_factory.mktemp("fusing") / "bundle", FUSION)


@pytest.fixture(scope="session")
def ruleless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Identifier]:
    """The packaged bundle without a rule."""
    folder = change_bundle(tmp_path_factory.mktemp("ruleless") / "bundle", None)
    with Identifier(Bundle.load(folder, allow_unsigned=True), "cpu") as ready:
        yield ready


def change_bundle(folder: Path, fusion: Fusion | None) -> Path:
    bundle = Bundle.load(demo_folder() / "bundle")
    one = bundle.manifest
    parts = {name: getattr(one, name) for name in Description.__dataclass_fields__}
    parts |= {"name": "changed", "fusion": fusion, "film": None}
    models = {
        entry.fp32.path: bundle.model_bytes(role)
        for role, entry in one.models.items()
        if role != "film"
    }
    write_bundle(folder, Description(**parts), "# Changed\n", models)
    return folder


@pytest.fixture(scope="session")
def fusing(fusing_folder: Path) -> Iterator[Identifier]:
    with Identifier(Bundle.load(fusing_folder, allow_unsigned=True), "cpu") as ready:
        yield ready


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_each_film_counts_by_its_own_scale(fusing: Identifier, gallery_file: Path) -> None:
    with Gallery.open(gallery_file) as gallery:
        result = fusing.identify([FRONT, SIDE], gallery, views=["frontal", "lateral"])
        probes = [
            Probe(fusing.embed([made.face])[0], view, scale.mean, scale.sd)
            for made, view, scale in zip(
                result.reconstructions,
                ("frontal", "lateral"),
                (FUSION.frontal, FUSION.lateral),
                strict=True,
            )
        ]
        expected = gallery.search_together(probes)

    assert result.search == expected
    assert result.fusion == FUSION
    assert [made.view for made in result.reconstructions] == ["frontal", "lateral"]
    for candidate in result.search.candidates:
        front, side = candidate.matches
        assert front is not None
        assert side is not None
        scaled = (front.similarity - 0.2) / 0.1 + (side.similarity - 0.4) / 0.3
        assert candidate.similarity == pytest.approx(scaled / 2**0.5, abs=1e-5)
    assert list(result.timings_ms) == list(STAGES)


def test_the_order_of_the_films_changes_nothing(fusing: Identifier, gallery_file: Path) -> None:
    with Gallery.open(gallery_file) as gallery:
        one = fusing.identify([FRONT, SIDE], gallery, views=["frontal", "lateral"])
        other = fusing.identify([SIDE, FRONT], gallery, views=["lateral", "frontal"])

    def told(found: list) -> list:
        return [(c.person.id, c.similarity) for c in found]

    assert told(one.search.candidates) == told(other.search.candidates)


def test_the_result_states_the_rule_and_shows_both_films(
    fusing: Identifier, gallery_file: Path, tmp_path: Path
) -> None:
    with Gallery.open(gallery_file) as gallery:
        result = fusing.identify([FRONT, SIDE], gallery, views=["frontal", "lateral"])
        report.write_report(result, gallery, tmp_path)
        single = fusing.identify([FRONT], gallery)
        report.write_report(single, gallery, tmp_path / "one")

    record = json.loads((tmp_path / "result.json").read_text())
    assert [film["view"] for film in record["films"]] == ["frontal", "lateral"]
    assert [film["xray"]["file"] for film in record["films"]] == [FRONT.name, SIDE.name]
    assert "40 simulated people set aside" in record["fusion"]["rule"]
    assert record["fusion"]["lateral"] == {"mean": 0.4, "sd": 0.3}
    assert len(record["candidates"][0]["matches"]) == 2
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {path.rpartition("/")[2] for path in report.list_files(result, tmp_path)}
    assert {"film-1.png", "skull-2.png", "face-2.png"} < names
    both, one = (
        imaging.read_picture(folder / "result.png") for folder in (tmp_path, tmp_path / "one")
    )
    line = report.TILE + report.CAPTION + report.GAP
    assert both.shape[0] > one.shape[0] + line  # a line for each film, one for its photographs


def test_two_films_of_one_view_are_warned_of(fusing: Identifier, gallery_file: Path) -> None:
    other = demo.list_films()[2].xray
    with Gallery.open(gallery_file) as gallery:
        result = fusing.identify([FRONT, other], gallery, views=["frontal", "frontal"])

    assert any("both films are frontal" in warning for warning in result.warnings)
    assert result.search.people == PEOPLE


@pytest.mark.parametrize(
    ("films", "views", "message"),
    [
        ([], None, "0 films were given: give one film, or two of the same skull"),
        ([FRONT, SIDE, FRONT], None, "3 films were given"),
        ([FRONT, SIDE], None, "nobody said which film is frontal"),
        ([FRONT, SIDE], ["frontal"], "2 films and 1 views were given"),
        ([FRONT, FRONT], ["frontal", "lateral"], "are the same film: give another"),
    ],
)
def test_films_that_cannot_go_together_are_refused(
    fusing: Identifier, gallery_file: Path, films: list[Path], views: list, message: str
) -> None:
    with Gallery.open(gallery_file) as gallery, pytest.raises(ConfigError, match=message):
        fusing.identify(films, gallery, views=views)


def test_a_bundle_without_a_rule_takes_one_film(ruleless: Identifier, gallery_file: Path) -> None:
    with (
        Gallery.open(gallery_file) as gallery,
        pytest.raises(ConfigError, match="changed has no rule to put two films together"),
    ):
        ruleless.identify([FRONT, SIDE], gallery, views=["frontal", "lateral"])


def test_people_without_photographs_of_either_view_are_counted(
    fusing: Identifier, tmp_path: Path
) -> None:
    from fcr_edge.enroll import Enrolment, enroll
    from fcr_edge.gallery import Person

    shown = demo_folder() / "photos" / "p00001_frontal.jpg"
    hidden = demo_folder() / "photos" / "p00002_lateral.jpg"
    items = [
        Enrolment(Person("ana"), ((shown, "frontal"),)),
        Enrolment(Person("ben"), ((hidden, "lateral"),)),
    ]
    other = demo.list_films()[2].xray
    manifest = fusing.bundle.manifest
    dimension = manifest.embedder.output.dimension
    with Gallery.create(tmp_path / "db.bin", manifest.fingerprint, dimension) as gallery:
        enroll(items, gallery, fusing)
        result = fusing.identify([FRONT, other], gallery, views=["frontal", "frontal"])
        drawn = report.draw_result(result, gallery)

    assert [candidate.person.id for candidate in result.search.candidates] == ["ana"]
    assert any("1 people have no photograph of these views" in text for text in result.warnings)
    assert drawn.dtype == np.uint8


class Seer:
    """Stands for a film model: knows the packaged films by name, and the heads on them."""

    def __init__(self, **heights_mm: float | None) -> None:
        self.heights = heights_mm

    def understand(self, xray: Xray, force: bool = False) -> Understanding:
        view = "lateral" if "lateral" in xray.name else "frontal"
        return Understanding(
            view=view,
            facing="right" if view == "lateral" else "front",
            quarter_turns=0,
            mirrored=False,
            inverted=False,
            rotation_degrees=0.0,
            scale=1.0,
            scale_from="spacing",
            spacing_mm=1.1,
            shift=(0.0, 0.0),
            to_standard=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
            face_height_mm=self.heights.get(view),
            face_height_pixels=100.0,
            landmarks=(),
            probabilities={view: 0.99},
            verdict="pass",
            reasons=(),
            steps=("seen",),
            film=film.standardise_xray(xray),
        )


@pytest.fixture
def seeing(fusing: Identifier, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Identifier]:
    """The bundle with a film model that measures heads of the heights given."""

    def make(**heights_mm: float | None) -> Identifier:
        monkeypatch.setattr(fusing, "_film", Seer(**heights_mm))
        return fusing

    return make


def test_a_film_model_tells_the_views(
    seeing: Callable[..., Identifier], fusing: Identifier, gallery_file: Path
) -> None:
    with Gallery.open(gallery_file) as gallery:
        told = fusing.identify([SIDE, FRONT], gallery, views=["lateral", "frontal"])
        seen = seeing().identify([SIDE, FRONT], gallery)
        single = seeing().identify([SIDE], gallery)

    assert [made.view for made in seen.reconstructions] == ["lateral", "frontal"]
    assert seen.search == told.search
    assert single.reconstructions[0].view == "lateral"
    assert not any("looks" in warning for warning in seen.warnings)


def test_a_film_that_is_not_what_it_was_called_is_warned_of(
    seeing: Callable[..., Identifier], gallery_file: Path
) -> None:
    with Gallery.open(gallery_file) as gallery:
        result = seeing().identify([SIDE, FRONT], gallery, views=["frontal", "lateral"])

    assert [made.view for made in result.reconstructions] == ["frontal", "lateral"], "believed"
    assert any(
        f"{SIDE.name} looks lateral and was called frontal" in text for text in result.warnings
    )


@pytest.mark.parametrize(
    ("frontal", "lateral", "warned"),
    [
        (114.0, 120.0, False),  # as the mean person's films show it
        (114.0, 108.0, False),
        (114.0, 100.0, True),
        (100.0, 120.0, True),
        (100.0, None, False),
    ],
)
def test_heads_of_evidently_different_size_are_warned_of(
    seeing: Callable[..., Identifier],
    gallery_file: Path,
    frontal: float,
    lateral: float | None,
    warned: bool,
) -> None:
    with Gallery.open(gallery_file) as gallery:
        result = seeing(frontal=frontal, lateral=lateral).identify([FRONT, SIDE], gallery)

    assert any("check that both films show one person" in w for w in result.warnings) == warned


def test_the_command_lists_both_cosines_and_the_rule(
    fusing_folder: Path, gallery_file: Path, tmp_path: Path
) -> None:
    named = (
        "--view",
        "frontal",
        "--view",
        "lateral",
        "-b",
        fusing_folder,
        "--device",
        "cpu",
        "--allow-unsigned",
    )

    done = run("identify", FRONT, SIDE, "-g", gallery_file, *named, "--out", tmp_path / "out")
    unnamed = run(
        "identify", FRONT, SIDE, "-g", gallery_file, "-b", fusing_folder, "--allow-unsigned"
    )

    assert done.exit_code == 0, done.stderr
    assert "frontal" in done.stdout
    assert "divided by the square root of two" in done.stdout
    assert "not an identification" in done.stdout
    assert "film-2.png" in done.stderr
    assert (tmp_path / "out" / "face-2.png").exists()
    assert unnamed.exit_code == 3
    assert "--view" in unnamed.stderr
