from __future__ import annotations

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_train.evaluate import page, results
from fcr_train.evaluate.card import SIMULATED_LIMITS
from fcr_train.evaluate.record import LEAD, Evaluation
from fcr_train.evaluate.study import Study, find_headline

NOTICE = "Simulated people: these figures measure the method, never forensic accuracy."
VOID = {"meta", "img", "br", "link", "input"}

JPEG_LOSS = 2
"""Grey levels by which a sheet on the page may differ from its file, on average."""


class Reader(HTMLParser):
    """Takes a page apart: tables by id, references, headings, whether tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.bases: dict[str, dict[str, str]] = {}
        self.references: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.name = ""
        self.text: list[str] | None = None
        self.term = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.references += [given[key] or "" for key in ("src", "href") if key in given]
        if tag == "section":
            is_table = "table" in (given.get("class") or "").split()
            self.name = (given.get("id") or "") if is_table else ""
        elif tag == "img":
            self.pictures.append(given)
        elif tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        elif tag == "tr":
            self.tables.setdefault(self.name, []).append([])
        if tag in ("td", "th", "dt", "dd"):
            self.text = []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if self.text is None or tag not in ("td", "th", "dt", "dd"):
            return
        text = "".join(self.text).strip()
        if tag == "dt":
            self.term = text
        elif tag == "dd":
            self.bases.setdefault(self.name, {})[self.term] = text
        else:
            self.tables[self.name][-1].append(text)
        self.text = None

    def handle_data(self, data: str) -> None:
        if self.text is not None:
            self.text.append(data)


@pytest.fixture(scope="module")
def folder(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write_report(study, tmp_path_factory.mktemp("study") / "report").parent


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader(text: str) -> Reader:
    return Reader(text)


@pytest.fixture
def plain(study: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of one run and no pictures, written in no time."""
    monkeypatch.setattr(page, "build_figures", lambda _: [])
    return replace(
        study,
        evaluations=[study.best_run],
        cases=(),
        worst_by_rank=(),
        worst_by_ssim=(),
        searches=(),
    )


def test_every_table_of_the_study_stands_on_the_page_with_its_figures(
    study: Study, reader: Reader
) -> None:
    for table in results.build_tables(study):
        rows = [row for row in reader.tables[table.name] if len(row) == len(table.columns)]
        assert rows[-len(table.rows) - 1] == [column.name for column in table.columns]
        for shown, row in zip(rows[-len(table.rows) :], table.rows, strict=True):
            for place, (text, cell) in enumerate(zip(shown, row.cells, strict=True)):
                mark = table.mark(cell)
                tagged = place == 0 and row.kind in ("best", "stated")
                tag = f" {row.kind}" if tagged else ""
                below = cell.below if place else ""
                assert text == f"{cell.text}{tag}{mark}{below}".strip()


def test_every_table_on_the_page_says_what_it_rests_on(study: Study, reader: Reader) -> None:
    for table in results.build_tables(study):
        assert reader.bases[table.name] == dict(table.basis.lines)


def test_rank_50_of_the_record_is_the_figure_of_the_page(study: Study, reader: Reader) -> None:
    row = find_headline(study.best_run)
    assert row is not None
    share = row.cmc["50"]
    assert share.low is not None
    assert share.high is not None

    bold = [cells for cells in reader.tables["table2b-cmc"] if cells[0].endswith("best")]

    assert bold[0][5] == f"{share.value:.3f}{share.low:.3f} to {share.high:.3f}"


def test_the_page_needs_nothing_from_outside(reader: Reader, text: str) -> None:
    assert reader.tags.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert all(ref.startswith(("data:image/", "#")) for ref in reader.references)
    assert "@import" not in text
    assert "url(" not in text


def test_links_lead_to_places_on_the_page(reader: Reader, text: str) -> None:
    links = [ref[1:] for ref in reader.references if ref.startswith("#")]

    assert len(links) > 8
    assert all(f'id="{name}"' in text for name in links)


def test_every_picture_has_words_and_headings_go_down_by_one(reader: Reader) -> None:
    assert len(reader.pictures) == 12
    assert all(len(picture["alt"] or "") > 20 for picture in reader.pictures)
    assert reader.headings[:2] == [1, 2]
    steps = zip(reader.headings, reader.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)
    assert reader.open == []


def test_the_page_says_whom_it_is_about_and_what_a_list_is(folder: Path, text: str) -> None:
    assert NOTICE in text
    assert LEAD in text
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert NOTICE in card
    assert LEAD in card


def test_names_are_shown_and_not_run(plain: Study, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    best = replace(plain.best, why=f"{attack} & more")
    command = f'fcr-train compare --data "{attack}"'

    path = page.write_report(replace(plain, best=best, command=command), tmp_path / "report")

    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_person_called_script_is_shown_and_not_run(study: Study, tmp_path: Path) -> None:
    search = study.searches[1]
    named = replace(search.candidates[0], person="<script>x</script>")
    changed = replace(search, person=named.person, candidates=(named, *search.candidates[1:]))
    bare = replace(study, cases=(), worst_by_rank=(), worst_by_ssim=(), searches=(changed,))

    text = page.render_page(bare, [], page.build_sheets(bare))

    assert "<script" not in text
    assert text.count("&lt;script&gt;x") >= 2


def test_report_json_holds_every_evaluation_and_the_best_run(study: Study, folder: Path) -> None:
    record = json.loads((folder / "report.json").read_text(encoding="utf-8"))

    assert record["schema"] == "fcr-study/1"
    assert record["notice"] == NOTICE
    assert record["command"] == study.command
    assert (record["best"]["translator"], record["best"]["embedder"]) == (
        "pix2pix",
        "densenet121",
    )
    assert [Evaluation.from_table(table) for table in record["evaluations"]] == list(
        study.evaluations
    )


def test_pictures_on_the_page_are_the_files_beside_it(folder: Path, reader: Reader) -> None:
    embedded = {base64.b64decode((p["src"] or "").partition(",")[2]) for p in reader.pictures}
    drawings = {path.read_bytes() for path in folder.glob("*.svg")}
    sheets = [imaging.read_picture(path) for path in folder.glob("*.png")]

    assert drawings < embedded
    photographs = [
        imaging.decode_picture(data, "embedded").astype(int) for data in embedded - drawings
    ]
    assert len(photographs) == len(sheets)
    for sheet in sheets:
        like = [other for other in photographs if other.shape == sheet.shape]
        assert min(np.abs(other - sheet).mean() for other in like) < JPEG_LOSS


def test_the_same_study_gives_the_same_files(plain: Study, tmp_path: Path) -> None:
    one, two = (page.write_report(plain, tmp_path / name).parent for name in ("one", "two"))

    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in two.iterdir()
    }


def test_an_interrupted_report_leaves_the_old_one(
    plain: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    page.write_report(plain, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    written: list[Path] = []
    write = Path.write_bytes

    def fail_half_way(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail_half_way)
    with pytest.raises(DataError, match="No space left on device"):
        page.write_report(replace(plain, command="another"), out)

    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_report_that_cannot_take_its_place_leaves_the_old_one(
    plain: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    page.write_report(plain, out)
    rename = Path.rename

    def interrupt(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        page.write_report(plain, out)

    assert (out / "index.html").is_file()
    assert list(tmp_path.iterdir()) == [out]


def test_a_report_takes_the_place_of_an_older_one(plain: Study, tmp_path: Path) -> None:
    out = tmp_path / "report"
    page.write_report(plain, out)
    (out / "table-of-yesterday.csv").write_text("old")

    page.write_report(plain, out)

    assert not (out / "table-of-yesterday.csv").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_report_is_not_replaced(plain: Study, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "films"
    kept = out / "film.png" if kind == "folder" else out
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("evidence")

    with pytest.raises(DataError, match="is no report"):
        page.write_report(plain, out)

    assert kept.read_text() == "evidence"


def test_progress_reaches_its_end(plain: Study, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    page.write_report(plain, tmp_path / "report", lambda done, total: told.append((done, total)))

    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_study_without_pictures_has_no_section_of_them(plain: Study) -> None:
    text = page.render_page(plain, results.build_tables(plain), [])

    assert 'id="candidates"' not in text
    assert 'id="retrieval"' in text


def test_a_study_in_which_nothing_was_searched_says_so(plain: Study, tmp_path: Path) -> None:
    run = replace(
        plain.best_run,
        retrieval=(),
        comparisons=(),
        open_set=(),
        calibration=(),
        groups=(),
        gaps=(),
    )

    path = page.write_report(replace(plain, evaluations=[run]), tmp_path / "report")

    text = path.read_text(encoding="utf-8")
    assert "Nothing was searched: there is no result to state." in text
    assert text.count("Not measured: the record holds nothing of this.") == 6


def test_people_of_the_user_are_not_called_simulated(study: Study) -> None:
    notice = "The user's own pairs: these figures hold for people like these."
    runs = [replace(run, level="P", notice=notice) for run in study.evaluations]
    real = replace(study, evaluations=runs, searches=study.searches[:1])

    text = page.render_page(real, results.build_tables(real), page.build_sheets(real))

    assert "own pairs: these figures hold" in text
    assert NOTICE not in text
    assert "imulated photograph" not in text
    assert not any(limit in text for limit in SIMULATED_LIMITS)
