"""Figures that others published, which stand beside a study's own and are not comparable."""

from __future__ import annotations

from fcr_train.evaluate.tables import Cell

PAPER = "Prasad & Singh 2025, arXiv 2508.18031"
PAPER_IMAGES = {
    "cyclegan": ("313.46", "2.48 ± .14", ".33"),
    "pix2pix": ("148.84", "1.66 ± .28", ".66"),
    "cut": ("305.04", "2.67 ± .20", ".32"),
    "fastcut": ("63.65", "2.72 ± .22", ".66"),
}
"""FID, inception score and SSIM (Table 1 of the seed paper)."""
PAPER_RETRIEVAL = {
    "vgg16": (".03", ".06", ".62", ".56"),
    "resnet18": (".02", ".05", ".67", ".60"),
    "resnet101": (".04", ".08", ".77", ".75"),
    "densenet121": (".04", ".08", ".81", ".74"),
}
"""recall@10, recall@20, mAP@10 and mAP@20 (Table 2 of the seed paper)."""
PAPER_GROUP = "seed paper, not comparable"
PAPER_IMAGES_NOTE = (
    f"Seed paper ({PAPER}, Table 1): 51 volunteers whose films were cleaned by hand, at most 20 "
    "test pictures, split by pairs, so that most people tested were also trained on. FID of so "
    "few pictures measures how few they are; its floor was not stated. Not comparable with the "
    "figures measured here."
)
PAPER_RETRIEVAL_NOTE = (
    f"Seed paper ({PAPER}, Table 2): neither the size of the gallery, nor the number of probes, "
    "nor what counts as relevant is stated. Random order gives recall@k = k/N: .04 at 10 and .08 "
    "at 20 is exactly chance for N = 250. With at most k relevant pictures to a search mAP@k "
    "cannot exceed recall@k, so .81 beside .04 is impossible where relevant means this person; "
    "it fits about 200 relevant pictures to a search, the size of a view. Not comparable."
)
FBI_NOTE = (
    "The published mark for real people: in an automated search with 26 approximations (all "
    "African male participants, built on CT of the whole skull with sex, age and ancestry known) "
    "16, or 62 % (95 % interval 41 to 80 %), had the life photograph among the first 50 of 6,159; "
    "chance is 0.8 % (Parks & Monson 2023, Biology 12:682). Another input, other people and "
    "another gallery: not comparable with the figures here unless these were measured on real "
    "people in a gallery of that size."
)


def show_paper(figures: tuple[str, ...] | None, number: int) -> tuple[Cell, ...]:
    """Return a cell for each of `number` figures of the seed paper, which may have none."""
    if figures is None:
        return (Cell(reason="not in the seed paper"),) * number
    return tuple(Cell(figure) for figure in figures)
