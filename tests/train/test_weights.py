from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fcr_edge.errors import DataError
from fcr_train import weights
from fcr_train.weights import PUBLISHED_LICENCE, list_published, read_weights

TENSORS = {"conv1.weight": torch.arange(6.0).reshape(2, 3)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision publish what a test wrote: resnet18-12345678.pth would be its true hash."""

    def entries(path: Path, backbone: str) -> None:
        name = f"{backbone}-{sha256(path)[:8]}.pth"
        true = weights.list_published
        monkeypatch.setattr(
            weights,
            "list_published",
            lambda asked: {name: f"https://host/{name}"} if asked == backbone else true(asked),
        )

    return entries


@pytest.fixture(params=[".pth", ".safetensors"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"weights{request.param}"
    if path.suffix == ".pth":
        torch.save(TENSORS, path)
    else:
        save_file(TENSORS, path)
    return path


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("vgg16", "vgg16-397923af.pth"),
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet101", "resnet101-63fe2227.pth"),
        ("densenet121", "densenet121-a639ec97.pth"),
    ],
)
def test_torchvision_publishes_the_files_that_fcr_knows(backbone: str, name: str) -> None:
    assert list_published(backbone)[name] == f"https://download.pytorch.org/models/{name}"


def test_a_published_file_is_known_by_its_hash_and_not_by_its_name(path: Path, publish) -> None:
    publish(path, "resnet18")

    read = read_weights(path, "resnet18")

    assert torch.equal(read.tensors["conv1.weight"], TENSORS["conv1.weight"])
    name = f"resnet18-{sha256(path)[:8]}.pth"
    assert read.record == {
        "initial_weights": f"ImageNet-1k (torchvision, {name})",
        "initial_weights_sha256": sha256(path),
        "initial_weights_licence": PUBLISHED_LICENCE,
    }


def test_another_file_needs_the_hash_that_the_user_gives(path: Path) -> None:
    with pytest.raises(
        DataError, match=r"none that torchvision publishes for resnet18: pass resn"
    ):
        read_weights(path, "resnet18")

    read = read_weights(path, "resnet18", sha256(path)[:8].upper())

    assert read.record["initial_weights"] == f"file {path.name}"
    assert read.sha256 == sha256(path)


def test_the_weights_of_another_backbone_are_named(path: Path, publish) -> None:
    publish(path, "resnet18")

    with pytest.raises(DataError, match=r"for vgg16 \(it is resnet18's\): pass vgg16-397923af"):
        read_weights(path, "vgg16")


@pytest.mark.parametrize("given", ["0" * 64, "", "abc"])
def test_a_wrong_or_short_hash_is_refused(path: Path, given: str) -> None:
    with pytest.raises(DataError, match="take a fresh copy, or correct the hash"):
        read_weights(path, "resnet18", given)


def test_a_changed_byte_is_refused(path: Path, publish) -> None:
    publish(path, "resnet18")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(DataError, match="none that torchvision publishes"):
        read_weights(path, "resnet18")


def test_files_that_are_missing_damaged_or_no_state_dict_are_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged.pth").write_bytes(b"not a state dict")
    (tmp_path / "damaged.safetensors").write_bytes(b"nor this")
    torch.save([1, 2], tmp_path / "list.pth")

    with pytest.raises(DataError, match="cannot read weights"):
        read_weights(tmp_path / "missing.pth", "vgg16")
    for name, words in {
        "damaged.pth": "cannot read weights",
        "damaged.safetensors": "cannot read weights",
        "list.pth": "holds no state dict",
    }.items():
        with pytest.raises(DataError, match=words):
            read_weights(tmp_path / name, "vgg16", sha256(tmp_path / name))


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


def test_weights_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save(RunsCode(), path)

    with pytest.raises(DataError, match="cannot read weights"):
        read_weights(path, "vgg16", sha256(path))


def test_a_download_is_kept_and_asked_for_with_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(url: str, path: str, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)

    paths = {weights.download_weights("resnet101", tmp_path / "new") for _ in range(2)}

    assert paths == {tmp_path / "new" / "resnet101-cd907fc2.pth"}
    assert asked == [("https://download.pytorch.org/models/resnet101-cd907fc2.pth", "cd907fc2")]


def test_a_download_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("invalid hash value")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)

    with pytest.raises(DataError, match=r"cannot download .*invalid hash value.*pass the file"):
        weights.download_weights("vgg16", tmp_path)
