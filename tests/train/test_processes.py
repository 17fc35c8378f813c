from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = 10
TOLERANCE = 1e-4
"""What the losses of one process and of two may differ by, from sums taken in another order."""
ALIKE = {"fastcut-float64": STEPS, "cut-float64": STEPS, "fastcut-float32": 3}
"""Steps that have to agree. In single precision losses differ by 1e-7 at first, but Adam divides
gradients near zero by their own size, so that rounding grows by a factor of three a step."""

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch

from fcr_train import processes
from fcr_train.config import load_preset
from fcr_train.dataset import read_dataset
from fcr_train.tasks import Plan, TranslatorTask
from fcr_train.trainer import train

data, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)


def learn(model, dtype):
    config = load_preset(model, "tiny")
    schedule = replace(config.schedule, epochs=1, decay_epochs=0, batch_size=4, steps_per_epoch=10)
    config = replace(config, schedule=schedule)
    plan = Plan(model, "tiny", config, read_dataset(data), 1, torch.device("cpu"))
    task, seen = TranslatorTask(plan), []
    task.networks.to(dtype)
    batches = task.batches
    task.batches = lambda streams: (
        {name: tensor.to(dtype) for name, tensor in batch.items()} for batch in batches(streams)
    )
    task.finish_epoch = lambda epoch, out, network: {}  # samples are in single precision
    folder = out / f"{model}-{str(dtype)[6:]}"
    train(task, folder, 1, plan.identity, observe=lambda p: seen.append(dict(p.figures)))
    if processes.is_first():
        (folder / "seen.json").write_text(json.dumps(seen))


with processes.joined("cpu"):
    for argument in sys.argv[3:]:
        model, _, precision = argument.partition("-")
        learn(model, getattr(torch, precision))
"""


def run(data: Path, out: Path, number: int) -> Path:
    script = out.parent / "script.py"
    script.write_text(SCRIPT)
    start = [sys.executable]
    if number > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*start, str(script), str(data), str(out), *ALIKE],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def runs(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Train everything in one process, and in two."""
    folder = tmp_path_factory.mktemp("processes")
    return [run(dataset_folder, folder / str(number), number) for number in (1, 2)]


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_learn_what_one_learns(name: str, runs: list[Path]) -> None:
    one, two = (json.loads((out / name / "seen.json").read_text()) for out in runs)

    assert len(one) == len(two) == STEPS + 1
    for alone, together in list(zip(one, two, strict=True))[: ALIKE[name]]:
        assert together == pytest.approx(alone, abs=TOLERANCE)
