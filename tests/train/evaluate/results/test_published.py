from __future__ import annotations

from collections.abc import Callable

from fcr_train.evaluate.results.published import PAPER_GROUP
from fcr_train.evaluate.tables import Cell, Table, render_markdown


def test_figures_of_the_seed_paper_stand_in_columns_of_their_own(
    tables: dict[str, Table], find_row: Callable[..., list[Cell]]
) -> None:
    images, retrieval = tables["table1-images"], tables["table2a-retrieval"]

    for table in (images, retrieval):
        assert (PAPER_GROUP, 3 if table is images else 4) in table.groups
        assert any("Not comparable" in note for note in table.notes)
    assert [c.text for c in find_row(images, "FastCUT", "frontal")[-3:]] == [
        "63.65",
        "2.72 ± .22",
        ".66",
    ]
    assert [c.text for c in find_row(retrieval, "generated face, DenseNet121")[-4:]] == [
        ".04",
        ".08",
        ".81",
        ".74",
    ]
    assert "N = 250" in render_markdown(retrieval)


def test_the_published_mark_stands_with_its_input_and_gallery(tables: dict[str, Table]) -> None:
    text = render_markdown(tables["table2b-cmc"])

    for words in ("62 %", "41 to 80 %", "6,159", "not comparable"):
        assert words in text
