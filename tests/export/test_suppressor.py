"""A suppressor goes into the bundle, and the field makes skulls with it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export import build
from export.build import STEPS, SUPPRESSOR_FILE, build_bundle, export_suppressor
from export.parity import MAX_LAYER_DIFFERENCE
from fcr_edge import cli, film, imaging, reading
from fcr_edge.bundle import Bundle
from fcr_edge.errors import DataError, FilmError
from fcr_edge.identify import Identifier
from fcr_edge.report import make_skull_record
from fcr_edge.sessions import open_session
from fcr_train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fcr_train.config import load_preset, to_table
from fcr_train.suppressor import SuppressorUnet, load_suppressor

LIMIT = 0.25


@pytest.fixture(scope="module")
def suppressor(tmp_path_factory):
    """An untrained network with normalisation other than that of its first day."""
    torch.manual_seed(1)
    config = load_preset("suppressor", "tiny")
    network = SuppressorUnet(config)
    for _ in range(3):
        network(torch.rand(2, 1, 64, 64))
    data = {"sha256": "d" * 64, "people": 8, "films": "xray"}
    data |= {"least_confidence": LIMIT, "skull_floor": 9, "bone_floor": 4}
    path = tmp_path_factory.mktemp("suppressor") / "suppressor.safetensors"
    save_checkpoint(
        path,
        Checkpoint(
            "suppressor", "suppressor", "tiny", to_table(config), 3, network.state_dict(), data
        ),
    )
    return path


@pytest.fixture(scope="module")
def on_skulls(checkpoints, tmp_path_factory):
    """The translator's checkpoint, as if it had learned from skulls cut out by hand."""
    return retell(checkpoints[0], tmp_path_factory.mktemp("skulls") / "translator", "skull")


def retell(path, target, films):
    checkpoint = load_checkpoint(path)
    save_checkpoint(target, replace(checkpoint, data=checkpoint.data | {"films": films}))
    return target


@pytest.fixture(scope="module")
def learned(suppressor, on_skulls, save_embedder, films, tmp_path_factory):
    embedder = save_embedder(tmp_path_factory.mktemp("embedder") / "e.safetensors", "resnet18")
    folder = tmp_path_factory.mktemp("learned") / "bundle"
    steps = []
    build_bundle(
        on_skulls,
        embedder,
        films,
        folder,
        name="learned",
        suppressor=suppressor,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, STEPS) for done in range(1, STEPS + 1)]
    return Bundle.load(folder, allow_unsigned=True)


def test_the_bundle_holds_the_suppressor_and_its_recipe(learned):
    entry = learned.manifest.suppressor

    assert learned.manifest.soft_tissue == "learned-1"
    assert (learned.folder / SUPPRESSOR_FILE).is_file()
    assert entry.least_confidence == LIMIT
    assert entry.floors == (9, 4)
    assert (entry.input.height, entry.output.channels) == (176, 3)
    (row,) = entry.parity
    assert row.passed
    assert row.limit == MAX_LAYER_DIFFERENCE
    card = (learned.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## The suppressor" in card
    assert "below 0.25 gives a warning. Skull below grey level 9 and bone below 4 go black" in card


def test_the_field_computes_what_the_workshop_does(learned, suppressor, films):
    network, _ = load_suppressor(suppressor)
    standard = film.standardise_xray(reading.read_film(films[0]))
    batch = imaging.to_tensor(standard, learned.manifest.suppressor.input)

    with open_session(learned.model_bytes("suppressor"), "cpu") as session:
        layers = session.run(batch)

    with torch.inference_mode():
        assert np.abs(network(torch.from_numpy(batch)).numpy() - layers).max() < 1e-4


def test_reconstruct_takes_the_skull_that_the_network_makes(learned, films):
    with Identifier(learned, "cpu") as identifier:
        made = identifier.reconstruct(films[0])

    record = make_skull_record(reading.read_film(films[0]), None, made.separation)
    assert made.separation.recipe == "learned-1"
    assert np.array_equal(made.skull, made.separation.skull)
    assert made.skull.shape == made.film.shape
    assert record["suppressor"] == {
        "model_sha256": learned.manifest.suppressor.fp32.sha256,
        "mean_confidence": made.separation.mean_confidence,
    }


def test_preprocess_takes_the_bundles_recipe_and_keeps_the_steps(learned, films, tmp_path):
    out = tmp_path / "skull.png"
    command = [
        "preprocess",
        films[0],
        "-o",
        out,
        "-b",
        learned.folder,
        "--allow-unsigned",
        "--keep-steps",
        "--json",
    ]

    done = CliRunner().invoke(cli.app, [str(word) for word in command], catch_exceptions=False)

    record = json.loads(done.stdout)
    assert done.exit_code == 0
    assert record["soft_tissue"] == "learned-1"
    assert record["suppressor"]["model_sha256"] == learned.manifest.suppressor.fp32.sha256
    assert 0 < record["suppressor"]["mean_confidence"] < 1
    assert str(out) in done.stderr
    assert str(tmp_path / "skull-steps.png") in done.stderr
    assert imaging.read_picture(tmp_path / "skull-steps.png").shape[1] > 5 * 256


@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        pytest.param((), "classical-2", id="the packaged bundle has no network"),
        pytest.param(("--recipe", "none"), "none", id="asked for"),
    ],
)
def test_preprocess_without_a_network(films, tmp_path, monkeypatch, bundle, options, recipe):
    monkeypatch.setattr("fcr_edge.identify.demo_folder", lambda: bundle.folder.parent)
    command = ["preprocess", str(films[0]), "-o", str(tmp_path / "skull.png"), "--json"]
    command.append("--allow-unsigned")  # it only poses as the packaged one

    done = CliRunner().invoke(cli.app, [*command, *options], catch_exceptions=False)

    record = json.loads(done.stdout)
    assert record["soft_tissue"] == recipe
    assert record["suppressor"] == {"model_sha256": None, "mean_confidence": None}


def test_preprocess_by_a_network_that_is_not_there_is_refused(films, tmp_path, bundle):
    command = [
        "preprocess",
        films[0],
        "-o",
        tmp_path / "s.png",
        "-b",
        bundle.folder,
        "--allow-unsigned",
    ]

    done = CliRunner().invoke(cli.app, [*map(str, command), "--recipe", "learned-1"])

    assert done.exit_code == 3
    assert "has no suppressor" in done.stderr


def test_a_translator_of_other_skulls_is_refused(suppressor, checkpoints, films, tmp_path):
    other = retell(checkpoints[0], tmp_path / "translator", "xray")

    with pytest.raises(DataError, match="'xray' by the recipe 'classical-2'"):
        build_bundle(other, checkpoints[1], films, tmp_path / "out", suppressor=suppressor)

    assert not (tmp_path / "out").exists()


def test_a_translator_that_does_not_say_gets_a_warning(checkpoints, caplog):
    build._refuse_other_skulls(load_checkpoint(checkpoints[0]))

    assert "does not say which films it learned from" in caplog.text


def test_too_few_films_are_refused(suppressor, on_skulls, checkpoints, films, tmp_path):
    with pytest.raises(FilmError, match="too few"):
        build_bundle(on_skulls, checkpoints[1], films[:2], tmp_path / "o", suppressor=suppressor)


def test_a_suppressor_of_an_earlier_version_is_refused(suppressor, films, tmp_path):
    checkpoint = load_checkpoint(suppressor)
    data = {name: value for name, value in checkpoint.data.items() if name != "skull_floor"}
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, replace(checkpoint, data=data))

    with pytest.raises(DataError, match=r"does not state skull_floor.*--resume"):
        export_suppressor(path, films)
