from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = 10
TOLERANCE = 1e-4
"""What the losses of one process and of two may differ by, from sums taken in another order.

Asked in double precision: in single they differ by 1e-7 at first, but Adam divides gradients near
zero by their own size, so that rounding grows by a factor of three a step.
"""

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

model, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
config = load_preset(model, "tiny")
schedule = replace(config.schedule, epochs=1, decay_epochs=0, batch_size=4, steps_per_epoch=10)
config = replace(config, schedule=schedule)
seen = []
with processes.joined("cpu"):
    plan = Plan(model, "tiny", config, read_dataset(data), 1, torch.device("cpu"))
    task = TranslatorTask(plan)
    task.networks.double()
    batches = task.batches
    task.batches = lambda streams: (
        {name: tensor.double() for name, tensor in batch.items()} for batch in batches(streams)
    )
    task.finish_epoch = lambda epoch, out, network: {}  # samples are in single precision
    train(task, out, 1, plan.identity, observe=lambda p: seen.append(dict(p.figures)))
    if processes.is_first():
        (out / "seen.json").write_text(json.dumps(seen))
"""


def run(model: str, data: Path, out: Path, number: int) -> list[dict[str, float]]:
    import json

    script = out.parent / "script.py"
    script.write_text(SCRIPT)
    start = [sys.executable]
    if number > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*start, str(script), model, str(data), str(out)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    seen: list[dict[str, float]] = json.loads((out / "seen.json").read_text())
    return seen


@pytest.mark.parametrize("model", ["fastcut", "cut"])
def test_two_processes_learn_what_one_learns(
    model: str, dataset_folder: Path, tmp_path: Path
) -> None:
    one = run(model, dataset_folder, tmp_path / "one", 1)
    two = run(model, dataset_folder, tmp_path / "two", 2)

    assert len(one) == len(two) == STEPS + 1
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, abs=TOLERANCE)
