from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import nn

from fcr_train.contrast import contrast

PARITY = 1e-6
"""The same sums in another order, in float32."""

SCRIPT = """
import sys

import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import distributed, nn

from fcr_train.contrast import contrast

folder, rank = sys.argv[1], int(sys.argv[2])
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
)
given = torch.load(f"{folder}/given.pt", weights_only=True)
network = nn.Linear(6, 4)
network.load_state_dict(given["network"])
picture, person = (given[name].chunk(2)[rank] for name in ("picture", "person"))
found = []
for others in ((None, None), (network(picture.flip(1)), person)):
    network.weight.grad = None
    loss = contrast(SupConLoss(0.1), network(picture), person, *others)
    loss.backward()
    distributed.all_reduce(network.weight.grad)
    found.append((loss.detach() / 2, network.weight.grad / 2))
if rank == 0:
    torch.save(found, f"{folder}/found.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def supervised_contrast(embeddings: list[list[float]], people: list[int], tau: float) -> float:
    """Compute Khosla et al. 2020, Eq. 2, pair by pair."""

    def similarity(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(embeddings[i], embeddings[j], strict=True)) / tau

    places, losses = range(len(people)), []
    for i in places:
        total = sum(math.exp(similarity(i, j)) for j in places if j != i)
        mates = [j for j in places if j != i and people[j] == people[i]]
        losses.append(-sum(math.log(math.exp(similarity(i, j)) / total) for j in mates))
        losses[-1] /= len(mates)
    return sum(losses) / len(losses)


def test_the_loss_is_supervised_contrastive() -> None:
    embeddings = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-0.8, 0.6]]

    loss = contrast(SupConLoss(0.5), torch.tensor(embeddings), torch.tensor([0, 0, 1, 1]))

    assert loss.item() == pytest.approx(supervised_contrast(embeddings, [0, 0, 1, 1], 0.5))


def test_against_others_the_loss_is_cross_entropy_over_them() -> None:
    films, faces = torch.eye(2), torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    people = torch.tensor([3, 7])

    loss = contrast(SupConLoss(0.1), films, people, faces, people)

    # Person 3's film is at .6 from the own face, at .8 from the other; person 7's likewise.
    assert loss.item() == pytest.approx(math.log(1 + math.exp((0.8 - 0.6) / 0.1)))


def test_the_loss_is_computed_in_float32() -> None:
    embeddings = nn.functional.normalize(torch.randn(8, 4), dim=1)
    people = torch.arange(4).repeat(2)

    with torch.autocast("cpu", torch.bfloat16):
        loss = contrast(SupConLoss(0.1), embeddings, people)

    assert torch.equal(loss, contrast(SupConLoss(0.1), embeddings, people))


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, picture = nn.Linear(6, 4), torch.randn(8, 6)
    person = torch.tensor([0, 0, 1, 1, 2, 2, 1, 0])
    given = {"network": network.state_dict(), "picture": picture, "person": person}
    torch.save(given, tmp_path / "given.pt")

    processes = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), str(rank)])
        for rank in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]

    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for case, others in enumerate(((None, None), (network(picture.flip(1)), person))):
        network.weight.grad = None
        loss = contrast(SupConLoss(0.1), network(picture), person, *others)
        loss.backward()
        torch.testing.assert_close(found[case][0], loss.detach(), atol=PARITY, rtol=0)
        torch.testing.assert_close(found[case][1], network.weight.grad, atol=PARITY, rtol=0)
