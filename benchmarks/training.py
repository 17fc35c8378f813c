"""Memory and seconds of a training step of each translator, at a preset's size and batch.

    python benchmarks/training.py [--preset paper] [--steps 3] [--device cpu] [--json out.json]

Each is measured in a process of its own, on pictures of noise: what a step costs does not depend
on what they show. Peak memory is the process's on a CPU, PyTorch's allocator's on a GPU.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from fcr_edge.latency import describe_machine
from fcr_train.config import TranslatorConfig, load_preset
from fcr_train.translators import TRANSLATORS

app = typer.Typer()


@app.command()
def step(model: str, preset: str, steps: int, device: str) -> None:
    """Take one uncounted step and then so many; print the figures as JSON."""
    config = load_preset(model, preset)
    assert isinstance(config, TranslatorConfig)
    torch.manual_seed(0)
    translator = TRANSLATORS[model](config).to(device)
    optimisers, rng = translator.optimisers(), torch.Generator().manual_seed(0)
    number, side = config.schedule.batch_size, config.size
    shape = (number, 1 + 2 * len(config.conditions), side, side)
    batch = {"skull": torch.rand(shape) * 2 - 1, "face": torch.rand(number, 3, side, side) * 2 - 1}
    batch["face_planes"] = batch["skull"][:, 1:]
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    seconds = [_take(translator, batch, optimisers, rng, device) for _ in range(steps + 1)][1:]
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "median_s": statistics.median(seconds),
        "seconds": seconds,
        "peak_bytes": peak,
        "generator_parameters": sum(p.numel() for p in translator.generator.parameters()),
        "parameters": sum(p.numel() for p in translator.parameters()),
    }
    print(json.dumps(figures))


def _take(
    translator: Any, batch: Any, optimisers: Any, rng: torch.Generator, device: str
) -> float:
    """Let every player step once [s], waiting for the GPU within the time."""
    start = time.perf_counter()
    for turn in translator.turns(batch, rng):
        turn.objective.backward()
        optimisers[turn.player].step()
        optimisers[turn.player].zero_grad(set_to_none=True)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@app.command()
def measure(
    preset: Annotated[str, typer.Option(help="paper, small or tiny.")] = "paper",
    steps: Annotated[int, typer.Option(min=1, help="Counted steps of each.")] = 3,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure every translator."""
    table = Table("translator", "s a step", "peak memory", "generator", "all networks")
    figures = {}
    for model in TRANSLATORS:
        arguments = [sys.executable, __file__, "step", model, preset, str(steps), device]
        run = subprocess.run(arguments, check=True, capture_output=True, text=True)
        row = figures[model] = json.loads(run.stdout)
        table.add_row(
            model,
            f"{row['median_s']:.2f} ({min(row['seconds']):.2f}-{max(row['seconds']):.2f})",
            f"{row['peak_bytes'] / 2**30:.2f} GiB",
            f"{row['generator_parameters'] / 1e6:.2f} M",
            f"{row['parameters'] / 1e6:.2f} M",
        )
    Console().print(table)
    if out is not None:
        record = {
            "schema": "fcr-training/1",
            "preset": preset,
            "device": device,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": describe_machine(),
            "translators": figures,
        }
        out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    app()
