"""Each generator, conditioned or not, and each embedder leaves the workshop as it was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from export.build import read_fusion
from export.parity import (
    TOLD,
    compare_embedder,
    compare_translator,
    read_skulls,
    tell_skulls,
)
from export.to_onnx import to_onnx
from fcr_edge import imaging
from fcr_edge.bundle import Bundle
from fcr_edge.cli import app as field
from fcr_edge.conditions import ASTRAY, Conditions
from fcr_edge.errors import DataError
from fcr_edge.identify import Identifier
from fcr_edge.manifest import EmbeddingSpec, Fusion, Scale, TensorSpec
from fcr_edge.sessions import open_session
from fcr_train.batches import tell
from fcr_train.checkpoint import digest
from fcr_train.cli import app as workshop
from fcr_train.embedders import BACKBONES, load_embedder
from fcr_train.evaluate.record import (
    Bootstrap,
    Claims,
    Evaluation,
    Network,
    People,
    SplitUsed,
)
from fcr_train.networks import PictureNorm
from fcr_train.translators import TRANSLATORS, load_generator

ROUNDING = 1e-5
"""Float32 in another order of additions, on faces in [-1, 1]."""
LEVEL = 1
"""Grey levels by which that rounding may tip a pixel."""
ALL = ("sex", "age", "bmi")
FUSION = Fusion(Scale(0.1, 0.2), Scale(0.3, 0.1), people=6, simulated=True)
SKULL = TensorSpec("skull", channels=1, height=64, width=64, low=-1, high=1)
FACE = TensorSpec("face", channels=3, height=64, width=64, low=-1, high=1)


@pytest.mark.parametrize("conditions", [(), ALL], ids=["film alone", "conditioned"])
@pytest.mark.parametrize("model", sorted({*TRANSLATORS} - {"fastcut"}))  # has CUT's generator
def test_every_generator_is_exported_without_its_dropout(
    model, conditions, films, save_translator, tmp_path
):
    path = save_translator(tmp_path / "t.safetensors", model, conditions, dropout=0.5)
    network, _ = load_generator(path)
    source = TensorSpec("skull", 1 + 2 * len(conditions), 64, 64, -1, 1)
    skulls = tell_skulls(read_skulls(films, "classical-1", SKULL), conditions)

    exported = to_onnx(network.train(), source, FACE)

    (row,) = compare_translator(network, exported, skulls, "single").rows
    assert row.passed
    assert row.value < ROUNDING
    assert row.pictures == (8 if conditions else 4)


def test_a_whole_picture_is_normalised_as_exactly_as_in_64_bits():
    class Norm(nn.Module):
        def forward(self, skull: torch.Tensor) -> torch.Tensor:
            return PictureNorm()(torch.cat([skull] * 16, dim=1))[:, :3]

    source = TensorSpec("skull", 1, 256, 256, -1, 1)
    picture = np.random.default_rng(1).normal(1, 0.1, (1, 1, 256, 256)).astype(np.float32)
    centred = picture.astype(np.float64) - picture.mean(dtype=np.float64)
    expected = centred / np.sqrt((centred**2).mean() + 1e-5)

    exported = to_onnx(Norm(), source, TensorSpec("face", 3, 256, 256, -1, 1))

    with open_session(exported, "cpu") as session:
        assert np.abs(session.run(picture) - expected).max() < ROUNDING


# Those two are in bundles: DenseNet121 in that of the other tests here, ResNet18 in the one below.
@pytest.mark.parametrize("backbone", sorted({*BACKBONES} - {"densenet121", "resnet18"}))
def test_every_embedder_is_exported(backbone, save_embedder, tmp_path):
    network, _ = load_embedder(save_embedder(tmp_path / "e.safetensors", backbone))
    source, target = TensorSpec("face", 3, 32, 32, 0, 1), EmbeddingSpec("embedding", 16)
    faces = np.random.default_rng(1).random((4, 3, 32, 32)).astype(np.float32)

    exported = to_onnx(network, source, target)

    assert compare_embedder(network, exported, faces, "single")


def test_parity_is_looked_for_with_nothing_known_and_with_everything(films):
    skulls = read_skulls(films, "classical-1", SKULL)

    told = tell_skulls(skulls, ("sex", "bmi"))

    assert told.shape == (8, 5, 64, 64)
    assert (told[::2, :1] == skulls).all()
    assert (told[1::2, :1] == skulls).all()
    assert (told[::2, 1:] == 0).all()
    assert (told[1::2, 2] == 1).all()  # known
    assert (told[1::2, 4] == 1).all()
    assert {*told[1::2, 1, 0, 0]} == {-1, 1}
    assert tell_skulls(skulls, ()) is skulls


def make_evaluation(translator: Network, embedder: Network) -> Evaluation:
    """Make an evaluation that found nothing but how to put two films together."""
    return Evaluation(
        schema="fcr-evaluation/1",
        notice="",
        created="",
        fcr="",
        level="S",
        split=SplitUsed("person", 0, 1),
        people=People(12, 6),
        dataset_sha256="b" * 64,
        translator=translator,
        embedder=embedder,
        matcher=None,
        bootstrap=Bootstrap(),
        retrieval=(),
        comparisons=(),
        open_set=(),
        calibration=(),
        fusion=FUSION,
        groups=(),
        gaps=(),
        images=(),
        claims=Claims((), None),
        seconds=1.0,
        machine={},
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory, save_translator, save_embedder) -> Path:
    """A folder of work in which a study has marked a conditioned U-Net and ResNet18."""
    folder = tmp_path_factory.mktemp("work")
    runs = folder / "runs" / "compare-tiny" / "runs" / "person-0"
    for name in ("pix2pix", "resnet18-pix2pix"):
        (runs / name).mkdir(parents=True)
    save_translator(runs / "pix2pix" / "checkpoint.safetensors", "pix2pix", ALL, 0.5)
    save_embedder(runs / "resnet18-pix2pix" / "checkpoint.safetensors", "resnet18")
    networks = [
        Network(name, "tiny", digest(runs / folder_name / "checkpoint.safetensors"), 1, 1)
        for name, folder_name in (("pix2pix", "pix2pix"), ("resnet18", "resnet18-pix2pix"))
    ]
    place = folder / "runs" / "compare-tiny" / "evaluations" / "one.json"
    place.parent.mkdir()
    place.write_text(make_evaluation(*networks).to_json())
    best = {
        "translator": "pix2pix",
        "embedder": "resnet18",
        "checkpoints": {
            "translator": "runs/person-0/pix2pix/checkpoint.safetensors",
            "embedder": "runs/person-0/resnet18-pix2pix/checkpoint.safetensors",
        },
        "evaluation": "evaluations/one.json",
        "why": "the highest mean reciprocal rank",
    }
    (folder / "runs" / "compare-tiny" / "best.json").write_text(json.dumps(best))
    return folder


@pytest.fixture(scope="module")
def told(study, films) -> Bundle:
    """The bundle that the best run becomes, exported as a user does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        done = CliRunner().invoke(
            workshop, ["export", "--data", str(films[0].parent), "--out", "field"]
        )
    assert done.exit_code == 0, done.output
    assert done.stdout == "field\n"
    assert "best run of runs/compare-tiny/best.json: pix2pix with resnet18" in done.stderr
    return Bundle.load(study / "field", allow_unsigned=True)


def test_the_best_run_of_a_study_becomes_a_bundle(told, study):
    translator, embedder = told.manifest.translator, told.manifest.embedder

    assert (translator.method, translator.architecture) == ("pix2pix", "UnetGenerator")
    assert translator.conditions == ALL
    assert translator.input.channels == 7
    assert translator.parity[0].pictures == 8
    assert embedder.method == "resnet18"
    assert told.manifest.fusion == FUSION
    assert f"Rule for {FUSION}" in (told.folder / "MODEL_CARD.md").read_text()


def test_the_rule_of_other_networks_is_refused(study):
    place = study / "runs" / "compare-tiny"
    translator, embedder = (
        place / "runs" / "person-0" / name / "checkpoint.safetensors"
        for name in ("pix2pix", "resnet18-pix2pix")
    )

    with pytest.raises(DataError, match="is the evaluation of other networks: pass that of"):
        read_fusion(place / "evaluations" / "one.json", embedder, translator)
    with pytest.raises(DataError, match="cannot read the evaluation"):
        read_fusion(place / "evaluations" / "none.json", translator, embedder)


def test_the_card_names_the_conditions_and_what_a_wrong_one_does(told):
    card = (told.folder / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert "- Conditions: sex, age, bmi, two of the input's channels each." in card
    assert ASTRAY in card


@pytest.mark.parametrize("conditions", [*TOLD[:2], Conditions(age=50)], ids=str)
def test_the_field_draws_what_the_workshop_draws(told, study, films, conditions):
    path = "runs/compare-tiny/runs/person-0/pix2pix/checkpoint.safetensors"
    network, _ = load_generator(study / path)
    skull = torch.from_numpy(read_skulls(films, told.manifest.soft_tissue, SKULL)[:1])

    with Identifier(told, "cpu") as identifier:
        made = identifier.reconstruct(films[0], conditions).face
    with torch.inference_mode():
        drawn = network(tell(skull, [conditions], ALL))[0].numpy()

    expected = imaging.to_picture(drawn, FACE).astype(int)
    assert np.abs(made - expected).max() <= LEVEL


def test_what_is_told_changes_the_face(told, films):
    with Identifier(told, "cpu") as identifier:
        silent, telling = (
            identifier.reconstruct(films[0], known).face for known in (TOLD[0], TOLD[1])
        )

    assert np.abs(silent.astype(int) - telling).max() > LEVEL


def test_the_bundle_takes_the_word_of_an_examiner(told, films, tmp_path):
    arguments = ["reconstruct", str(films[0]), "-o", str(tmp_path / "face.png")]
    arguments += [
        "--bundle",
        str(told.folder),
        "--allow-unsigned",
        "--sex",
        "female",
        "--age",
        "34",
        "--bmi",
        "24",
    ]

    done = CliRunner().invoke(field, arguments)

    assert done.exit_code == 0, done.output
    assert f"told by the examiner: female, 34 years, 24 kg/m2; {ASTRAY}" in done.stderr
