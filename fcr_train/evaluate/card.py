"""The model card of a study's best run, and what every model card of the project says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.record import LEAD
from fcr_train.evaluate.study import write_name
from fcr_train.evaluate.tables import render_markdown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fcr_train.evaluate.record import Evaluation, Network
    from fcr_train.evaluate.study import Study
    from fcr_train.evaluate.tables import Table

INTENDED_USE = (
    "Research, and support of qualified examiners: from the radiograph of an unidentified skull, "
    "generate a face and rank a gallery of missing persons by similarity to it."
)
LIMITS = (
    "A ranked list is an investigative lead for a qualified examiner. It is never an "
    "identification, and a high rank or similarity is no probability of identity.",
    "The face is generated. It is one face that fits what the network learned, not a likeness, "
    "and its skin, hair, eyes and age are not in the skull.",
    "Networks trained on simulated people measure the method. They say nothing about accuracy on "
    "real people, and nothing may be concluded from their candidates for a real film.",
    "People unlike those in the training data, by ancestry, age, sex or injury, may fare worse; "
    "how much worse has to be measured before use.",
)
"""What no model of the project can do, whoever describes it."""
SIMULATED_LIMITS = (
    "How strongly the simulated face follows the simulated skull, and every spread and range of "
    "looks, are assumptions. A retrieval figure says how well the method recovers what was put "
    "in.",
    "The simulated people are 18 to 35 years old and of one plan of the skull: no disease, no "
    "injury, no toothless jaws. Their ancestries are names of shapes, not a claim about people.",
    "The simulated films approximate scatter and beam hardening, and their mean tissue depths "
    "were recalled, not read again.",
    "No real frontal skull film and no real pair of film and photograph was at hand. Transfer to "
    "real films is unproven and has to be shown on the user's own data.",
)
"""What figures on simulated people leave open (docs/simulator.md, Limits)."""
CARD_TABLES = (
    "table2b-cmc",
    "table6-open-set",
    "table7-calibration",
    "table8a-groups",
    "table8b-gaps",
    "table1-images",
    "table9-claims",
)
"""The tables that a card holds."""


def list_limits(level: str) -> list[str]:
    """Return the limits that hold at a level of evidence."""
    return [*LIMITS, *(SIMULATED_LIMITS if level == "S" else ())]


def write_bullets(texts: Iterable[str]) -> list[str]:
    """Write each text as one item of a Markdown list."""
    return [f"- {text}" for text in texts]


def render_card(study: Study, tables: Sequence[Table], summary: Sequence[str]) -> str:
    """Write the best run's model card as Markdown."""
    return "\n".join(_lines(study, tables, summary)) + "\n"


def _lines(study: Study, tables: Sequence[Table], summary: Sequence[str]) -> Iterator[str]:
    run, best = study.best_run, study.best
    yield f"# Model card: {write_name(best.translator)} with {write_name(best.embedder)}"
    yield from ("", f"**{run.notice}** {LEAD}", "")
    yield f"- Made: {study.created}, with FCR {run.fcr}, by `{study.command}`"
    yield f"- Chosen as the best run: {best.why}"
    yield from write_bullets(f"Checkpoint of the {part}: `{path}`"
                             for part, path in best.checkpoints.items())  # fmt: skip
    yield from ("", "## Intended use", "", INTENDED_USE)
    yield from ("", "## Limits", "", *write_bullets(list_limits(run.level)))
    yield from ("", "## Training data", "", *_describe_data(run))
    for part, network in (("translator", run.translator), ("embedder", run.embedder)):
        yield from ("", f"## The {part}", "", *_describe_network(network))
    yield from ("", "## Evaluation", "", *write_bullets(summary), "")
    chosen = {table.name: table for table in tables}
    for name in CARD_TABLES:
        yield render_markdown(chosen[name], level=3)


def _describe_data(run: Evaluation) -> list[str]:
    return write_bullets(
        [
            f"{run.people.train:,} people trained on; {run.people.test:,} others tested",
            f"Split by {run.split.by}, seed {run.split.seed}",
            f"Dataset: SHA-256 `{run.dataset_sha256}`",
        ]
    )


def _describe_network(network: Network | None) -> list[str]:
    if network is None:
        return ["None."]
    return write_bullets(
        [
            f"Trained as {network.model}, preset {network.preset}, {network.steps:,} steps",
            f"Checkpoint: SHA-256 `{network.checkpoint_sha256}`",
        ]
    )
