"""Weights of a backbone from torchvision: a file whose hash is known, or a download asked for."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torchvision import models
from torchvision.models import get_model_weights, list_models

from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

PUBLISHED_LICENCE = (
    "torchvision's (BSD-3-Clause); ImageNet-1k's terms (non-commercial research) may bind the user"
)
"""torchvision's README: its pre-trained models may have licences or terms derived from the dataset
used for training, and it is the user's part to see whether they permit the use."""

UNSTATED_LICENCE = "not stated: the user vouched for the file by its hash"

_SHORTEST_HASH = 8
"""Hexadecimal digits that torchvision writes into a file's name, and the fewest one may give."""


@dataclass(frozen=True)
class Weights:
    """Tensors for a backbone to start from, and where they came from."""

    tensors: dict[str, Tensor]
    source: str
    """Such as "ImageNet-1k (torchvision, resnet18-f37072fd.pth)"."""
    sha256: str
    """Of the file."""
    licence: str

    @property
    def record(self) -> dict[str, str]:
        """Give what a checkpoint says of the weights that its training started from."""
        return {
            "initial_weights": self.source,
            "initial_weights_sha256": self.sha256,
            "initial_weights_licence": self.licence,
        }


RANDOM = {"initial_weights": "random"}
"""What a checkpoint says where there were no weights to start from."""


def list_published(backbone: str) -> dict[str, str]:
    """List the ImageNet weights that torchvision publishes: address by name of the file.

    The eight digits before the suffix are the start of the file's SHA-256.
    """
    entries = [entry for entry in get_model_weights(backbone) if "IMAGENET1K_V" in entry.name]
    return {entry.url.rpartition("/")[2]: entry.url for entry in entries}


def read_weights(path: Path, backbone: str, sha256: str | None = None) -> Weights:
    """Read weights for a backbone from safetensors, or a .pth state dict without running its code.

    The file has to be one that torchvision publishes for this backbone, whatever its name, or to
    have the hash given: `sha256`, whole or its first 8 digits or more. Raises DataError otherwise,
    and for a file that cannot be read.
    """
    found = _hash(path)
    if sha256 is not None:
        _check_given(path, found, sha256)
        return Weights(_read_tensors(path), f"file {path.name}", found, UNSTATED_LICENCE)
    name = _find_published(found, backbone)
    if name is None:
        raise DataError(
            f"{path} has SHA-256 {found}, which is none that torchvision publishes for {backbone}"
            f"{_explain(found)}: pass {' or '.join(list_published(backbone))}, or give"
            " the file's own hash if you trust it"
        )
    source = f"ImageNet-1k (torchvision, {name})"
    return Weights(_read_tensors(path), source, found, PUBLISHED_LICENCE)


def download_weights(backbone: str, folder: Path) -> Path:
    """Fetch torchvision's newest ImageNet weights, only when the user asks; return the file.

    A file that is already there is not fetched again. Raises DataError if the network fails, or
    if what came has another hash than its name says.
    """
    name, url = list(list_published(backbone).items())[-1]
    path = folder / name
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_prefix(name))
    except (OSError, URLError, RuntimeError) as err:
        raise DataError(
            f"cannot download {url} ({err}): fetch it on another machine and pass the file"
        ) from err
    return path


def _find_published(sha256: str, backbone: str) -> str | None:
    names = [name for name in list_published(backbone) if sha256.startswith(_prefix(name))]
    return names[0] if names else None


def find_owner(path: Path) -> str:
    """Tell of which of torchvision's networks a file holds published weights.

    Raises DataError if it is none of them, or cannot be read.
    """
    found = _hash(path)
    for network in list_models(models):
        if _find_published(found, network):
            return str(network)
    raise DataError(
        f"{path} has SHA-256 {found}, which is none that torchvision publishes: take a fresh copy"
    )


def _explain(sha256: str) -> str:
    """Say whose weights these are, if they are of another network of torchvision."""
    owners = (other for other in list_models(models) if _find_published(sha256, other))
    return "".join(f" (it is {owner}'s)" for owner in islice(owners, 1))


def _check_given(path: Path, found: str, given: str) -> None:
    if len(given) < _SHORTEST_HASH or not found.startswith(given.lower()):
        raise DataError(
            f"{path} has SHA-256 {found}, not {given!r}: take a fresh copy, or correct the hash"
            f" ({_SHORTEST_HASH} digits or more)"
        )


def _prefix(name: str) -> str:
    return name.rpartition("-")[2].partition(".")[0]


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as err:
        raise DataError(f"cannot read weights from {path}: {err.strerror}") from err


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as err:
        raise DataError(f"cannot read weights from {path}: {err}") from err
    if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
        raise DataError(f"{path} holds no state dict: pass tensors by name, as torchvision does")
    return tensors
