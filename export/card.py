"""The model card: a bundle's description in words, for the people who decide on its use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_edge.conditions import ASTRAY
from fcr_edge.manifest import FilmEntry, SuppressorEntry, TranslatorEntry
from fcr_train.evaluate.card import LIMITS, write_bullets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fcr_edge.manifest import Description, ModelEntry, ParityRow, Scalar

PARITY = (
    "Parity, below, says that the exported networks compute what the trained ones do. It is not a "
    "measure of how well they do it."
)


def render_card(description: Description) -> str:
    """Write the model card as Markdown."""
    return "\n".join(_lines(description)) + "\n"


def _lines(description: Description) -> Iterator[str]:
    yield f"# Model card: {description.name}"
    yield ""
    yield (
        "An FCR bundle: a translator that draws a face from the radiograph of a skull, and an "
        "embedder that compares faces. Made from its manifest, which is the authority."
    )
    yield ""
    yield f"- Made: {description.created}, with {_join(description.versions)}"
    yield f"- Soft-tissue recipe: {description.soft_tissue}"
    if description.fusion is not None:
        yield f"- Rule for {description.fusion}"
    yield f"- Fingerprint of the embedder: `{description.fingerprint}`"
    yield from ("", "## Intended use", "", description.intended_use)
    yield from ("", "## Limits", "", *write_bullets((*LIMITS, PARITY)))
    for role, entry in description.models.items():
        yield from ("", f"## The {role}", "", *_describe_model(entry))


def _describe_model(entry: ModelEntry) -> Iterator[str]:
    yield f"- Network: {entry.architecture}, {entry.parameters:,} parameters"
    yield f"- Trained as {entry.method}, preset {entry.preset}, {entry.steps:,} steps"
    yield f"- Training data: {_join(entry.training_data) or 'not recorded'}"
    yield f"- Checkpoint: SHA-256 `{entry.checkpoint_sha256}`"
    yield f"- Licence of the weights: {entry.weights_licence}"
    picture = entry.input
    yield (
        f"- Input: {picture.channels} x {picture.height} x {picture.width}, "
        f"{picture.low:g} to {picture.high:g}"
    )
    if isinstance(entry, FilmEntry):
        limits = (f"{name} {limit:.3g}" for name, limit in sorted(entry.limits.items()))
        yield f"- Limits, chosen on simulated people set aside: {'; '.join(limits)}"
    if isinstance(entry, TranslatorEntry) and entry.conditions:
        yield (
            f"- Conditions: {', '.join(entry.conditions)}, two of the input's channels each. Any"
            f" may be left unknown; {ASTRAY}"
        )
    if isinstance(entry, SuppressorEntry):
        yield (
            "- Output: skull, bone alone and confidence. Trained on simulated films only; not"
            " validated on the films of any X-ray unit. A mean confidence over the skull below"
            f" {entry.least_confidence:.2f} gives a warning. Skull below grey level"
            f" {entry.floors[0]} and bone below {entry.floors[1]} go black"
        )
    for file in entry.files:
        yield (
            f"- File: `{file.path}`, {file.size:,} bytes, computes in {file.precision}, "
            f"{file.weights} weights, SHA-256 `{file.sha256}`"
        )
    yield from ("", "| parity of | with | measure | value | limit | pictures |")
    yield "|---|---|---|---|---|---|"
    for row in entry.parity:
        yield _describe_row(row)


def _describe_row(row: ParityRow) -> str:
    limit = "none" if row.limit is None else f"{row.limit:g}"
    measure = row.measure.replace("_", " ")
    return (
        f"| {row.candidate} | {row.reference} | {measure} | {row.value:.9g} | {limit} "
        f"| {row.pictures}, in batches of {' and '.join(map(str, row.batches))} |"
    )


def _join(facts: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())
