"""Two checkpoints become a bundle that says what it holds, or nothing is written."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import build
from export.build import PARITY_FILMS, STEPS, build_bundle, choose_films
from export.card import render_card
from fcr_edge import imaging
from fcr_edge.bundle import Bundle
from fcr_edge.errors import BundleError, DataError, FilmError
from fcr_edge.identify import Identifier
from fcr_train.checkpoint import Checkpoint

PACKAGED_DEMO_BYTES = 25_000_000


def test_the_manifest_says_what_the_graphs_are(bundle):
    for role, entry in bundle.manifest.models.items():
        model = onnx.load_from_string(bundle.model_bytes(role))
        (source,), (target,) = model.graph.input, model.graph.output
        sides = [side.dim_value for side in source.type.tensor_type.shape.dim][1:]

        assert (source.name, target.name) == (entry.input.name, entry.output.name)
        assert sides == [entry.input.channels, entry.input.height, entry.input.width]
        assert entry.opset == model.opset_import[0].version
        assert entry.ir_version == model.ir_version

    width = target.type.tensor_type.shape.dim[1].dim_value
    assert bundle.manifest.embedder.output.dimension == width


def test_the_manifest_says_where_the_networks_came_from(bundle, checkpoints):
    for path, entry in zip(checkpoints, bundle.manifest.models.values(), strict=True):
        assert entry.checkpoint_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry.preset == "tiny"
        assert entry.steps == 20
        assert entry.weights_licence == "Apache-2.0"
        assert entry.training_data == {
            "sha256": "d" * 64,
            "people": 8,
            "held_out": 2,  # how many; their names stay where they are
            "seed": 1,
        }
    assert bundle.manifest.translator.method == "fastcut"
    assert bundle.manifest.embedder.architecture == "FaceEmbedder"
    assert bundle.manifest.versions["torch"] == torch.__version__
    assert bundle.manifest.soft_tissue == "classical-2"


def test_the_manifest_holds_parity_within_its_limits(bundle):
    for entry in bundle.manifest.models.values():
        held, told = entry.parity

        assert held.passed
        assert held.limit is not None
        assert told.limit is None
        assert held.pictures == 4
        assert held.batches == (1, 3)


def test_the_bundle_with_densenet121_fits_into_the_packaged_demo(bundle):
    size = sum(path.stat().st_size for path in bundle.folder.iterdir())

    assert size < 0.7 * PACKAGED_DEMO_BYTES  # films and portraits take the rest


def test_progress_counts_to_its_end(bundle, steps):
    assert steps == [(done, STEPS) for done in range(1, STEPS + 1)]


def test_the_bundle_runs_in_the_field(bundle, films):
    with Identifier(bundle, "cpu") as identifier:
        made = identifier.reconstruct(films[0])
        (embedding,) = identifier.embed([made.face])

    assert made.face.shape == (64, 64, 3)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_the_card_says_what_it_is_and_what_it_is_not(bundle):
    card = (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert card == render_card(bundle.manifest)
    assert "never an identification" in card
    assert "simulated people measure the method" in card
    assert bundle.manifest.intended_use in card
    assert bundle.fingerprint in card
    for entry in bundle.manifest.models.values():
        assert entry.fp32.sha256 in card
        assert f"{entry.parity[0].value:.9g}" in card


class Draw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 1)

    def forward(self, skull: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(skull))


class Embed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head = nn.Linear(3, 4)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        z = self.head(face.mean(dim=(2, 3)))
        return z * torch.rsqrt((z * z).sum(1, keepdim=True).clamp_min(1e-24))


@pytest.fixture
def small(monkeypatch, tmp_path) -> tuple[Path, Path]:
    """Let two files that need not be checkpoints load as networks of a layer each."""

    def load(network: nn.Module, kind: str):
        config = {"size": 32, "soft_tissue": "none"}
        checkpoint = Checkpoint(kind, "model", "tiny", config, 1, {}, {"people": 3})
        return lambda path: (network.eval(), checkpoint)

    monkeypatch.setattr(build, "load_generator", load(Draw(), "translator"))
    monkeypatch.setattr(build, "load_embedder", load(Embed(), "embedder"))
    for name in ("translator", "embedder"):
        (tmp_path / name).write_text(name)
    return tmp_path / "translator", tmp_path / "embedder"


def test_single_weights_and_an_unstated_licence_are_the_default(small, films, tmp_path, caplog):
    caplog.set_level(logging.INFO)

    manifest = build_bundle(*small, films, tmp_path / "bundle")

    for entry in manifest.models.values():
        assert entry.fp32.weights == "single"
        assert entry.weights_licence == "NOASSERTION"
        assert len(entry.parity) == 1
    assert Bundle.load(tmp_path / "bundle", allow_unsigned=True).manifest == manifest
    assert [record.name for record in caplog.records] == ["export.build", "export.build"]


@pytest.mark.parametrize("role", ["translator", "embedder"])
def test_failed_parity_writes_nothing(small, films, tmp_path, monkeypatch, role):
    real = getattr(build, f"compare_{role}")
    wrong = {"translator": Draw(), "embedder": Embed()}[role]
    with torch.no_grad():
        for parameter in wrong.parameters():
            parameter += 0.1
    monkeypatch.setattr(build, f"compare_{role}", lambda network, *others: real(wrong, *others))

    with pytest.raises(
        BundleError, match=rf"exported {role}\.onnx does not compute .* nothing was written"
    ):
        build_bundle(*small, films, tmp_path / "bundle")

    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", ["", "my bundle", "../up"])
def test_a_bad_name_is_refused_before_the_work(small, films, tmp_path, monkeypatch, name):
    monkeypatch.setattr(build, "to_onnx", lambda *_: pytest.fail("was exported"))

    with pytest.raises(BundleError, match="cannot be the name of a bundle"):
        build_bundle(*small, films, tmp_path / "bundle", name)


def test_an_occupied_folder_is_refused_before_the_work(small, films, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "to_onnx", lambda *_: pytest.fail("was exported"))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match="left alone"):
        build_bundle(*small, films, tmp_path / "bundle")


def test_too_few_films_are_refused_before_the_work(small, films, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "to_onnx", lambda *_: pytest.fail("was exported"))

    with pytest.raises(FilmError, match="too few"):
        build_bundle(*small, films[:1], tmp_path / "bundle")


def test_checkpoints_in_the_wrong_order_are_refused(checkpoints, films, tmp_path):
    with pytest.raises(DataError, match="pass a translator"):
        build_bundle(*reversed(checkpoints), films, tmp_path / "bundle")


def test_films_are_chosen_evenly_from_a_folder(tmp_path):
    for number in range(3 * PARITY_FILMS):
        (tmp_path / f"{number:02d}.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")

    chosen = choose_films(tmp_path)

    assert [path.name for path in chosen] == [f"{3 * i:02d}.png" for i in range(PARITY_FILMS)]


def test_all_films_are_taken_where_there_are_few(tmp_path):
    (tmp_path / "one.TIF").write_bytes(b"")

    assert choose_films(tmp_path) == [tmp_path / "one.TIF"]


def test_films_are_chosen_from_a_dataset(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"schema": "fcr-dataset/1"}))
    people = ["person,sex,age", "p00001,female,30", "p00002,male,40"]
    images = ["person,view,kind,file,sha256"]
    for person in ("p00001", "p00002"):
        for kind in ("xray", "face"):
            images.append(f"{person},lateral,{kind},{person}_{kind}.png,{'0' * 64}")
            imaging.write_png(tmp_path / f"{person}_{kind}.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "people.csv").write_text("\n".join(people) + "\n")
    (tmp_path / "images.csv").write_text("\n".join(images) + "\n")

    chosen = choose_films(tmp_path)

    assert [path.name for path in chosen] == ["p00001_xray.png", "p00002_xray.png"]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None])
def test_a_folder_without_films_is_refused(tmp_path, make):
    make(tmp_path / "films")

    with pytest.raises(DataError, match="name a dataset, or a folder"):
        choose_films(tmp_path / "films")
