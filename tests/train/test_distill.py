"""A light generator learns to draw what a trained one draws, and nothing it may not know."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError
from fcr_train.batches import Album
from fcr_train.checkpoint import digest, load_checkpoint
from fcr_train.cli import app
from fcr_train.config import (
    STUDENTS,
    CutConfig,
    Generator,
    StudentConfig,
    TranslatorConfig,
    load_preset,
    load_student,
)
from fcr_train.dataset import read_dataset
from fcr_train.networks import build_generator
from fcr_train.tasks import DistillTask, Plan, TranslatorTask
from fcr_train.tasks.distillation import _thin
from fcr_train.trainer import CHECKPOINT_FILE, LOSSES_FILE, train
from fcr_train.translators import FaceIdentity, Student, load_generator
from fcr_train.translators.student import relative_error, watch

FEW = 20
SAME = 1e-6


def configure(**changes: object) -> StudentConfig:
    teacher = load_preset("cut", "tiny")
    assert isinstance(teacher, TranslatorConfig)
    return replace(load_student("tiny", None, teacher), **changes)


def make_teacher(**changes: object) -> nn.Module:
    torch.manual_seed(3)
    return build_generator(Generator(**{"ngf": 8, "blocks": 1, **changes}), 1)  # type: ignore[arg-type]


def plan(dataset_folder: Path, **changes: object) -> Plan[StudentConfig]:
    dataset = read_dataset(dataset_folder)
    return Plan("student", "tiny", configure(**changes), dataset, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def teacher_run(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = load_preset("cut", "tiny")
    assert isinstance(config, CutConfig)
    dataset = read_dataset(dataset_folder)
    task = TranslatorTask(Plan("cut", "tiny", config, dataset, 1, torch.device("cpu")))
    run = tmp_path_factory.mktemp("teacher")
    train(task, run, 1, task.plan.identity)
    return run


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_draws_what_its_teacher_draws_from_what_its_teacher_takes(name: str) -> None:
    teacher = load_preset("cut", "tiny")
    assert isinstance(teacher, TranslatorConfig)
    teacher = replace(teacher, conditions=("sex", "bmi"), soft_tissue="none", size=128)

    student = load_student(name, None, teacher)

    assert student.size == 128
    assert student.conditions == ("sex", "bmi")
    assert student.soft_tissue == "none"
    assert student.split == teacher.split
    assert student.generator.architecture == "shuffle"


def test_a_students_file_may_not_say_what_is_its_teachers(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("size = 64\n")

    with pytest.raises(ConfigError, match=r"the size of a student is its teacher's.*mine\.toml"):
        load_student("small-b", path, configure())
    with pytest.raises(ConfigError, match="unknown student 'small-z'"):
        load_student("small-z", None, configure())


def test_a_shuffle_generator_works_at_a_quarter_of_the_resolution() -> None:
    generator = build_generator(Generator(6, "shuffle", blocks=2), 1)

    face, features = watch(generator, torch.randn(2, 1, 32, 48))

    assert face.shape == (2, 3, 32, 48)
    assert features.shape == (2, 6, 8, 12)
    assert face.abs().max() < 1


def test_multiplications_of_the_students_fall_from_wide_to_narrow() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for name in (name for name in STUDENTS if name != "tiny"):
        generator = build_generator(load_student(name, None, configure()).generator, 1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            generator(torch.zeros(1, 1, 256, 256))
        counts.append(counter.get_total_flops() / 2e9)

    assert counts == sorted(counts, reverse=True)
    assert counts[0] < 49.1 / 10, "the paper's generator has 49.1 billion"


@pytest.mark.parametrize(
    "shape",
    [{}, {"antialias": False}, {"architecture": "unet", "halvings": 4}],
    ids=["resnet", "strided", "unet"],
)
def test_features_of_every_teacher_lie_at_a_quarter_of_the_resolution(shape: dict) -> None:
    face, features = watch(make_teacher(**shape), torch.randn(1, 1, 64, 64))

    assert face.shape == (1, 3, 64, 64)
    assert features.shape[2:] == (16, 16)


def test_objective_by_hand() -> None:
    student = Student(configure(lambda_features=0.5), make_teacher())
    student.generator = nn.Identity()  # type: ignore[assignment]
    losses = {"l1": torch.tensor(0.2), "features": torch.tensor(0.6)}
    model = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])

    assert student.weigh(losses).item() == pytest.approx(0.2 + 0.5 * 0.6)
    # The variance of the model, of one degree of freedom less, is 4/3; off by 1 everywhere.
    assert relative_error(model + 1, model).item() == pytest.approx(1 / (4 / 3))


def test_a_copy_of_the_teacher_is_where_the_student_wants_to_be() -> None:
    teacher = make_teacher()
    student = Student(configure(generator=Generator(8, blocks=1)), teacher)
    student.generator.load_state_dict(teacher.state_dict())
    nn.init.dirac_(student.to_teacher.weight)
    nn.init.zeros_(student.to_teacher.bias)

    (turn,) = student.turns({"skull": torch.randn(1, 1, 64, 64)}, torch.Generator())

    assert turn.losses["l1"].item() < SAME
    assert turn.losses["features"].item() < SAME


def test_the_teacher_stays_as_it_is_and_the_student_comes_nearer() -> None:
    teacher = make_teacher(architecture="unet", halvings=4, dropout=0.5)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    student = Student(configure(generator=Generator(16, "shuffle", blocks=2)), teacher).train()
    (optimiser,) = student.optimisers().values()
    batch = {"skull": torch.randn(2, 1, 64, 64)}
    objectives = []

    for _ in range(FEW):
        (turn,) = student.turns(batch, torch.Generator())
        turn.objective.backward()
        optimiser.step()
        optimiser.zero_grad()
        objectives.append(turn.objective.item())

    assert not teacher.training, "its dropout would be drawn anew"
    assert all(torch.equal(before[name], weight) for name, weight in teacher.state_dict().items())
    assert objectives[-1] < 0.7 * objectives[0]


def test_faces_are_likened_to_an_embedder_too_where_it_is_weighed() -> None:
    class Mean(nn.Module):
        def forward(self, face: torch.Tensor) -> torch.Tensor:
            return nn.functional.normalize(face.mean(dim=(2, 3)), dim=1)

    student = Student(configure(lambda_embedding=2.0), make_teacher(), FaceIdentity(Mean(), 64))

    (turn,) = student.turns({"skull": torch.randn(1, 1, 64, 64)}, torch.Generator())

    assert turn.losses["embedding"] > 0
    turn.objective.backward()
    assert next(student.generator.parameters()).grad is not None
    with pytest.raises(ConfigError, match="no embedder"):
        Student(configure(lambda_embedding=2.0), make_teacher())


def test_a_teacher_that_has_seen_those_held_out_is_refused(
    dataset_folder: Path, teacher_run: Path
) -> None:
    generator, checkpoint = load_generator(teacher_run / CHECKPOINT_FILE)
    data = {**checkpoint.data, "held_out": []}

    with pytest.raises(DataError, match="translator was trained on 1 people who are held out"):
        DistillTask(plan(dataset_folder), (generator, replace(checkpoint, data=data)))


def test_distilling_from_the_command_line(
    dataset_folder: Path, teacher_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "student"
    options = ["--data", str(dataset_folder), "--student", "tiny", "--out", str(out)]

    told = CliRunner().invoke(app, ["distill", *options, "--teacher", str(teacher_run)])

    assert told.exit_code == 0, told.output
    assert told.stdout.strip() == str(out / CHECKPOINT_FILE)
    student, checkpoint = load_generator(out / CHECKPOINT_FILE)
    assert (checkpoint.model, checkpoint.preset) == ("student", "tiny")
    taught_by = checkpoint.data["sources"]["teacher"]
    assert taught_by == digest(teacher_run / CHECKPOINT_FILE)
    assert (
        checkpoint.data["held_out"]
        == load_checkpoint(teacher_run / CHECKPOINT_FILE).data["held_out"]
    )
    assert student(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 64, 64)
    with (out / LOSSES_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert -1 <= float(rows[-1]["ssim"]) <= 1
    grid = imaging.read_picture(out / "samples" / "epoch_0002.png")
    assert grid.shape[0] == 3 * 64


@pytest.mark.parametrize("people", [3, 40, 300])
def test_every_view_is_watched_alike(people: int) -> None:
    names = tuple(f"p{number}" for number in range(people) for _ in range(2))
    films = Album(
        np.zeros((2 * people, 4, 4, 1), np.uint8), names, ("frontal", "lateral") * people
    )

    watched = _thin(films)

    assert watched.views.count("frontal") == watched.views.count("lateral") == min(people, 32)
    assert len(watched.pixels) == len(watched)
    assert len({*zip(watched.people, watched.views, strict=True)}) == len(watched)
