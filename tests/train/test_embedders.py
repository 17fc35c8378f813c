from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from fcr_edge.errors import ConfigError, DataError
from fcr_train.checkpoint import save_checkpoint
from fcr_train.config import EmbedderConfig, Jitter, load_preset
from fcr_train.dataset import read_dataset
from fcr_train.embedders import (
    BACKBONES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    FaceEmbedder,
    describe_untrained,
    load_embedder,
    start_from,
    unit,
)
from fcr_train.tasks import EmbedderTask, Plan
from fcr_train.trainer import Streams
from fcr_train.weights import Weights

WIDTHS = {"vgg16": 512, "resnet18": 512, "resnet101": 2048, "densenet121": 1024}
PARAMETERS = {
    "vgg16": 14_714_688,
    "resnet18": 11_176_512,
    "resnet101": 42_500_160,
    "densenet121": 6_953_856,
}
"""Of torchvision's networks without their classifiers."""


@pytest.fixture(scope="module", params=WIDTHS)
def embedder(request: pytest.FixtureRequest) -> tuple[str, FaceEmbedder]:
    return request.param, FaceEmbedder(request.param).eval()


def test_the_four_backbones_are_those_of_the_paper(embedder: tuple[str, FaceEmbedder]) -> None:
    name, network = embedder

    assert {*BACKBONES} == {*WIDTHS}
    assert sum(p.numel() for p in network.features.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("size", [32, 80])
def test_embeddings_are_unit_vectors_at_any_size(
    embedder: tuple[str, FaceEmbedder], size: int
) -> None:
    name, network = embedder

    embeddings = network(torch.rand(2, 3, size, size))

    assert embeddings.shape == (2, WIDTHS[name])
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2), atol=1e-5, rtol=0)


def test_a_head_gives_the_dimension_asked_for() -> None:
    embeddings = FaceEmbedder("resnet18", 16).eval()(torch.rand(2, 3, 64, 64))

    assert embeddings.shape == (2, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2), atol=1e-5, rtol=0)


def test_unit_leaves_a_zero_vector_at_zero() -> None:
    vectors = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))

    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def pool_by_torchvision(name: str, network: nn.Module, face: Tensor) -> Tensor:
    """Take the features as torchvision's own forward does, and average each map."""
    if name == "densenet121":
        return network.features(face).relu().mean(dim=(2, 3))
    if name == "vgg16":
        return network.features(face).mean(dim=(2, 3))
    network.fc = nn.Identity()
    return network(face)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_the_published_naming_loads_and_pools_as_torchvision_does(name: str) -> None:
    torch.manual_seed(0)
    reference = getattr(models, name)(weights=None).eval()
    # DenseNet's published file says "denselayer1.norm.1" where the code says "denselayer1.norm1".
    published = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")
        if name == "densenet121"
        else key: tensor
        for key, tensor in reference.state_dict().items()
        if not key.endswith("num_batches_tracked")  # older files do not count batches
    }
    embedder = FaceEmbedder(name).eval()

    start_from(embedder, Weights(published, "published", "0" * 64, "none"))

    face = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    expected = pool_by_torchvision(name, reference, (face - mean) / std)
    torch.testing.assert_close(
        embedder(face), nn.functional.normalize(expected, dim=1), atol=1e-6, rtol=0
    )


def test_the_names_of_vgg16_are_torchvisions() -> None:
    with torch.device("meta"):  # its classifier would fill half a gigabyte
        theirs = models.vgg16(weights=None, init_weights=False).features.state_dict()
    ours = FaceEmbedder("vgg16").features.state_dict()

    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


def test_the_weights_of_another_network_do_not_fit() -> None:
    state = FaceEmbedder("resnet18").features.state_dict()

    with pytest.raises(DataError, match="weights from mine do not fit the backbone"):
        start_from(FaceEmbedder("vgg16"), Weights(dict(state), "mine", "0" * 64, "none"))


def test_an_untrained_embedder_is_used_like_a_trained_one(tmp_path: Path) -> None:
    config = load_preset("densenet121", "tiny")
    weights = Weights(
        {k: v.clone() for k, v in FaceEmbedder("densenet121").features.state_dict().items()},
        "ImageNet-1k (torchvision, x.pth)",
        "a" * 64,
        "free",
    )
    checkpoint = describe_untrained("densenet121", "tiny", config, weights, seed=1)
    save_checkpoint(tmp_path / "x.safetensors", checkpoint)

    network, loaded = load_embedder(tmp_path / "x.safetensors")

    assert not network.training
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 1024)
    assert torch.equal(network.features.conv0.weight, weights.tensors["conv0.weight"])
    assert (loaded.step, loaded.config["dimension"]) == (0, None)
    assert loaded.data["trained"] is False
    assert loaded.data["initial_weights"] == weights.source
    assert loaded.data["initial_weights_sha256"] == "a" * 64


def test_an_untrained_embedder_says_when_its_weights_are_random() -> None:
    config = load_preset("densenet121", "tiny")

    first, same, other = (
        describe_untrained("densenet121", "tiny", config, None, seed) for seed in (1, 1, 2)
    )

    assert first.data == {"trained": False, "seed": 1, "initial_weights": "random"}
    name = "features.conv0.weight"
    assert torch.equal(first.tensors[name], same.tensors[name])
    assert not torch.equal(first.tensors[name], other.tensors[name])


def test_a_checkpoint_of_an_unknown_backbone_is_refused(tmp_path: Path) -> None:
    config = load_preset("densenet121", "tiny")
    checkpoint = describe_untrained("densenet121", "tiny", config, None, seed=1)
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, replace(checkpoint, model="mobilenet"))

    with pytest.raises(DataError, match="'mobilenet': pass an embedder, one of vgg16, resnet18"):
        load_embedder(path)


def plan_embedder(folder: Path, **schedule: object) -> Plan[EmbedderConfig]:
    config = load_preset("resnet18", "tiny")
    assert isinstance(config, EmbedderConfig)
    config = replace(config, schedule=replace(config.schedule, **schedule))
    return Plan("resnet18", "tiny", config, read_dataset(folder), 1, torch.device("cpu"))


def test_training_tells_people_apart(dataset_folder: Path) -> None:
    torch.manual_seed(0)
    plan = plan_embedder(dataset_folder, batch_size=4, steps_per_epoch=25)
    task = EmbedderTask(replace(plan, config=replace(plan.config, jitter=Jitter())))
    losses = []

    for batch in task.batches(Streams.of(1, 0)):
        (turn,) = task.turns(batch, torch.Generator())
        turn.objective.backward()
        task.optimisers[turn.player].step()
        task.optimisers[turn.player].zero_grad()
        losses.append(turn.losses["contrastive"].item())

    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    batch = next(task.batches(Streams.of(1, 1)))
    embeddings, people = task.networks.eval()(batch["face"]), batch["person"]
    similarity = (embeddings @ embeddings.T).fill_diagonal_(-1)
    nearest = similarity.argmax(dim=1)
    assert (people[nearest] == people).float().mean() >= 0.75


def test_a_trained_embedder_says_what_it_started_from(dataset_folder: Path) -> None:
    weights = Weights(dict(FaceEmbedder("resnet18").features.state_dict()), "mine", "a" * 64, "?")
    plan = plan_embedder(dataset_folder)

    random, given = EmbedderTask(plan), EmbedderTask(plan, weights=weights)

    first = "features.conv1.weight"
    checkpoint = given.checkpoint(2, given.networks)
    assert random.checkpoint(2, random.networks).data["initial_weights"] == "random"
    assert checkpoint.data["initial_weights"] == "mine"
    assert checkpoint.data["held_out"] == given.held_out
    assert torch.equal(checkpoint.tensors[first], weights.tensors["conv1.weight"])


def test_parts_of_a_batch_are_refused_since_all_of_it_is_compared() -> None:
    config = load_preset("resnet18", "tiny")

    with pytest.raises(ConfigError, match="accumulate is 2, but a contrastive loss compares all"):
        replace(config, schedule=replace(config.schedule, accumulate=2))
