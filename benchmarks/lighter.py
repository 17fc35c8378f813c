"""What lighter networks cost and what they keep: students of a translator, and 16 bits for 32.

    python benchmarks/lighter.py compare --teacher T --embedder E --data data/study \
        --split splits.json [--fold 0] [--distractors data/others] [--student S ...] [--json out]
    python benchmarks/lighter.py half --teacher T --embedder E ... [--json out]
    python benchmarks/lighter.py speed [--json out.json]

`compare` searches for the people held out with the faces of the teacher, of each student, and of
the teacher and the embedder in 16 bits, by ONNX Runtime on the CPU; 16 bits are emulated layer by
layer, because there ONNX Runtime would compute in 32. `half` asks where 16 bits
change a list of candidates: in the one network, in the other, in the rounding of the face to the
grey levels that are shown. `speed` times untrained
generators of every size at 256 pixels, each with DenseNet121, from the skull to the embedding: how
fast a network is does not depend on its weights. All that stands side by side is timed in turns,
so that a busy moment strikes everybody. Simulated people: this measures the method.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from export.to_fp16 import Island, emulate, to_half
from export.to_onnx import Target, to_onnx
from fcr_edge import imaging
from fcr_edge.latency import describe_machine
from fcr_edge.manifest import EmbeddingSpec, TensorSpec
from fcr_edge.sessions import Device, Session, open_session
from fcr_train.batches import Album, tell, to_batch, to_pixels
from fcr_train.cli.options import read_fold
from fcr_train.config import (
    STUDENTS,
    EmbedderConfig,
    Generator,
    TranslatorConfig,
    load_preset,
    load_student,
    parse,
)
from fcr_train.dataset import read_dataset
from fcr_train.embedders import FaceEmbedder, load_embedder
from fcr_train.evaluate.benches import Bench, Systems, read_trained
from fcr_train.evaluate.findings import Ground
from fcr_train.evaluate.images import compute_ssim
from fcr_train.evaluate.retrieval import Pictures, Search, search
from fcr_train.networks import build_generator
from fcr_train.tasks import Plan
from fcr_train.translators import load_generator, translator_config

app = typer.Typer()

LISTED = 50
"""Candidates that an examiner looks through."""
BOOTSTRAPS, SEED = 2000, 5
SIDE = 256
WARM_UPS, ROUNDS = 3, 15
_ENDS = 1
"""Layers of a translator that stay in 32 bits to find out what its end does."""
RUNTIMES = ("cpu", "openvino", "openvino-bf16")
"""Beside PyTorch; the first is ONNX Runtime."""

TeacherFile = Annotated[Path, typer.Option(help="Checkpoint of a translator.")]
EmbedderFile = Annotated[Path, typer.Option(help="Checkpoint of an embedder.")]
DataFolder = Annotated[Path, typer.Option(help="The dataset they learned from.")]
SplitFile = Annotated[Path, typer.Option(help="Whom they left out.")]
Others = Annotated[Path | None, typer.Option(help="Others to enrol.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]


@dataclass(frozen=True)
class System:
    """A way from skulls to ranks."""

    name: str
    faces: Album
    searches: dict[str, Search]


@app.command()
def compare(
    teacher: TeacherFile,
    embedder: EmbedderFile,
    data: DataFolder,
    split: SplitFile,
    fold: int = 0,
    distractors: Others = None,
    student: Annotated[list[Path] | None, typer.Option(help="Checkpoints of students.")] = None,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Students by OpenVINO in bfloat16, too.")
    ] = False,
    out: JsonFile = None,
) -> None:
    """Compare the searches of students, and of 16 bits, with those of the teacher in 32."""
    bench = _open_bench(teacher, embedder, data, split, fold, distractors)
    model = _search(bench, "teacher", _draw(bench, teacher))
    half = _draw(bench, teacher, half=True)
    rows = [model, _search(bench, "teacher, 16 bits", half, half=True)]
    sizes = {"teacher": teacher, **{path.parent.name: path for path in student or []}}
    rows += [_search(bench, path.parent.name, _draw(bench, path)) for path in student or []]
    for path in student or [] if bfloat16 else []:
        faces = _draw(bench, path, device="openvino-bf16")
        name = f"{path.parent.name}, bfloat16"
        rows.append(_search(bench, name, faces, device="openvino-bf16"))
    record = _record(model, rows)
    record["sizes"] = {name: _count(path) for name, path in sizes.items()}
    _show(record)
    _write(record, out)


@app.command()
def half(
    teacher: TeacherFile,
    embedder: EmbedderFile,
    data: DataFolder,
    split: SplitFile,
    fold: int = 0,
    distractors: Others = None,
    out: JsonFile = None,
) -> None:
    """Compare the searches of 16 bits in one network or the other with those in 32 bits."""
    bench = _open_bench(teacher, embedder, data, split, fold, distractors)
    single, narrow = _draw(bench, teacher), _draw(bench, teacher, half=True)
    ends = _draw(bench, teacher, half=True, whole=_ENDS)
    model = _search(bench, "32 bits", single)
    rows = [
        _search(bench, "16 bits: both", narrow, half=True),
        _search(bench, "16 bits: embedder", single, half=True),
        _search(bench, "16 bits: translator", narrow),
        _search(bench, "16 bits: translator, its last convolution in 32", ends),
    ]
    smooth = _search(bench, "32 bits, face not rounded", single, rounded=False)
    record = _record(model, rows)
    rows = [
        _search(bench, "16 bits: translator, face not rounded", narrow, rounded=False),
        _search(bench, "16 bits: both, face not rounded", narrow, half=True, rounded=False),
    ]
    record["systems"] |= {row.name: _describe(row, smooth) for row in rows}
    record["sizes"] = {}
    _show(record)
    _write(record, out)


@app.command()
def speed(out: JsonFile = None) -> None:
    """Time each generator with DenseNet121, from a skull of 256 pixels to an embedding."""
    source, face = _skull(SIDE), TensorSpec("face", 3, SIDE, SIDE, -1, 1)
    skull = np.random.default_rng(SEED).uniform(-1, 1, (1, 1, SIDE, SIDE)).astype(np.float32)
    paper = load_preset("cyclegan", "paper")
    assert isinstance(paper, TranslatorConfig)
    shapes = {"resnet 64 x 9 (paper)": paper.generator}
    shapes |= {name: load_student(name, None, paper).generator for name in STUDENTS[:-1]}
    shapes |= {"resnet 32 x 9": Generator(32, antialias=False)}
    shapes |= {"resnet 16 x 9": Generator(16, antialias=False)}
    torch.manual_seed(0)
    densenet = FaceEmbedder("densenet121").eval()
    taken = TensorSpec("face", 3, SIDE, SIDE, 0, 1)
    embedding = EmbeddingSpec("embedding", 1024)
    embed_onnx = to_onnx(densenet, taken, embedding)
    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    figures: dict[str, Any] = {}
    for name, shape in shapes.items():
        generator = build_generator(shape, 1).eval()
        figures[name] = {"gmacs": _macs(generator, SIDE) / 1e9, "parameters": _size(generator)}
        model = to_onnx(generator, source, face)
        runs[name, "pytorch"] = _in_torch(generator, densenet, skull, taken)
        for runtime in RUNTIMES:
            first, second = open_session(model, runtime), open_session(embed_onnx, runtime)
            runs[name, runtime] = _in_sessions(first, second, skull, taken)
    times = _time_in_turns(runs)
    eager = times["resnet 64 x 9 (paper)", "pytorch"]
    for (name, runtime), milliseconds in times.items():
        ratios = [one / other for one, other in zip(eager, milliseconds, strict=True)]
        figures[name][runtime] = {
            "median_ms": statistics.median(milliseconds),
            "fastest_ms": min(milliseconds),
            "times_as_fast": statistics.median(ratios),
        }
    record = {
        "schema": "fcr-lighter-speed/1",
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "densenet121_gmacs": _macs(densenet, taken.height, 3) / 1e9,
        "generators": figures,
    }
    _show_speed(figures)
    _write(record, out)


def _open_bench(
    teacher: Path, embedder: Path, data: Path, split: Path, fold: int, distractors: Path | None
) -> Bench:
    """Read the networks, and the pictures of the people held out."""
    dataset = read_dataset(data)
    systems = Systems(
        read_trained(teacher, load_generator),
        read_trained(embedder, load_embedder),
        None,
        torch.device("cpu"),
    )
    made = systems.embedder.checkpoint
    settings = parse(EmbedderConfig, made.config)
    held_out = read_fold(split, fold, dataset)
    plan = Plan(made.model, made.preset, settings, dataset, 1, systems.device, held_out)
    others = read_dataset(distractors) if distractors else None
    ground = Ground(plan, translator_config(systems.translator.checkpoint).soft_tissue, others)
    return Bench(systems, ground.parts["test", False], ground.parts["training", False])


def _record(model: System, rows: list[System]) -> dict[str, Any]:
    return {
        "schema": "fcr-lighter/1",
        "notice": "simulated people: this measures the method",
        "machine": describe_machine(),
        "gallery": len(next(iter(model.searches.values())).enrolled),
        "systems": {row.name: _describe(row, model) for row in rows},
    }


def _draw(
    bench: Bench,
    translator: Path,
    half: bool = False,
    whole: int = 0,
    device: Device = "cpu",
) -> np.ndarray:
    """Draw the faces of the people held out, -1 to 1; the last `whole` layers stay in 32 bits."""
    generator, drawn = load_generator(translator)
    config = translator_config(drawn)
    channels = 1 + 2 * len(config.conditions)
    source = TensorSpec("skull", channels, config.size, config.size, -1, 1)
    face = TensorSpec("face", 3, config.size, config.size, -1, 1)
    films, told = bench.part.films(config.size), bench.part.dataset.told
    faces = []
    network = _to_half(generator, whole) if half else generator
    with _open(network, half, source, face, device) as run:
        for place in track(range(len(films)), f"{translator.parent.name}, faces"):
            skull = to_batch(films.pixels[place : place + 1], -1, 1)
            skull = tell(skull, [told[films.people[place]]], config.conditions)
            faces.append(run(skull.numpy())[0])
    return np.stack(faces)


@contextmanager
def _open(
    network: nn.Module,
    half: bool,
    source: TensorSpec,
    target: Target,
    device: Device,
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Run a network on a device; one of 16 bits emulated, for the CPU would widen it."""
    if half:
        narrow = emulate(network)
        with torch.inference_mode():
            yield lambda batch: narrow(torch.from_numpy(batch)).numpy()
        return
    with open_session(to_onnx(network, source, target), device) as session:
        yield session.run


def _to_half(network: nn.Module, whole: int) -> nn.Module:
    made = to_half(network)
    narrow = [
        layer
        for layer in made.modules()
        if isinstance(layer, Island) and layer.precision == torch.float16
    ]
    for layer in narrow[len(narrow) - whole :]:
        layer.precision = torch.float32
        layer.layer.float()
    return made


def _search(
    bench: Bench,
    name: str,
    faces: np.ndarray,
    half: bool = False,
    rounded: bool = True,
    device: Device = "cpu",
) -> System:
    """Search with faces, as grey levels or as they were drawn."""
    films = bench.part.films(faces.shape[2])
    album = Album(to_pixels(torch.from_numpy(faces), -1, 1), films.people, films.views)
    pictures = album.pixels if rounded else (faces.transpose(0, 2, 3, 1) + 1) * np.float32(127.5)
    network, made = bench.systems.embedder.network, bench.systems.embedder.checkpoint
    size = int(made.config["size"])
    source = TensorSpec("face", 3, size, size, 0, 1)
    network = to_half(network) if half else network
    embedding = EmbeddingSpec("embedding", _dimension(bench))
    with _open(network, half, source, embedding, device) as run:
        rows = [run(imaging.to_tensor(one, source))[0] for one in track(pictures, name)]
    probes = Pictures(np.stack(rows), films.people, films.views)
    found = {view: search(probes, bench.enrolled, view) for view in bench.part.views}
    return System(name, album, found)


def _dimension(bench: Bench) -> int:
    return int(bench.enrolled.vectors.shape[1])


def _describe(row: System, model: System) -> dict[str, Any]:
    """Hold a system against the model: faces, ranks, and the first 50 candidates."""
    one, other = (_ranks(system) for system in (row, model))
    gain = _bootstrap((one <= LISTED).astype(float) - (other <= LISTED))
    same_set, same_order, shared = _listed_alike(row, model)
    return {
        "probes": len(one),
        "rank_50": float((one <= LISTED).mean()),
        "rank_50_less_teachers": gain,
        "median_rank": float(np.median(one)),
        "ssim": float(compute_ssim(row.faces.pixels, model.faces.pixels).mean()),
        "psnr_db": _psnr(row.faces.pixels, model.faces.pixels),
        "same_50_people": same_set,
        "same_50_in_order": same_order,
        "shared_of_50": shared,
    }


def _ranks(system: System) -> np.ndarray:
    """Return each probe's rank of its mate, ties counting against it."""
    found = []
    for one in system.searches.values():
        mate = one.people[np.arange(len(one.probes)), one.mates][:, None]
        found.append((one.people >= mate).sum(axis=1))
    return np.concatenate(found)


def _listed_alike(row: System, model: System) -> tuple[float, float, float]:
    """Give how often the 50 are the same people, in the same order; how many are, of 50."""
    sets, orders, shared = [], [], []
    for view, one in row.searches.items():
        lists = [
            np.argsort(-each.people, axis=1, kind="stable")[:, :LISTED]
            for each in (one, model.searches[view])
        ]
        sets += [{*a} == {*b} for a, b in zip(*lists, strict=True)]
        orders += [bool((a == b).all()) for a, b in zip(*lists, strict=True)]
        shared += [len({*a} & {*b}) for a, b in zip(*lists, strict=True)]
    return float(np.mean(sets)), float(np.mean(orders)), float(np.mean(shared))


def _psnr(one: np.ndarray, other: np.ndarray) -> float | None:
    error = np.square((one.astype(float) - other) / 255).mean()
    return float(-10 * np.log10(error)) if error else None


def _bootstrap(values: np.ndarray) -> dict[str, float]:
    rng = np.random.default_rng(SEED)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(BOOTSTRAPS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def _count(path: Path) -> dict[str, float]:
    generator, drawn = load_generator(path)
    side = int(drawn.config["size"])
    channels = 1 + 2 * len(translator_config(drawn).conditions)
    return {"mmacs": _macs(generator, side, channels) / 1e6, "parameters": _size(generator)}


def _macs(network: nn.Module, side: int, channels: int = 1) -> float:
    """Count multiply-adds of convolutions and matrices, of one picture."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, channels, side, side))
    return counter.get_total_flops() / 2


def _size(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _skull(side: int) -> TensorSpec:
    return TensorSpec("skull", 1, side, side, -1, 1)


def _in_torch(
    generator: nn.Module, embedder: nn.Module, skull: np.ndarray, taken: TensorSpec
) -> Callable[[], Any]:
    side = (taken.height, taken.width)

    def run() -> Any:
        with torch.inference_mode():
            face = (generator(torch.from_numpy(skull)) + 1) / 2
            if face.shape[2:] != side:
                face = nn.functional.interpolate(face, side, mode="area")
            return embedder(face)

    return run


def _in_sessions(
    generator: Session, embedder: Session, skull: np.ndarray, taken: TensorSpec
) -> Callable[[], Any]:
    face = TensorSpec("face", 3, SIDE, SIDE, -1, 1)
    return lambda: embedder.run(
        imaging.to_tensor(imaging.to_picture(generator.run(skull)[0], face), taken)
    )


def _time_in_turns(
    runs: dict[tuple[str, str], Callable[[], Any]],
) -> dict[tuple[str, str], list[float]]:
    """Time everybody once a round [ms], so that ratios are of neighbours in time."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for turn in track(range(WARM_UPS + ROUNDS), "rounds", console=Console(stderr=True)):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= WARM_UPS:
                times[key].append(1000 * (time.perf_counter() - start))
    return times


def _show(record: dict[str, Any]) -> None:
    table = Table(
        *("", "MMACs", "rank 50", "less the teacher's", "SSIM", "same 50", "in order", "shared"),
        title=f"{record['gallery']} people enrolled",
    )
    for name, row in record["systems"].items():
        gain, size = row["rank_50_less_teachers"], record["sizes"].get(name)
        table.add_row(
            name,
            f"{size['mmacs']:.1f}" if size else "",
            f"{row['rank_50']:.3f}",
            f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})",
            f"{row['ssim']:.4f}",
            f"{row['same_50_people']:.3f}",
            f"{row['same_50_in_order']:.3f}",
            f"{row['shared_of_50']:.2f}",
        )
    Console().print(table)


def _show_speed(figures: dict[str, Any]) -> None:
    table = Table("", "GMACs", "PyTorch ms", *(f"{name} ms (times)" for name in RUNTIMES))
    for name, row in figures.items():
        cells = [
            f"{row[runtime]['median_ms']:.1f} ({row[runtime]['times_as_fast']:.1f})"
            for runtime in ("pytorch", *RUNTIMES)
        ]
        table.add_row(name, f"{row['gmacs']:.2f}", *cells)
    Console().print(table)


def _write(record: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
