"""Parity: PyTorch and ONNX Runtime run the same network on the same real films, and must agree."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from export.to_fp16 import emulate
from export.to_onnx import round_weights
from fcr_edge import agreement, imaging, soft_tissue
from fcr_edge.agreement import cosines, read_answers
from fcr_edge.conditions import Conditions
from fcr_edge.errors import DeviceError, FilmError
from fcr_edge.film import standardise_xray
from fcr_edge.identify import demo_folder
from fcr_edge.looks import first_look
from fcr_edge.manifest import ParityRow
from fcr_edge.photo import read_face
from fcr_edge.reading import read_film
from fcr_edge.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jaxtyping import Float32
    from torch import nn

    from export.to_onnx import Target, Weights
    from fcr_edge.agreement import Measure
    from fcr_edge.manifest import TensorSpec
    from fcr_edge.soft_tissue import Suppressor

    Pictures = Float32[np.ndarray, "n c h w"]
    Outputs = Float32[np.ndarray, "n ..."]
    Read = Callable[[Outputs], Outputs]
    Run = Callable[[Pictures], Outputs]

logger = logging.getLogger(__name__)

MAX_FACE_DIFFERENCE = 1e-4
"""A face lies in [-1, 1] and is shown in 256 levels, so this is a seventy-eighth of one level."""
MAX_LAYER_DIFFERENCE = 1e-4
"""Skull, bone and confidence lie in [0, 1], so this is a thirty-ninth of a grey level."""
MIN_EMBEDDING_COSINE = 0.99999
"""Galleries print similarities to four digits."""
MAX_FILM_DIFFERENCE = 1e-3
"""Of probabilities and shares of the side: a thousandth moves no answer, and a landmark by a
quarter of a pixel of the standard film."""
BATCHES = (1, 3)
"""1 is what the field runs; 3 is neither that nor the 2 that the export was traced with."""
MIN_FILMS = 3
"""Fewer films do not fill the larger batch with different pictures."""
LISTED = 50
"""Candidates that an examiner looks through."""
EMULATED = f"PyTorch {torch.__version__}, layer by layer in fp16"
"""The name of networks that to_fp16.emulate made."""
MIN_SPREAD = 4.0
"""Least standard deviation of a skull [grey levels]: instance normalisation of a blank picture
divides by almost nothing, and so compares rounding errors."""
TOLD = (Conditions(), Conditions("female", 25, 20), Conditions(), Conditions("male", 60, 34))
"""What a conditioned translator is told of the skulls, in turns: nothing, or all of somebody."""


@dataclass(frozen=True)
class Parity:
    """What a comparison found, with the limits it was held to. True if every limit was kept."""

    rows: tuple[ParityRow, ...]

    def __bool__(self) -> bool:
        return all(row.passed for row in self.rows)

    def __str__(self) -> str:
        return "; ".join(map(_describe, self.rows))


def read_films(films: Sequence[Path], source: TensorSpec) -> Pictures:
    """Turn film files into the suppressor's input. Raises ImageError and FilmError likewise."""
    _refuse_few(films)
    standard = [standardise_xray(read_film(path)) for path in films]
    return np.concatenate([imaging.to_tensor(film, source) for film in standard])


def read_skulls(
    films: Sequence[Path], recipe: str, source: TensorSpec, suppressor: Suppressor | None = None
) -> Pictures:
    """Turn film files into the translator's input, exactly as the field does.

    Raises ImageError and FilmError, also for fewer than MIN_FILMS films and for a blank one.
    """
    _refuse_few(films)
    return np.concatenate([_read_skull(path, recipe, source, suppressor) for path in films])


def tell_skulls(skulls: Pictures, attributes: Sequence[str]) -> Pictures:
    """Append condition planes, each skull once with nothing known and once with everything.

    Without attributes the skulls stay as they are.
    """
    if not attributes:
        return skulls
    twice = np.repeat(skulls, 2, axis=0)
    planes = [told.planes(attributes, *skulls.shape[2:]) for told in TOLD]
    return np.concatenate([twice, np.stack([*islice(cycle(planes), len(twice))])], axis=1)


def draw_faces(run: Run, skulls: Pictures, drawn: TensorSpec, source: TensorSpec) -> Pictures:
    """Translate skulls into the embedder's input, as the field does.

    Args:
        run: The translator.
        skulls: Its input.
        drawn: What the translator gives.
        source: What the embedder takes.
    """
    pictures = [imaging.to_picture(run(skull[None])[0], drawn) for skull in skulls]
    return np.concatenate([imaging.to_tensor(picture, source) for picture in pictures])


def compare_translator(
    network: nn.Module, model: bytes, skulls: Pictures, weights: Weights
) -> Parity:
    """Compare the faces of a generator and of its ONNX file by their largest difference."""
    return _compare(network, model, skulls, weights, "max_abs_difference", MAX_FACE_DIFFERENCE)


def compare_suppressor(
    network: nn.Module, model: bytes, films: Pictures, weights: Weights
) -> Parity:
    """Compare what a suppressor and its ONNX file make of films by their largest difference."""
    return _compare(network, model, films, weights, "max_abs_difference", MAX_LAYER_DIFFERENCE)


def compare_embedder(
    network: nn.Module, model: bytes, faces: Pictures, weights: Weights
) -> Parity:
    """Compare the embeddings of an embedder and of its ONNX file by their least cosine.

    Raises BundleError if an embedding is not of length 1.
    """
    return _compare(network, model, faces, weights, "min_cosine", MIN_EMBEDDING_COSINE)


def compare_film(network: nn.Module, model: bytes, looks: Pictures, weights: Weights) -> Parity:
    """Compare the answers of a film network and of its ONNX file by their largest difference.

    Answers are compared as the field reads them: a network that is sure gives logits so large that
    their rounding alone exceeds any limit that is strict enough for places.
    """
    measure: Measure = "max_abs_difference"
    limit = MAX_FILM_DIFFERENCE
    return _compare(network, model, looks, weights, measure, limit, read_answers)


def compare_half(
    single: bytes, half: bytes, network: nn.Module, pictures: Pictures, target: Target
) -> Parity:
    """Compare what a network makes of pictures in 32 bits and in 16, both ways that the CPU has.

    Pictures by their PSNR, embeddings by their cosine, answers of a film model as the field reads
    them; the worst one counts.

    Args:
        single: The graph in 32 bits, the reference.
        half: The graph in 16, run by ONNX Runtime, which rounds its weights alone.
        network: What that graph was made from (to_half): emulated, it rounds after every layer.
        pictures: The network's input.
        target: Its output.
    """
    with open_session(single, "cpu") as reference, open_session(half, "cpu") as session:
        drawn = _run(reference.run, pictures, 1)
        trusted, info = reference.describe(), session.describe()
        candidates = {
            f"{info.runtime}, {info.provider}, fp16": _run(session.run, pictures, 1),
            EMULATED: _run(_torch_runner(emulate(network)), pictures, 1),
        }
    name = f"{trusted.runtime}, {trusted.provider}, fp32"
    return Parity(
        tuple(_hold(name, other, drawn, found, target) for other, found in candidates.items())
    )


def compare_openvino(model: bytes, pictures: Pictures, target: Target) -> Parity:
    """Compare what ONNX Runtime and OpenVINO make of pictures, the worst one counting.

    In 32 bits it is held to the limits that 16 bits have to keep. In bfloat16, where the CPU
    computes in it, the row is for information: 8 bits keep no such limit, and who asks for
    `--device openvino-bf16` should find here what it costs.

    Raises DeviceError without OpenVINO.
    """
    with open_session(model, "cpu") as session:
        drawn = _run(session.run, pictures, 1)
        name = f"{session.describe().runtime}, {session.describe().provider}, fp32"

    def hold(device: Literal["openvino", "openvino-bf16"]) -> ParityRow:
        with open_session(model, device) as session:
            info = session.describe()
            found = _run(session.run, pictures, 1)
        return _hold(name, f"{info.runtime}, {info.provider}", drawn, found, target)

    rows = [hold("openvino")]
    try:
        rows.append(replace(hold("openvino-bf16"), limit=None))
    except DeviceError as error:
        logger.warning("OpenVINO in bfloat16 is not compared: %s", error)
    return Parity(tuple(rows))


def _hold(
    reference: str, candidate: str, drawn: Outputs, found: Outputs, target: Target
) -> ParityRow:
    """Hold outputs of one picture each against the reference's."""
    held = agreement.compare_half(drawn, found, target)
    return ParityRow(
        reference=reference,
        candidate=candidate,
        measure=held.measure,
        value=held.value,
        limit=held.limit,
        pictures=len(drawn),
        batches=(1,),
    )


def compare_ranks(
    single: tuple[bytes, bytes],
    half: tuple[nn.Module, nn.Module],
    skulls: Pictures,
    drawn: TensorSpec,
    source: TensorSpec,
) -> ParityRow:
    """Count how many of the first 50 portraits of a gallery networks of 16 and of 32 bits share.

    The gallery is that of the packaged simulated people, embedded in 32 bits. For information:
    neighbours in a list can lie nearer to one another than any 16 bits can tell apart.

    Args:
        single: The graphs of translator and embedder in 32 bits.
        half: What their graphs in 16 were made from (to_half), emulated here.
        skulls: The translator's input.
        drawn: What the translator gives.
        source: What the embedder takes.
    """
    portraits = [read_face(path) for path in sorted((demo_folder() / "photos").glob("*.jpg"))]
    stored = np.concatenate([imaging.to_tensor(picture, source) for picture in portraits])
    with open_session(single[0], "cpu") as drawer, open_session(single[1], "cpu") as comparer:
        gallery, info = _run(comparer.run, stored, 1), comparer.describe()
        draw, embed = (_torch_runner(emulate(network)) for network in half)
        lists = []
        for to_face, to_embedding in ((drawer.run, comparer.run), (draw, embed)):
            faces = draw_faces(to_face, skulls, drawn, source)
            similarity = _run(to_embedding, faces, 1) @ gallery.T
            lists.append(np.argsort(-similarity, axis=1, kind="stable")[:, :LISTED])
    shared = [len({*one} & {*other}) for one, other in zip(*lists, strict=True)]
    return ParityRow(
        reference=f"{info.runtime}, {info.provider}, fp32",
        candidate=EMULATED,
        measure="shared_of_50",
        value=float(np.mean(shared)),
        limit=None,
        pictures=len(skulls),
        batches=(1,),
    )


def _as_given(outputs: Outputs) -> Outputs:
    return outputs


def _compare(
    network: nn.Module,
    model: bytes,
    pictures: Pictures,
    weights: Weights,
    measure: Measure,
    limit: float,
    read: Read = _as_given,
) -> Parity:
    """Hold ONNX against PyTorch with the same weights; beside it, say what rounding them did.

    `read` turns outputs into what is compared.
    """
    with open_session(model, "cpu") as session:
        outputs = [read(_run(session.run, pictures, size)) for size in BATCHES]
        info = session.describe()

    def row(reference: str, network: nn.Module, limit: float | None) -> ParityRow:
        return ParityRow(
            reference=f"PyTorch {torch.__version__}, {reference}",
            candidate=f"{info.runtime}, {info.provider}, {weights} weights",
            measure=measure,
            value=_measure(measure, network, pictures, outputs, read),
            limit=limit,
            pictures=len(pictures),
            batches=BATCHES,
        )

    if weights == "single":
        return Parity((row("single weights", network, limit),))
    rounded = row("rounded weights", round_weights(network), limit)
    return Parity((rounded, row("single weights", network, None)))


def _measure(
    measure: Measure,
    network: nn.Module,
    pictures: Pictures,
    outputs: Sequence[Outputs],
    read: Read,
) -> float:
    """Return the worst value over the batch sizes; not a number stays so, and fails."""
    references = [read(_run(_torch_runner(network), pictures, size)) for size in BATCHES]
    pairs = list(zip(references, outputs, strict=True))
    if measure == "max_abs_difference":
        return float(np.max([np.abs(one - other).max() for one, other in pairs]))
    return float(np.min([cosines(one, other).min() for one, other in pairs]))


def _run(run: Run, pictures: Pictures, size: int) -> Outputs:
    return np.concatenate([run(pictures[at : at + size]) for at in range(0, len(pictures), size)])


def _torch_runner(network: nn.Module) -> Run:
    def run(batch: Pictures) -> Outputs:
        with torch.inference_mode():
            output: Outputs = network(torch.from_numpy(batch)).numpy()
        return output

    return run


def read_looks(films: Sequence[Path], source: TensorSpec) -> Pictures:
    """Turn film files into what the film network sees of them at first.

    Raises ImageError and FilmError.
    """
    return np.concatenate([first_look(read_film(path), source) for path in films])


def _read_skull(
    path: Path, recipe: str, source: TensorSpec, suppressor: Suppressor | None
) -> Pictures:
    skull = soft_tissue.separate(standardise_xray(read_film(path)), recipe, suppressor).skull
    if skull.std() < MIN_SPREAD:
        raise FilmError(f"{path} is blank once its soft tissue is removed: give another film")
    return imaging.to_tensor(skull, source)


def _refuse_few(films: Sequence[Path]) -> None:
    if len(films) < MIN_FILMS:
        raise FilmError(f"{len(films)} films are too few for parity: give {MIN_FILMS} or more")


def _describe(row: ParityRow) -> str:
    demanded = "for information" if row.limit is None else f"limit {row.limit:g}"
    return f"{row.measure} {row.value:.9g} ({demanded}) of {row.candidate} to {row.reference}"
