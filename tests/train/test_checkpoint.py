from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fcr_edge.errors import DataError
from fcr_train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_state
from fcr_train.config import TranslatorConfig, load_preset, to_table
from fcr_train.embedders import FaceEmbedder, load_embedder
from fcr_train.translators import CUT, load_generator


@pytest.fixture
def translator() -> CUT:
    config = load_preset("fastcut", "tiny")
    assert isinstance(config, TranslatorConfig)
    return CUT(config)


@pytest.fixture
def checkpoint(translator: CUT) -> Checkpoint:
    return Checkpoint(
        kind="translator",
        model="fastcut",
        preset="tiny",
        config=to_table(translator.config),
        step=7,
        tensors=translator.generator.state_dict(),
        data={"people": 3},
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a" / "x.safetensors", checkpoint)

    loaded = load_checkpoint(tmp_path / "a" / "x.safetensors")

    assert loaded.tensors.keys() == checkpoint.tensors.keys()
    assert all(
        torch.equal(loaded.tensors[name], checkpoint.tensors[name]) for name in loaded.tensors
    )
    for name in ("kind", "model", "preset", "config", "step", "data", "created"):
        assert getattr(loaded, name) == getattr(checkpoint, name)


def test_the_config_names_what_an_export_needs(checkpoint: Checkpoint) -> None:
    assert checkpoint.config["size"] == 64
    assert checkpoint.config["soft_tissue"] == "classical-2"


def test_a_loaded_generator_translates_as_the_trained_one(
    tmp_path: Path, checkpoint: Checkpoint, translator: CUT
) -> None:
    save_checkpoint(tmp_path / "x.safetensors", checkpoint)
    skull = torch.randn(2, 1, 64, 64)

    generator, loaded = load_generator(tmp_path / "x.safetensors")

    assert loaded.step == 7
    assert not generator.training
    assert torch.equal(generator(skull), translator.generator(skull))


def test_a_loaded_embedder_embeds_as_the_trained_one(tmp_path: Path) -> None:
    embedder = FaceEmbedder("densenet121", 8)
    embedder(torch.rand(4, 3, 64, 64))  # moves the batch statistics, which have to be kept
    config = to_table(load_preset("densenet121", "tiny")) | {"dimension": 8}
    saved = Checkpoint("embedder", "densenet121", "tiny", config, 1, embedder.state_dict())
    save_checkpoint(tmp_path / "x.safetensors", saved)
    face = torch.rand(2, 3, 64, 64)

    loaded, _ = load_embedder(tmp_path / "x.safetensors")

    assert torch.equal(loaded(face), embedder.eval()(face))


def test_the_same_checkpoint_has_the_same_bytes(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, checkpoint)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(
    tmp_path: Path, checkpoint: Checkpoint, share: float
) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, checkpoint)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])

    with pytest.raises(DataError, match=r"x\.safetensors is damaged"):
        load_checkpoint(path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 100)
    save_state(tmp_path / "state", {"a": torch.zeros(1)}, {"epoch": 1})

    with pytest.raises(DataError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(tmp_path / "text")
    with pytest.raises(DataError, match="'fcr-training-state/1' where 'fcr-checkpoint/1'"):
        load_checkpoint(tmp_path / "state")


def test_a_checkpoint_of_the_other_kind_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "x.safetensors", checkpoint)

    with pytest.raises(DataError, match="translator 'fastcut': pass an embedder"):
        load_embedder(tmp_path / "x.safetensors")


def test_weights_that_do_not_fit_the_configuration_are_refused(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    checkpoint.config["generator"]["ngf"] = 16
    save_checkpoint(tmp_path / "x.safetensors", checkpoint)

    with pytest.raises(DataError, match="not those of the network that it describes"):
        load_generator(tmp_path / "x.safetensors")


def test_a_checkpoint_cannot_be_written_where_a_file_stands(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "x.safetensors", checkpoint)
