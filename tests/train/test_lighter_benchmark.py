"""What lighter networks keep is measured by ranks and lists that can be counted by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from fcr_train.batches import Album
from fcr_train.evaluate.retrieval import Search

MODULE = Path(__file__).parents[2] / "benchmarks" / "lighter.py"
PEOPLE = 60


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lighter_benchmark", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_system(benchmark: ModuleType, order: list[int]) -> object:
    """One probe, person 3, to whom the people are similar in this order."""
    similarity = np.zeros((1, PEOPLE), np.float32)
    similarity[0, order] = np.linspace(1, 0, PEOPLE)
    names = tuple(f"p{number}" for number in range(PEOPLE))
    search = Search(("p3",), names, similarity, similarity, np.arange(PEOPLE))
    faces = Album(np.zeros((1, 32, 32, 3), np.uint8), ("p3",), ("frontal",))
    return benchmark.System("made", faces, {"frontal": search})


def test_a_rank_is_the_mates_place(benchmark: ModuleType) -> None:
    order = [*range(PEOPLE)]

    assert benchmark._ranks(make_system(benchmark, order)) == [4]
    assert benchmark._ranks(make_system(benchmark, order[::-1])) == [PEOPLE - 3]


def test_a_tie_counts_against_the_mate(benchmark: ModuleType) -> None:
    system = make_system(benchmark, [*range(PEOPLE)])
    system.searches["frontal"].people[:] = 0.5  # type: ignore[attr-defined]

    assert benchmark._ranks(system) == [PEOPLE]


@pytest.mark.parametrize(
    ("swap", "alike"),
    [
        pytest.param((0, 0), (1, 1, 50), id="nothing"),
        pytest.param((2, 7), (1, 0, 50), id="within the list"),
        pytest.param((55, 58), (1, 1, 50), id="below it"),
        pytest.param((49, 50), (0, 0, 49), id="over its end"),
    ],
)
def test_lists_are_compared_as_sets_and_in_order(
    benchmark: ModuleType, swap: tuple[int, int], alike: tuple[float, float, float]
) -> None:
    order = [*range(PEOPLE)]
    one, other = swap
    order[one], order[other] = order[other], order[one]

    found = benchmark._listed_alike(
        make_system(benchmark, order), make_system(benchmark, [*range(PEOPLE)])
    )

    assert found == alike


def test_multiply_adds_are_counted_as_on_paper(benchmark: ModuleType) -> None:
    network = nn.Conv2d(1, 8, 3, padding=1)

    assert benchmark._macs(network, 16) == 16 * 16 * 8 * 9


def test_runs_are_timed_in_turns(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "WARM_UPS", 1)
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    told: list[str] = []

    times = benchmark._time_in_turns(
        {("a", "x"): lambda: told.append("a"), ("b", "x"): lambda: told.append("b")}
    )

    assert told == ["a", "b"] * 3
    assert [len(values) for values in times.values()] == [2, 2]


def test_the_eager_run_is_what_the_sessions_run(benchmark: ModuleType) -> None:
    """Both ways go from a skull to an embedding through the same face."""
    from export.to_onnx import to_onnx
    from fcr_edge.manifest import EmbeddingSpec, TensorSpec
    from fcr_edge.sessions import open_session

    class Mean(nn.Module):
        def forward(self, face: torch.Tensor) -> torch.Tensor:
            return face.mean(dim=(2, 3))

    class Thrice(nn.Module):
        def forward(self, skull: torch.Tensor) -> torch.Tensor:
            return torch.cat([skull] * 3, dim=1)

    side = benchmark.SIDE
    source, face = (
        TensorSpec("skull", 1, side, side, -1, 1),
        TensorSpec("face", 3, side, side, -1, 1),
    )
    taken = TensorSpec("face", 3, 128, 128, 0, 1)
    skull = np.random.default_rng(1).uniform(-1, 1, (1, 1, side, side)).astype(np.float32)
    sessions = [
        open_session(to_onnx(Thrice(), source, face), "cpu"),
        open_session(to_onnx(Mean(), taken, EmbeddingSpec("embedding", 3)), "cpu"),
    ]

    eager = benchmark._in_torch(Thrice(), Mean(), skull, taken)().numpy()
    found = benchmark._in_sessions(*sessions, skull, taken)()

    assert np.abs(eager - found).max() < 1 / 255
