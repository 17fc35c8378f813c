"""How the generated faces look: Table 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.record import EMBEDDER_KID
from fcr_train.evaluate.results.basis import describe_setting
from fcr_train.evaluate.results.published import (
    PAPER_GROUP,
    PAPER_IMAGES,
    PAPER_IMAGES_NOTE,
    show_paper,
)
from fcr_train.evaluate.results.rows import by_views, show_estimate, show_measure
from fcr_train.evaluate.study import compare, embedder_of, translator_of, write_name
from fcr_train.evaluate.tables import Basis, Cell, Column, Row, Table, choose_digits

if TYPE_CHECKING:
    from fcr_train.evaluate.record import Evaluation, Images
    from fcr_train.evaluate.study import Study

COLUMNS = (
    Column("translator", is_text=True),
    Column("views", is_text=True),
    Column("pictures"),
    Column("SSIM ↑", "measured here"),
    Column("SSIM, mean face", "measured here"),
    Column("SSIM, other person", "measured here"),
    Column("SSIM against mean face", "measured here", is_text=True),
    Column("FID ↓", "measured here"),
    Column("FID floor", "measured here"),
    Column("KID ↓", "measured here"),
    Column("IS ↑", "measured here"),
    Column("LPIPS ↓", "measured here"),
    Column(f"{EMBEDDER_KID} ↓", "measured here"),
    *(Column(name, PAPER_GROUP) for name in ("FID", "IS", "SSIM")),
)


def build_images(study: Study) -> Table:
    """Image quality by translator and views, the seed paper's Table 1 beside it."""
    runs = _runs_by_translator(study)
    settings = dict.fromkeys(images.ssim_settings for run in runs for images in run.images)
    return Table(
        name="table1-images",
        title="Table 1. Image quality by translator",
        says=(
            "How generated faces look beside the photographs of the same people. An SSIM says "
            "little by itself: a generator has to beat the mean face, which is the same for all."
        ),
        basis=_describe_pictures(study.best_run),
        columns=COLUMNS,
        rows=tuple(
            _image_row(run, images, study, is_first=place == 0)
            for run in runs
            for place, images in enumerate(sorted(run.images, key=by_views))
        ),
        notes=(*(f"SSIM: {text}." for text in settings if text), PAPER_IMAGES_NOTE),
    )


def _describe_pictures(run: Evaluation) -> Basis:
    return Basis(
        **describe_setting(run),
        gallery="none: pictures are compared with the photograph of their own person",
        chance="SSIM with the photograph of another person, drawn at random",
        baselines=(
            "SSIM of the mean training face; the FID floor is the FID of two halves of the "
            "photographs themselves, which no generator can be expected to beat"
        ),
    )


def _runs_by_translator(study: Study) -> list[Evaluation]:
    """Return one run of each translator, with the best embedder where there is one."""
    found: dict[str, Evaluation] = {}
    for run in study.on_split("person"):
        if translator_of(run) not in found or embedder_of(run) == study.best.embedder:
            found[translator_of(run)] = run
    return list(found.values())


def _image_row(run: Evaluation, images: Images, study: Study, is_first: bool) -> Row:
    digits = choose_digits(images.n)
    paper = PAPER_IMAGES.get(translator_of(run)) if is_first else ("", "", "")
    cells = (
        Cell(write_name(translator_of(run))),
        Cell(images.views),
        Cell(images.n),
        *(show_estimate(value, digits) for value in (images.ssim, images.ssim_mean_face)),
        show_estimate(images.ssim_other_person, digits),
        Cell(compare(images.ssim, images.ssim_mean_face)),
        show_measure(images.fid, 1),
        show_measure(images.fid_floor, 1),
        show_measure(images.kid, 4),
        show_measure(images.inception_score, 2),
        show_measure(images.lpips, 3),
        show_measure(images.embedder_distance, 4),
        *show_paper(paper, 3),
    )
    return Row(cells, "best" if translator_of(run) == study.best.translator else "run")
