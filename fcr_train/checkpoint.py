"""Checkpoints: one safetensors file of weights that says how to rebuild its network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fcr_edge.errors import DataError
from fcr_train.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from torch import Tensor, nn

SCHEMA = "fcr-checkpoint/1"
_STATE_SCHEMA = "fcr-training-state/1"

Network = TypeVar("Network", bound="nn.Module")
Kind = Literal["translator", "embedder", "matcher", "suppressor", "film"]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and all that is needed to rebuild it and to know where it came from."""

    kind: Kind
    model: str
    """Which method or backbone: `cut`, `fastcut`, `densenet121`."""
    preset: str
    config: dict[str, Any]
    """The configuration as a table, as `fcr_train.config.parse` reads it."""
    step: int
    """Training steps behind these weights."""
    tensors: dict[str, Tensor]
    """State of the network that is exported, and of nothing else."""
    data: dict[str, Any] = field(default_factory=dict)
    """The dataset trained on: hash, people, those held out."""
    created: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all. Raises DataError where that is impossible."""
    described = {
        field.name: getattr(checkpoint, field.name)
        for field in dataclasses.fields(checkpoint)
        if field.name != "tensors"
    }
    write_tensors(path, checkpoint.tensors, {"schema": SCHEMA, **described})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises DataError if it is missing, damaged or not one of ours."""
    tensors, described = read_tensors(path, SCHEMA)
    described.pop("schema")
    try:
        checkpoint = Checkpoint(tensors=tensors, **described)
    except TypeError as err:
        raise DataError(f"{path} is not a complete checkpoint: {err}: train it again") from err
    if checkpoint.kind not in get_args(Kind):
        raise DataError(f"{path} is a checkpoint of unknown kind {checkpoint.kind!r}")
    return checkpoint


def rebuild(
    path: Path, kind: Kind, models: Collection[str], build: Callable[[Checkpoint], Network]
) -> tuple[Network, Checkpoint]:
    """Rebuild a trained network, ready to use.

    Raises DataError if the file is no checkpoint of this kind and these models, or if its weights
    are not those of the network that it describes.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.kind != kind or checkpoint.model not in models:
        raise DataError(
            f"{path} holds {_article(checkpoint.kind)} {checkpoint.kind} {checkpoint.model!r}:"
            f" pass {_article(kind)} {kind}, one of {', '.join(models)}"
        )
    network = build(checkpoint)
    try:
        network.load_state_dict(checkpoint.tensors)
    except RuntimeError as err:
        raise DataError(
            f"the weights in {path} are not those of the network that it describes: take a copy of"
            f" the checkpoint, or train it again ({err})"
        ) from err
    return network.eval(), checkpoint


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def digest(path: Path) -> str:
    """Hash a checkpoint file, which names it. Raises DataError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as err:
        raise DataError(f"cannot read {path} ({err.strerror}): check the path") from err


def save_state(path: Path, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
    """Write all that a training needs to go on: tensors, and its progress as plain values."""
    write_tensors(path, tensors, {"schema": _STATE_SCHEMA, **progress})


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a training state, as `save_state` was given it. Raises DataError."""
    return read_tensors(path, _STATE_SCHEMA)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> None:
    """Write tensors and a JSON description into one file that appears only when complete."""
    # One metadata entry: safetensors keeps several in no fixed order, so bytes would vary.
    metadata = {"fcr": json.dumps(described)}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    write_whole(path, data)


def read_tensors(path: Path, schema: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote under this schema. Raises DataError."""
    if not path.is_file():
        raise DataError(f"there is no checkpoint {path}: check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as err:
        raise DataError(f"{path} is damaged or no safetensors file ({err}): take a copy") from err
    described = json.loads(metadata.get("fcr", "{}"))
    if described.get("schema") != schema:
        raise DataError(
            f"{path} has schema {described.get('schema')!r} where {schema!r} is needed:"
            " pass a file that this version of fcr-train wrote"
        )
    return tensors, described
