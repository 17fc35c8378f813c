"""A bundle with a film model: exported, and used by the library and the command line."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from export.build import build_bundle, export_film
from export.card import render_card
from export.parity import compare_film, read_looks
from export.to_onnx import to_onnx
from fcr_edge import imaging, reading, report
from fcr_edge.bundle import Bundle, write_bundle
from fcr_edge.cli import app
from fcr_edge.errors import DataError, FilmError
from fcr_edge.identify import Identifier
from fcr_edge.looks import VALUES
from fcr_edge.manifest import Description, ModelFile, Role, TensorSpec, VectorSpec
from fcr_edge.understanding import LIMITS
from fcr_train.checkpoint import Checkpoint, save_checkpoint
from fcr_train.config import FilmConfig, load_preset, to_table
from fcr_train.film_network import FilmNetwork

STRICT = {**LIMITS, "skull, refuse": 2.0}
"""A probability that no film reaches: everything is refused."""


@pytest.fixture(scope="module")
def film_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = load_preset("film", "tiny")
    assert isinstance(config, FilmConfig)
    torch.manual_seed(1)
    network = FilmNetwork(config)
    data = {"sha256": "d" * 64, "people": 8, "held_out": [], "seed": 1, "limits": STRICT}
    path = tmp_path_factory.mktemp("film") / "film.safetensors"
    tensors = network.state_dict()
    save_checkpoint(path, Checkpoint("film", "film", "tiny", to_table(config), 20, tensors, data))
    return path


@pytest.fixture(scope="module")
def film_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    bundle: Bundle,
    film_checkpoint: Path,
    films: list[Path],
) -> Bundle:
    """The session's bundle with a film model beside its networks."""
    folder = tmp_path_factory.mktemp("export") / "bundle"
    entry, exported = export_film(film_checkpoint, films)
    parts = {part.name: getattr(bundle.manifest, part.name) for part in fields(Description)}
    description = Description(**{**parts, "film": entry})
    models = {file.path: bundle.model_bytes(role) for role, file in _list_files(bundle)}
    write_bundle(folder, description, render_card(description), {**models, **exported})
    return Bundle.load(folder, allow_unsigned=True)


def _list_files(bundle: Bundle) -> list[tuple[Role, ModelFile]]:
    return [(role, entry.fp32) for role, entry in bundle.manifest.models.items()]


def test_the_bundle_holds_the_film_model_and_its_limits(film_bundle: Bundle) -> None:
    entry = film_bundle.manifest.film

    assert entry is not None
    assert entry.output.values == VALUES
    assert entry.limits == STRICT
    assert entry.parity[0].passed
    assert "held_out" not in entry.training_data or entry.training_data["held_out"] == 0
    card = (film_bundle.folder / "MODEL_CARD.md").read_text()
    assert "## The film" in card
    assert "skull, refuse 2" in card


def test_the_film_model_gives_one_vector_a_film(film_bundle: Bundle) -> None:
    graph = onnx.load_from_string(film_bundle.model_bytes("film")).graph

    shape = [
        side.dim_param or side.dim_value for side in graph.output[0].type.tensor_type.shape.dim
    ]

    assert shape == ["batch", len(VALUES)]


def test_a_bundle_without_a_film_model_takes_films_as_they_are(
    bundle: Bundle, films: list[Path]
) -> None:
    with Identifier(bundle, "cpu") as identifier:
        made = identifier.reconstruct(films[0])

    assert made.understood is None
    record = report.make_skull_record(reading.read_film(films[0]), None, made.separation)
    assert "understanding" not in record


def test_a_refused_film_stops_unless_it_is_forced(film_bundle: Bundle, films: list[Path]) -> None:
    with Identifier(film_bundle, "cpu") as identifier:
        with pytest.raises(FilmError, match="does not look like a film of a skull"):
            identifier.reconstruct(films[0])
        made = identifier.reconstruct(films[0], force=True)

    assert made.understood is not None
    np.testing.assert_array_equal(made.film, made.understood.film)
    assert made.warnings[0] == "the film was used although it should be refused"


def test_preprocess_puts_a_film_right_by_a_bundle(
    film_bundle: Bundle, films: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "skull.png"
    command = [
        "preprocess",
        str(films[0]),
        "-o",
        str(out),
        "--bundle",
        str(film_bundle.folder),
        "--allow-unsigned",
    ]

    refused = CliRunner().invoke(app, command)
    forced = CliRunner().invoke(app, [*command, "--recipe", "none", "--force", "--json"])

    assert refused.exit_code == 3
    assert "was refused" in refused.stderr
    assert forced.exit_code == 0
    record = json.loads(forced.stdout)
    assert record["understanding"]["verdict"] == "refuse"
    assert imaging.read_picture(out).shape == (256, 256)


def test_another_checkpoint_is_no_film_model(
    checkpoints: tuple[Path, Path], films: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="pass a film"):
        build_bundle(*checkpoints, films, tmp_path / "bundle", film=checkpoints[0])


def test_findings_are_compared_as_probabilities(films: list[Path]) -> None:
    config = load_preset("film", "tiny")
    assert isinstance(config, FilmConfig)
    torch.manual_seed(1)
    network = FilmNetwork(config).eval()
    source = TensorSpec("film", channels=1, height=config.size, width=config.size, low=-1, high=1)
    with torch.no_grad():
        network.find.weight.mul_(1e7)  # logits whose rounding alone is above the limit
    model = to_onnx(network, source, VectorSpec("answers", VALUES), "single")
    with torch.no_grad():
        network.votes.bias[0] += 0.01  # the column of the first landmark

    looks = read_looks(films, source)
    moved = compare_film(network, model, looks, "single")
    with torch.no_grad():
        network.votes.bias[0] -= 0.01

    assert not moved
    assert compare_film(network, model, looks, "single")
