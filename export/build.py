"""Checkpoints go in, a bundle comes out: exported, checked, compared with PyTorch."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy
import onnx
import onnxruntime
import onnxscript
import torch

import fcr_edge
from export.card import render_card
from export.parity import (
    compare_embedder,
    compare_film,
    compare_half,
    compare_openvino,
    compare_ranks,
    compare_suppressor,
    compare_translator,
    draw_faces,
    read_films,
    read_looks,
    read_skulls,
    tell_skulls,
)
from export.to_fp16 import to_half
from export.to_onnx import IR_VERSION, OPSET, to_onnx
from fcr_edge.bundle import check_replaceable, describe_model, write_bundle
from fcr_edge.errors import BundleError, DataError
from fcr_edge.looks import VALUES
from fcr_edge.manifest import (
    LEARNED_RECIPE,
    Description,
    EmbedderEntry,
    EmbeddingSpec,
    FilmEntry,
    SuppressorEntry,
    TensorSpec,
    TranslatorEntry,
    VectorSpec,
    check_name,
)
from fcr_edge.sessions import open_session
from fcr_edge.soft_tissue import Suppressor
from fcr_train.checkpoint import digest
from fcr_train.dataset import read_dataset
from fcr_train.embedders import load_embedder
from fcr_train.evaluate.card import INTENDED_USE
from fcr_train.evaluate.record import Evaluation
from fcr_train.film_network import load_film_network
from fcr_train.suppressor import load_suppressor
from fcr_train.translators import load_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from torch import nn

    from export.parity import Parity, Pictures
    from export.to_onnx import Target, Weights
    from fcr_edge.manifest import Fusion, Manifest, ModelFile, ParityRow, Scalar

    Compare = Callable[[nn.Module, bytes, Pictures, Weights], Parity]
    from fcr_train.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

TRANSLATOR_FILE = "translator.onnx"
EMBEDDER_FILE = "embedder.onnx"
FILM_FILE = "film.onnx"
SUPPRESSOR_FILE = "suppressor.onnx"

UNSTATED_LICENCE = "NOASSERTION"
"""What SPDX writes where nobody has said anything."""
SINGLE_ENDING, HALF_ENDING = ".onnx", ".fp16.onnx"

PARITY_FILMS = 8
"""Films that choose_films takes: both views of several people, a few seconds of work."""

FILM_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".pgm")

STEPS = 6
"""What build_bundle counts: film model and suppressor, films read, translator, faces, embedder,
the folder."""


@dataclass(frozen=True)
class Form:
    """In which form networks go into a bundle."""

    weights: Weights = "single"
    """How large weights of the networks of 32 bits are stored; see to_onnx."""
    fp16: bool = False
    """Whether each network comes a second time, computing in 16 bits; see to_fp16."""
    openvino: bool = False
    """Whether each network is compared with itself in OpenVINO as well."""
    licence: str = UNSTATED_LICENCE
    """SPDX identifier of the licence of the weights."""


def build_bundle(
    translator: Path,
    embedder: Path,
    films: Sequence[Path],
    out: Path,
    name: str = "fcr",
    *,
    evaluation: Path | None = None,
    suppressor: Path | None = None,
    film: Path | None = None,
    form: Form = Form(),
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Export trained networks into a bundle; whatever fails, nothing is written.

    Args:
        translator: Checkpoint of a translator.
        embedder: Checkpoint of an embedder.
        films: Real or simulated X-rays, three or more, on which PyTorch and ONNX are compared; the
            embedder is compared on the faces drawn from them.
        out: Folder of the bundle: new, empty or a bundle, which is replaced.
        name: Short name of the bundle.
        evaluation: Evaluation of these very networks; its rule for two films goes into the bundle.
        suppressor: Checkpoint of a soft-tissue remover; the bundle's recipe is then `learned-1`,
            and its translator has to come from skulls cut out by hand.
        film: Checkpoint of a network that tells what a film shows; without one the bundle takes
            films as they are.
        form: In which form networks are written.
        progress: Called with (steps done, STEPS).

    Raises:
        DataError: A checkpoint is missing, damaged or of the other kind, the evaluation is of
            others, or the translator was trained on skulls of another recipe than the
            suppressor's.
        ImageError, FilmError: A film cannot be used.
        BundleError: A graph breaks the contract, parity fails, or `out` cannot be written.
        DeviceError: OpenVINO is to be compared with, and is not installed.
    """
    tell = progress or (lambda done, total: None)
    check_name(name)
    check_replaceable(out)
    generator, drawn = load_generator(translator)
    network, embedded = load_embedder(embedder)
    fusion = None if evaluation is None else read_fusion(evaluation, translator, embedder)
    models: dict[str, bytes] = {}
    seer = remover = None
    if film is not None:
        seer, exported = export_film(film, films, form)
        models |= exported
    if suppressor is not None:
        _refuse_other_skulls(drawn)
        remover, exported = export_suppressor(suppressor, films, form)
        models |= exported
    tell(1, STEPS)
    recipe, skulls = _make_skulls(films, drawn, remover, models.get(SUPPRESSOR_FILE, b""))
    tell(2, STEPS)

    drawer, exported = _export_translator(_Trained(translator, generator, drawn), skulls, form)
    models |= exported
    tell(3, STEPS)
    with open_session(models[TRANSLATOR_FILE], "cpu") as session:
        faces = draw_faces(session.run, skulls, drawer.output, _portrait(embedded))
    tell(4, STEPS)
    comparer, exported = _export_embedder(_Trained(embedder, network, embedded), faces, form)
    models |= exported
    if form.fp16:
        single = models[TRANSLATOR_FILE], models[EMBEDDER_FILE]
        half = to_half(generator), to_half(network)
        row = compare_ranks(single, half, skulls, drawer.output, comparer.input)
        comparer = replace(comparer, parity=(*comparer.parity, row))
    tell(5, STEPS)

    description = Description(
        name=name,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        intended_use=INTENDED_USE,
        versions=_versions(),
        soft_tissue=recipe,
        translator=drawer,
        embedder=comparer,
        fusion=fusion,
        suppressor=remover,
        film=seer,
    )
    manifest = write_bundle(out, description, render_card(description), models)
    tell(STEPS, STEPS)
    return manifest


@dataclass(frozen=True)
class _Trained:
    """A network as it was loaded."""

    path: Path
    network: nn.Module
    checkpoint: Checkpoint


def _make_skulls(
    films: Sequence[Path], drawn: Checkpoint, remover: SuppressorEntry | None, model: bytes
) -> tuple[str, Pictures]:
    """Turn films into the translator's input by the bundle's recipe, which is given, too."""
    source = replace(_skull(drawn), channels=1)
    if remover is None:
        recipe = str(drawn.config["soft_tissue"])
        skulls = read_skulls(films, recipe, source)
    else:
        recipe = LEARNED_RECIPE
        with open_session(model, "cpu") as session:
            skulls = read_skulls(films, recipe, source, Suppressor(session, remover))
    return recipe, tell_skulls(skulls, _conditions(drawn))


@dataclass(frozen=True)
class _Graphs:
    """A network as ONNX files, and how they compare."""

    files: tuple[ModelFile, ...]
    parity: tuple[ParityRow, ...]
    models: dict[str, bytes]
    """Name of the file -> bytes."""


def _export(
    network: nn.Module,
    path: str,
    sides: tuple[TensorSpec, Target],
    pictures: Pictures,
    form: Form,
    compare: Compare,
) -> _Graphs:
    """Export a network of these input and output, compared on pictures. Raises BundleError."""
    model = to_onnx(network, *sides, form.weights)
    parity = compare(network, model, pictures, form.weights)
    _insist(parity, path)
    files, models, rows = [describe_model(path, model, form.weights)], {path: model}, parity.rows
    if form.openvino:
        parity = compare_openvino(model, pictures, sides[1])
        _insist(parity, path)
        rows += parity.rows
    if form.fp16:
        path = path.replace(SINGLE_ENDING, HALF_ENDING)
        narrow = to_half(network)
        models[path] = half = to_onnx(narrow, *sides)
        parity = compare_half(model, half, narrow, pictures, sides[1])
        _insist(parity, path)
        files.append(describe_model(path, half, "half", "fp16"))
        rows += parity.rows
    return _Graphs(tuple(files), rows, models)


def _export_translator(
    trained: _Trained, skulls: Pictures, form: Form
) -> tuple[TranslatorEntry, dict[str, bytes]]:
    """Export a translator, compared with PyTorch on these skulls. Raises BundleError."""
    drawn = trained.checkpoint
    face = replace(_skull(drawn), name="face", channels=3)
    sides = _skull(drawn), face
    graphs = _export(trained.network, TRANSLATOR_FILE, sides, skulls, form, compare_translator)
    entry = TranslatorEntry(
        **_describe_training(trained.path, trained.network, drawn, form.licence),
        files=graphs.files,
        input=_skull(drawn),
        output=face,
        conditions=_conditions(drawn),
        parity=graphs.parity,
    )
    return entry, graphs.models


def _export_embedder(
    trained: _Trained, faces: Pictures, form: Form
) -> tuple[EmbedderEntry, dict[str, bytes]]:
    """Export an embedder, compared with PyTorch on these faces. Raises BundleError."""
    portrait = _portrait(trained.checkpoint)
    with torch.inference_mode():
        dimension = trained.network(torch.zeros(1, 3, portrait.height, portrait.width)).shape[1]
    embedding = EmbeddingSpec("embedding", dimension)
    sides = portrait, embedding
    graphs = _export(trained.network, EMBEDDER_FILE, sides, faces, form, compare_embedder)
    entry = EmbedderEntry(
        **_describe_training(trained.path, trained.network, trained.checkpoint, form.licence),
        files=graphs.files,
        input=portrait,
        output=embedding,
        parity=graphs.parity,
    )
    return entry, graphs.models


def export_film(
    path: Path, films: Sequence[Path], form: Form = Form()
) -> tuple[FilmEntry, dict[str, bytes]]:
    """Export the network that tells what a film shows, compared with PyTorch on these films.

    Returns its entry and its files. Raises DataError for another checkpoint, BundleError where
    parity fails.
    """
    network, trained = load_film_network(path)
    size = int(trained.config["size"])
    source = TensorSpec("film", channels=1, height=size, width=size, low=-1, high=1)
    target = VectorSpec("answers", VALUES)
    looks = read_looks(films, source)
    graphs = _export(network, FILM_FILE, (source, target), looks, form, compare_film)
    entry = FilmEntry(
        **_describe_training(path, network, trained, form.licence),
        files=graphs.files,
        input=source,
        output=target,
        limits={name: float(limit) for name, limit in trained.data["limits"].items()},
        parity=graphs.parity,
    )
    return entry, graphs.models


def choose_films(folder: Path) -> list[Path]:
    """Choose up to PARITY_FILMS X-rays, evenly spread, from a dataset or a folder of pictures.

    Raises DataError if there are none.
    """
    if (folder / "dataset.json").is_file():
        dataset = read_dataset(folder)
        films = [row.path for row in dataset.pictures if row.kind == dataset.film_kind]
    elif folder.is_dir():
        films = sorted(path for path in folder.iterdir() if path.suffix.lower() in FILM_SUFFIXES)
    else:
        raise DataError(f"there is no folder {folder}: name a dataset, or a folder of X-rays")
    if not films:
        raise DataError(f"{folder} holds no X-rays: name a dataset, or a folder of pictures")
    count = min(PARITY_FILMS, len(films))
    return [films[index * len(films) // count] for index in range(count)]


def read_fusion(evaluation: Path, translator: Path, embedder: Path) -> Fusion | None:
    """Read how two films are put together from the evaluation of these networks; None for one.

    Raises DataError where it cannot be read, or is of other networks.
    """
    try:
        found = Evaluation.from_json(evaluation.read_text(encoding="utf-8"))
    except OSError as err:
        raise DataError(
            f"cannot read the evaluation {evaluation} ({err.strerror}): check the path"
        ) from err
    measured = [one and one.checkpoint_sha256 for one in (found.translator, found.embedder)]
    if measured != [digest(translator), digest(embedder)]:
        raise DataError(
            f"{evaluation} is the evaluation of other networks: pass that of {translator} and"
            f" {embedder}, or none"
        )
    return found.fusion


def export_suppressor(
    path: Path, films: Sequence[Path], form: Form = Form()
) -> tuple[SuppressorEntry, dict[str, bytes]]:
    """Export a suppressor, compared with PyTorch on films; return its entry and its files.

    Raises DataError, ImageError, FilmError and BundleError as build_bundle does.
    """
    network, checkpoint = load_suppressor(path)
    limits = _read_limits(path, checkpoint)
    size = int(checkpoint.config["size"])
    source = TensorSpec("film", channels=1, height=size, width=size, low=0, high=1)
    target = TensorSpec("layers", channels=3, height=size, width=size, low=0, high=1)
    pictures = read_films(films, source)
    sides = source, target
    graphs = _export(network, SUPPRESSOR_FILE, sides, pictures, form, compare_suppressor)
    entry = SuppressorEntry(
        **_describe_training(path, network, checkpoint, form.licence),
        files=graphs.files,
        input=source,
        output=target,
        least_confidence=float(limits["least_confidence"]),
        floors=(int(limits["skull_floor"]), int(limits["bone_floor"])),
        parity=graphs.parity,
    )
    return entry, graphs.models


def _read_limits(path: Path, checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return what a suppressor's training chose. Raises DataError for one that chose less."""
    missing = {"least_confidence", "skull_floor", "bone_floor"} - checkpoint.data.keys()
    if missing:
        raise DataError(
            f"{path} does not state {', '.join(sorted(missing))}: an earlier version trained it;"
            " train on with --resume, or anew"
        )
    return checkpoint.data


def _refuse_other_skulls(translator: Checkpoint) -> None:
    """Refuse a translator that has not seen skulls such as a suppressor makes.

    A suppressor makes the skull that an examiner cuts out by hand. A translator that learned from
    films by another recipe would draw faces from pictures of a kind it never saw.
    """
    films = translator.data.get("films")
    if films is None:
        logger.warning(
            "the translator's checkpoint does not say which films it learned from: with a"
            " suppressor they have to be skulls cut out by hand (kind skull)"
        )
    elif films != "skull":
        raise DataError(
            f"the translator learned from films of kind {films!r} by the recipe"
            f" {translator.config['soft_tissue']!r}, and a suppressor makes skulls as cut out by"
            " hand: train it on a dataset of kind skull, or export without --suppressor"
        )


def _conditions(drawn: Checkpoint) -> tuple[str, ...]:
    return tuple(drawn.config.get("conditions", ()))  # none in older checkpoints


def _skull(drawn: Checkpoint) -> TensorSpec:
    """Specify what a translator takes: the skull, and the planes of its conditions."""
    size, channels = int(drawn.config["size"]), 1 + 2 * len(_conditions(drawn))
    return TensorSpec("skull", channels=channels, height=size, width=size, low=-1, high=1)


def _portrait(embedded: Checkpoint) -> TensorSpec:
    """Specify what an embedder takes."""
    size = int(embedded.config["size"])
    return TensorSpec("face", channels=3, height=size, width=size, low=0, high=1)


def _insist(parity: Parity, path: str) -> None:
    if not parity:
        raise BundleError(
            f"the exported {path} does not compute what the trained network does ({parity}):"
            " nothing was written; install the versions in constraints.txt, or report these"
            " figures"
        )
    logger.info("%s: %s", path, parity)


def _describe_training(
    path: Path, network: nn.Module, checkpoint: Checkpoint, licence: str
) -> dict[str, Any]:
    return {
        "architecture": type(network).__name__,
        "method": checkpoint.model,
        "preset": checkpoint.preset,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": checkpoint.step,
        "checkpoint_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "training_data": _flatten(checkpoint.data),
        "weights_licence": licence,
        "opset": OPSET,
        "ir_version": IR_VERSION,
    }


def _flatten(data: Mapping[str, Any]) -> dict[str, Scalar]:
    """Keep plain facts, and of a list its length: a bundle carries no names of people."""
    return {
        key: len(value) if isinstance(value, list) else value
        for key, value in sorted(data.items())
        if isinstance(value, (str, int, float, bool, list))
    }


def _versions() -> dict[str, str]:
    modules = (numpy, onnx, onnxruntime, onnxscript, torch)
    versions = {module.__name__: str(module.__version__) for module in modules}
    return {"fcr": fcr_edge.__version__, **versions}
