from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

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
    assert load_checkpoint(checkpoint).model == "fastcut"
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
        pytest.param(["embedder", "--translator", "no.safetensors"], "no checkpoint", id="file"),
        pytest.param(["export", "--out", "b"], "--translator CHECKPOINT", id="export nothing"),
        pytest.param(["export", "--out", "b", "--engine", "trt"], "NVIDIA GPU", id="trt"),
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
        handed.extend([*arguments, options["weights"], options["licence"]])

    monkeypatch.setattr("export.build.build_bundle", build_bundle)
    arguments = ["--translator", "t", "--embedder", "e", "--data", str(dataset_folder)]
    out = tmp_path / "field"

    result = runner.invoke(app, ["export", *arguments, "--out", str(out), "--weights", "half"])

    assert result.exit_code == 0, result.output
    translator, embedder, films, folder, *rest = handed
    assert (translator, embedder, folder) == (Path("t"), Path("e"), out)
    assert isinstance(films, list)
    assert {path.suffix for path in films} == {".png"}
    assert rest == ["field", "half", "NOASSERTION"]
