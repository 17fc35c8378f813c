from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import densenet121

from fcr_edge.errors import DataError
from fcr_train.embedders import IMAGENET_MEAN, IMAGENET_STD, DenseNet121, load_weights, unit


@pytest.mark.parametrize("dimension", [None, 16], ids=["pooled", "head"])
def test_embeddings_are_unit_vectors(dimension: int | None) -> None:
    embedder = DenseNet121(dimension).eval()

    embeddings = embedder(torch.rand(3, 3, 64, 64))

    assert embeddings.shape == (3, dimension or 1024)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3), atol=1e-5, rtol=0)


def test_unit_leaves_a_zero_vector_at_zero() -> None:
    vectors = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))

    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_pooled_embedding_is_what_torchvision_pools() -> None:
    reference = densenet121(weights=None).eval()
    embedder = DenseNet121()
    embedder.features.load_state_dict(reference.features.state_dict())
    face = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    embedding = embedder.eval()(face)

    pooled = reference.features((face - mean) / std).relu().mean(dim=(2, 3))
    expected = torch.nn.functional.normalize(pooled, dim=1)
    torch.testing.assert_close(embedding, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_torchvision_load_by_either_naming(tmp_path: Path, suffix: str) -> None:
    weights = densenet121(weights=None).state_dict()
    # The published file says "denselayer1.norm.1" where the code says "denselayer1.norm1".
    published = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor.contiguous()
        for name, tensor in weights.items()
    }
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(published, path)
    else:
        save_file(published, path)
    embedder = DenseNet121(4)

    load_weights(embedder, path)

    assert torch.equal(embedder.features.conv0.weight, weights["features.conv0.weight"])
    last = "denseblock4.denselayer16.norm1.running_var"
    assert torch.equal(embedder.features.state_dict()[last], weights[f"features.{last}"])


def test_weights_that_are_missing_damaged_or_of_another_network_are_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "damaged.pth").write_bytes(b"not a state dict")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.safetensors")

    for name, words in {
        "missing.pth": "cannot read weights",
        "damaged.pth": "cannot read weights",
        "resnet.safetensors": "are not DenseNet121's",
    }.items():
        with pytest.raises(DataError, match=words):
            load_weights(DenseNet121(), tmp_path / name)


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


def test_weights_cannot_run_code(tmp_path: Path) -> None:
    torch.save(RunsCode(), tmp_path / "evil.pth")

    with pytest.raises(DataError, match="cannot read weights"):
        load_weights(DenseNet121(), tmp_path / "evil.pth")
