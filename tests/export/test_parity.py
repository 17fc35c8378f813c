"""PyTorch and ONNX Runtime are compared on real films, and a difference is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from export.parity import (
    BATCHES,
    MAX_FACE_DIFFERENCE,
    MIN_EMBEDDING_COSINE,
    compare_embedder,
    compare_ranks,
    compare_translator,
    draw_faces,
    read_skulls,
)
from export.to_onnx import to_onnx
from fcr_edge import film, imaging, soft_tissue
from fcr_edge.errors import BundleError, FilmError
from fcr_edge.identify import Identifier
from fcr_edge.manifest import EmbeddingSpec, TensorSpec
from fcr_edge.sessions import open_session

SKULL = TensorSpec("skull", channels=1, height=32, width=32, low=-1, high=1)
DRAWN = TensorSpec("face", channels=3, height=32, width=32, low=-1, high=1)
FACE = TensorSpec("face", channels=3, height=32, width=32, low=0, high=1)
EMBEDDING = EmbeddingSpec("embedding", dimension=8)


class Draw(nn.Module):
    """Draws, with a bias that a test can shift."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.wide = nn.Conv2d(1, 128, 3, padding=1)
        self.narrow = nn.Conv2d(128, 3, 1)
        with torch.no_grad():
            self.narrow.bias += shift

    def forward(self, skull: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.narrow(self.wide(skull)))


class Embed(nn.Module):
    """Embeds, at a length and a direction that a test can shift."""

    def __init__(self, length: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.head = nn.Linear(3 * 32 * 32, 8)
        self.length = length
        with torch.no_grad():
            self.head.bias[0] += shift

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        z = self.head(face.flatten(1))
        return self.length * z * torch.rsqrt(torch.clamp_min((z * z).sum(1, keepdim=True), 1e-24))


@pytest.fixture(scope="module")
def drawn() -> bytes:
    return to_onnx(Draw(), SKULL, DRAWN)


@pytest.fixture(scope="module")
def embedded() -> bytes:
    return to_onnx(Embed(), FACE, EMBEDDING)


@pytest.fixture(scope="module")
def skulls(films) -> np.ndarray:
    return read_skulls(films, "classical-2", SKULL)


@pytest.fixture(scope="module")
def faces(drawn, skulls) -> np.ndarray:
    with open_session(drawn, "cpu") as session:
        return draw_faces(session.run, skulls, DRAWN, FACE)


def test_equal_generators_pass_and_say_how_close_they_are(drawn, skulls):
    result = compare_translator(Draw(), drawn, skulls, "single")

    (row,) = result.rows
    assert result
    assert 0 <= row.value < 1e-5
    assert (row.measure, row.limit) == ("max_abs_difference", MAX_FACE_DIFFERENCE)
    assert (row.pictures, row.batches) == (4, BATCHES)
    assert row.reference == f"PyTorch {torch.__version__}, single weights"
    assert row.candidate.startswith("onnxruntime ")


def test_a_generator_that_differs_by_a_fraction_of_a_grey_level_fails(drawn, skulls):
    result = compare_translator(Draw(shift=2e-4), drawn, skulls, "single")

    assert not result
    assert "limit 0.0001" in str(result)


def test_equal_embedders_pass(embedded, faces):
    result = compare_embedder(Embed(), embedded, faces, "single")

    (row,) = result.rows
    assert result
    assert row.value == pytest.approx(1, abs=1e-6)
    assert (row.measure, row.limit) == ("min_cosine", MIN_EMBEDDING_COSINE)


def test_an_embedder_that_points_elsewhere_fails(embedded, faces):
    assert not compare_embedder(Embed(shift=0.1), embedded, faces, "single")


def test_half_weights_are_held_to_rounded_weights_and_told_against_unrounded(skulls):
    model = to_onnx(Draw(), SKULL, DRAWN, "half")

    result = compare_translator(Draw(), model, skulls, "half")

    held, told = result.rows
    assert result
    assert held.reference.endswith("rounded weights")
    assert told.reference.endswith("single weights")
    assert held.value < 1e-5 < told.value
    assert told.limit is None


def test_a_comparison_leaves_the_network_as_it_was(skulls):
    network = Draw()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = to_onnx(network, SKULL, DRAWN, "half")

    compare_translator(network, model, skulls, "half")

    assert all((before[name] == value).all() for name, value in network.state_dict().items())


def test_a_generator_that_gives_no_numbers_fails(drawn, skulls):
    assert not compare_translator(Draw(shift=float("nan")), drawn, skulls, "single")


@pytest.mark.parametrize("length", [0.0, 1.01])
def test_an_embedding_of_another_length_is_refused(faces, length):
    model = to_onnx(Embed(length), FACE, EMBEDDING)

    with pytest.raises(BundleError, match=r"length is .* off 1: train the embedder again"):
        compare_embedder(Embed(length), model, faces, "single")


def test_every_picture_is_run_in_every_batch_size(drawn, skulls, monkeypatch):
    seen = []

    class Watched(Draw):
        def forward(self, skull):
            seen.append(len(skull))
            return super().forward(skull)

    compare_translator(Watched(), drawn, skulls, "single")

    assert seen == [1, 1, 1, 1, 3, 1]


def test_skulls_are_read_as_the_field_reads_them(films, skulls):
    for path, skull in zip(films, skulls, strict=True):
        standard = film.standardise(imaging.read_picture(path))

        assert (
            imaging.to_tensor(soft_tissue.remove(standard, "classical-2"), SKULL) == skull
        ).all()


def test_skulls_and_faces_are_those_of_the_identifier(films, bundle):
    manifest = bundle.manifest
    skulls = read_skulls(films, manifest.soft_tissue, manifest.translator.input)
    with open_session(bundle.model_bytes("translator"), "cpu") as session:
        faces = draw_faces(
            session.run, skulls, manifest.translator.output, manifest.embedder.input
        )

    with Identifier(bundle, "cpu") as identifier:
        made = [identifier.reconstruct(path).face for path in films]

    assert (
        np.concatenate([imaging.to_tensor(face, manifest.embedder.input) for face in made])
        == (faces)
    ).all()


def test_fewer_films_than_the_larger_batch_are_refused(films):
    with pytest.raises(FilmError, match="2 films are too few for parity: give 3 or more"):
        read_skulls(films[:2], "classical-2", SKULL)


def test_a_blank_film_is_refused(films, tmp_path):
    imaging.write_png(tmp_path / "blank.png", np.full((128, 128), 90, np.uint8))

    with pytest.raises(FilmError, match=r"blank\.png"):
        read_skulls([*films, tmp_path / "blank.png"], "none", SKULL)


def test_a_film_that_is_blank_without_its_soft_tissue_is_refused(films, monkeypatch):
    monkeypatch.setitem(soft_tissue.RECIPES, "all", lambda standard: standard * 0)

    with pytest.raises(FilmError, match="is blank once its soft tissue is removed: give another"):
        read_skulls(films, "all", SKULL)


def test_real_films_agree_to_the_promised_figures(cephalograms, bundle, checkpoints):
    from fcr_train.embedders import load_embedder
    from fcr_train.translators import load_generator

    entry, embedder = bundle.manifest.translator, bundle.manifest.embedder
    paths = sorted(cephalograms.glob("*.jpg"))[:6]
    model = bundle.model_bytes("translator")
    skulls = read_skulls(paths, bundle.manifest.soft_tissue, entry.input)
    with open_session(model, "cpu") as session:
        faces = draw_faces(session.run, skulls, entry.output, embedder.input)

    drawing = compare_translator(load_generator(checkpoints[0])[0], model, skulls, "half")
    embedding = compare_embedder(
        load_embedder(checkpoints[1])[0], bundle.model_bytes("embedder"), faces, "half"
    )

    assert drawing.rows[0].value < 1e-4
    assert embedding.rows[0].value > 0.99999


def test_networks_share_their_whole_list_with_themselves(bundle, checkpoints, films):
    from fcr_train.embedders import load_embedder
    from fcr_train.translators import load_generator

    manifest = bundle.manifest
    networks = load_generator(checkpoints[0])[0], load_embedder(checkpoints[1])[0]
    models = (
        to_onnx(networks[0], manifest.translator.input, manifest.translator.output),
        to_onnx(networks[1], manifest.embedder.input, manifest.embedder.output),
    )
    skulls = read_skulls(films, manifest.soft_tissue, manifest.translator.input)

    row = compare_ranks(
        models, networks, skulls, manifest.translator.output, manifest.embedder.input
    )

    assert (row.measure, row.limit) == ("shared_of_50", None)
    assert row.value > 49.5, "nothing of 16 bits is in them, so rounding in 32 is all there is"
    assert row.pictures == len(skulls)
