from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from export.build import Form
from fcr_edge import __version__
from fcr_train.checkpoint import load_checkpoint
from fcr_train.cli import app
from fcr_train.embedders import FaceEmbedder, load_embedder

runner = CliRunner()


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "import fcr_train.cli\n"
        "heavy = {'torch', 'cv2', 'scipy', 'onnx', 'onnxruntime', 'rich.progress'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_runs_as_torchrun_starts_it() -> None:
    program = [sys.executable, "-m", "fcr_train.cli", "--version"]

    said = subprocess.run(program, check=True, capture_output=True, text=True)

    assert said.stdout == f"{__version__}\n"


def test_training_from_the_command_line(dataset_folder: Path, tmp_path: Path) -> None:
    run, embedder_run = tmp_path / "translator", tmp_path / "embedder"
    common = ["--preset", "tiny", "--data", str(dataset_folder), "--epochs", "1"]

    first = runner.invoke(app, ["translator", *common, "--out", str(run)])
    checkpoint = run / "checkpoint.safetensors"
    second = runner.invoke(
        app, ["embedder", *common, "--translator", str(checkpoint), "--out", str(embedder_run)]
    )

    assert first.exit_code == 0, first.output
    assert first.stdout.strip() == str(checkpoint)
    assert "epoch 1" in first.stderr
    assert load_checkpoint(checkpoint).model == "pix2pix"
    assert second.exit_code == 0, second.output
    assert "rank_1" in second.stderr
    assert "chance_1" in second.stderr
    embedder = load_checkpoint(embedder_run / "checkpoint.safetensors")
    assert (embedder.kind, embedder.config["size"]) == ("embedder", 32)


def test_a_configuration_of_ones_own(dataset_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        """
        size = 32
        lambda_nce = 1.0
        lambda_identity = 0.0
        flip_equivariance = false
        soft_tissue = "none"
        generator = { ngf = 4, blocks = 5 }
        discriminator = { ndf = 4 }
        schedule = { epochs = 1, decay_epochs = 0, batch_size = 2, learning_rate = 1e-4 }
        """
    )
    arguments = ["--model", "cut", "--config", str(mine), "--data", str(dataset_folder)]

    result = runner.invoke(app, ["translator", *arguments, "--out", str(tmp_path / "run")])

    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert (checkpoint.model, checkpoint.preset) == ("cut", "mine")
    assert checkpoint.step == 7
    assert checkpoint.config["soft_tissue"] == "none"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["translator", "--data", "nowhere"], "fcr-train simulate", id="no data"),
        pytest.param(["translator", "--model", "densenet121"], "another command", id="kind"),
        pytest.param(["translator", "--model", "dcgan"], "cut, fastcut", id="model"),
        pytest.param(["translator", "--preset", "huge"], "paper, small, tiny", id="preset"),
        pytest.param(["translator", "--epochs", "0"], "epochs is 0", id="epochs"),
        pytest.param(["embedder", "--translator", "no.safetensors"], "cannot read", id="file"),
        pytest.param(["export", "--out", "b"], "pass --data FOLDER", id="export nothing"),
        pytest.param(
            ["export", "--out", "b", "--data", ".", "--best", "b.json"], "b.json", id="no study"
        ),
        pytest.param(
            ["export", "--out", "b", "--data", ".", "--translator", "t"], "both", id="one network"
        ),
        pytest.param(
            ["export", "--out", "b", "--data", ".", "--embedder", "e", "--best", "b.json"],
            "or none of them and perhaps --best FILE",
            id="a network beside the best run",
        ),
    ],
)
def test_errors_say_what_to_do_and_exit_3(
    dataset_folder: Path, arguments: list[str], words: str
) -> None:
    if arguments[0] != "export" and "--data" not in arguments:
        arguments = [*arguments, "--data", str(dataset_folder)]

    result = runner.invoke(app, arguments)

    assert result.exit_code == 3, result.output
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stdout == ""


def test_no_epochs_write_an_embedder_as_the_seed_paper_uses_it(
    dataset_folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(dict(FaceEmbedder("resnet18").features.state_dict()), weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    arguments = ["--data", str(dataset_folder), "--backbone", "resnet18", "--epochs", "0"]
    arguments += ["--weights", str(weights), "--weights-sha256", sha256, "--out", str(tmp_path)]

    result = runner.invoke(app, ["embedder", *arguments])

    assert result.exit_code == 0, result.output
    assert "not trained; initial weights: file weights.safetensors" in result.stderr
    _, checkpoint = load_embedder(Path(result.stdout.strip()))
    assert (checkpoint.step, checkpoint.data["initial_weights_sha256"]) == (0, sha256)


@pytest.mark.parametrize(
    "arguments", [["translator"], ["export", "--engine", "tensorflow", "--out", "b"]]
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


def test_export_hands_everything_on(
    dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[object] = []

    def build_bundle(*arguments: object, **options: object) -> None:
        handed.extend([*arguments, options["form"]])

    monkeypatch.setattr("export.build.build_bundle", build_bundle)
    arguments = ["--translator", "t", "--embedder", "e", "--data", str(dataset_folder)]
    out = tmp_path / "field"

    arguments += ["--out", str(out), "--weights", "half", "--fp16", "--openvino"]
    result = runner.invoke(app, ["export", *arguments])

    assert result.exit_code == 0, result.output
    translator, embedder, films, folder, *rest = handed
    assert (translator, embedder, folder) == (Path("t"), Path("e"), out)
    assert isinstance(films, list)
    assert {path.suffix for path in films} == {".png"}
    assert rest == ["field", Form("half", fp16=True, openvino=True, licence="NOASSERTION")]


def mark_best(study: Path, written: int, **changes: object) -> Path:
    """Write what `compare` writes when it is done, at a time [s]."""
    best = {
        "translator": "cut",
        "embedder": "vgg16",
        "checkpoints": {"translator": "runs/cut/c", "embedder": "runs/vgg16-cut/c"},
        "evaluation": "evaluations/e.json",
        "why": "the best of 4 runs",
    }
    study.mkdir(parents=True)
    (study / "best.json").write_text(json.dumps(best | changes))
    os.utime(study / "best.json", (written, written))
    return study / "best.json"


@pytest.fixture
def exported(
    dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Result, list[str]]]:
    """Call `export` in an empty folder; returns what it said and which files it took."""

    def call(*arguments: object) -> tuple[Result, list[str]]:
        handed: list[str] = []
        monkeypatch.setattr(
            "export.build.build_bundle",
            lambda translator, embedder, *_, evaluation, **__: handed.extend(
                map(str, (translator, embedder, evaluation))
            ),
        )
        common = ["export", "--data", str(dataset_folder), "--out", "b"]
        return runner.invoke(app, [*common, *map(str, arguments)]), handed

    monkeypatch.chdir(tmp_path)
    return call


def test_export_takes_the_run_that_the_last_study_marked_best(
    exported: Callable[..., tuple[Result, list[str]]], tmp_path: Path
) -> None:
    mark_best(tmp_path / "runs" / "a", written=3)
    mark_best(tmp_path / "runs" / "b", written=5, translator="pix2pix", why="0.3 [of 4 runs]")
    mark_best(tmp_path / "runs" / "c", written=4)

    result, handed = exported()

    assert result.exit_code == 0, result.output
    files = ["runs/b/runs/cut/c", "runs/b/runs/vgg16-cut/c", "runs/b/evaluations/e.json"]
    assert handed == files
    assert result.stdout == "b\n"
    assert "best run of runs/b/best.json: pix2pix with vgg16, 0.3 [of 4 runs]" in result.stderr
    assert "translator: runs/b/runs/cut/c\nembedder: runs/b/runs/vgg16-cut/c" in result.stderr


def test_export_takes_the_best_run_of_the_study_named(
    exported: Callable[..., tuple[Result, list[str]]], tmp_path: Path
) -> None:
    named = mark_best(tmp_path / "elsewhere", written=3)
    mark_best(tmp_path / "runs" / "b", written=5)

    result, handed = exported("--best", named)

    assert result.exit_code == 0, result.output
    files = ["runs/cut/c", "runs/vgg16-cut/c", "evaluations/e.json"]
    assert handed == [f"{named.parent}/{file}" for file in files]


def test_export_of_what_no_study_has_marked_says_what_to_do(
    exported: Callable[..., tuple[Result, list[str]]],
) -> None:
    result, handed = exported()

    assert (result.exit_code, handed) == (3, [])
    assert result.stderr.startswith("error: no study has marked a best run (runs/*/best.json)")
    assert "run `fcr-train compare`, or pass --best FILE, or --translator" in result.stderr


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"checkpoints": {"translator": "t"}}, id="no embedder"),
        pytest.param({"checkpoints": ["t", "e"]}, id="no names"),
        pytest.param({"checkpoints": {"translator": 1, "embedder": 2}}, id="no paths"),
        pytest.param({"evaluation": 1}, id="no path of the evaluation"),
        pytest.param({"rank": 1}, id="unknown key"),
    ],
)
def test_a_damaged_mark_of_the_best_run_is_refused(
    exported: Callable[..., tuple[Result, list[str]]], tmp_path: Path, changes: dict[str, object]
) -> None:
    mark_best(tmp_path / "runs" / "a", 1, **changes)

    result, handed = exported()

    assert (result.exit_code, handed) == (3, [])
    assert "runs/a/best.json does not name a best run" in result.stderr
