from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fcr_train.cli import app
from fcr_train.evaluate.record import Evaluation

PEOPLE = 18
MODELS = ("pix2pix", "fastcut")


def compare(data: Path, out: Path, *options: str) -> Result:
    arguments = ["compare", "--data", str(data), "--preset", "tiny", "--out", str(out)]
    models = ["--translators", ",".join(MODELS), "--embedders", "resnet18,vgg16"]
    return CliRunner().invoke(app, [*arguments, *models, "--folds", "3", *options])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_people: Callable[..., Path]) -> Path:
    return write_people(tmp_path_factory.mktemp("compared"), PEOPLE)


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    result = compare(data, out, "--by", "both")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out / "report" / "index.html")
    return out


def read_evaluations(out: Path) -> dict[str, Evaluation]:
    paths = (out / "evaluations").iterdir()
    return {path.stem: Evaluation.from_json(path.read_text()) for path in paths}


def test_every_translator_is_measured_and_every_embedder_with_the_best(out: Path) -> None:
    best = json.loads((out / "best.json").read_text())

    for by in ("person-0", "pair-0"):
        runs = {name for name in read_evaluations(out) if name.startswith(by)}
        assert {f"{by}-{model}-resnet18" for model in MODELS} <= runs
        assert len(runs) == 3
    assert f"person-0-{best['translator']}-{best['embedder']}" in read_evaluations(out)
    assert all((out / path).is_file() for path in best["checkpoints"].values())
    assert best["evaluation"].startswith(f"evaluations/person-0-{best['translator']}")
    measured = Evaluation.from_json((out / best["evaluation"]).read_text())
    assert measured.fusion is not None, "goes into the bundle"
    assert measured.fusion.simulated
    assert "set aside" in best["why"]


def test_the_report_holds_the_tables_of_the_paper_and_what_they_lack(out: Path) -> None:
    page = (out / "report" / "index.html").read_text(encoding="utf-8")

    for words in ("Table 1", "Table 2a", "seed paper, not comparable", "chance", "sex and age"):
        assert words in page
    assert "never forensic accuracy" in page
    assert "fcr-train" in page
    assert len(json.loads((out / "report" / "report.json").read_text())["evaluations"]) == 6


def test_nobody_is_tested_who_was_trained_on(out: Path) -> None:
    for name, evaluation in read_evaluations(out).items():
        if name.startswith("person"):
            assert evaluation.people.test == PEOPLE // 3
            assert evaluation.people.train < PEOPLE * 2 // 3, "some are set aside"


def test_what_is_finished_is_not_done_again(data: Path, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    before |= {path: path.stat().st_mtime_ns for path in (out / "evaluations").iterdir()}

    result = compare(data, out, "--by", "both")

    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "training" not in result.stderr


def test_an_interrupted_study_goes_on_to_the_same_figures(
    data: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcr_train import compare as study

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    few = ("--translators", "pix2pix", "--embedders", "resnet18")
    with monkeypatch.context() as patch:
        patch.setattr(study, "examine", interrupt)
        assert compare(data, tmp_path / "study", *few).exit_code != 0
    assert not (tmp_path / "study" / "report").exists()

    result = compare(data, tmp_path / "study", *few)

    assert result.exit_code == 0, result.output
    for name, evaluation in read_evaluations(tmp_path / "study").items():
        assert evaluation.retrieval == read_evaluations(out)[name].retrieval


def test_a_folder_of_another_study_is_not_mixed_in(data: Path, out: Path) -> None:
    result = compare(data, out, "--seed", "2")

    assert result.exit_code == 3
    assert "choose another --out" in result.output

    result = compare(data, out, "--folds", "2")

    assert result.exit_code == 3
    assert "was trained with another split" in result.output


@pytest.fixture(scope="module")
def thorough(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("thorough")
    few = ("--translators", "pix2pix", "--embedders", "resnet18")
    result = compare(data, out, *few, "--all-folds", "--trainings", "2")
    assert result.exit_code == 0, result.output
    return out


def test_all_folds_test_everybody_once(thorough: Path) -> None:
    evaluations = read_evaluations(thorough)
    pooled = evaluations["person-all-pix2pix-resnet18"]

    assert pooled.people.test == PEOPLE
    assert pooled.split.fold is None
    assert pooled.fusion is None, "each fold has networks of its own"
    assert {row.probes for row in pooled.retrieval} == {PEOPLE}
    assert {row.gallery for row in pooled.retrieval} == {PEOPLE // 3}
    best = json.loads((thorough / "best.json").read_text())
    assert best["checkpoints"]["translator"] == "runs/person-0/pix2pix/checkpoint.safetensors"
    assert "mean of 3 folds" in best["why"]


def test_a_second_training_takes_the_next_seed_and_shows_the_spread(thorough: Path) -> None:
    evaluations = read_evaluations(thorough)
    first, second = (
        evaluations[f"person-all{again}-pix2pix-resnet18"] for again in ("", "-seed-2")
    )

    assert first.embedder.seed == 1
    assert second.embedder.seed == 2
    assert first.embedder.checkpoint_sha256 != second.embedder.checkpoint_sha256
    assert first.people == second.people
    page = (thorough / "report" / "index.html").read_text(encoding="utf-8")
    assert "Trained 2 times" in page


def test_an_unknown_model_lists_the_known_ones(data: Path, tmp_path: Path) -> None:
    result = compare(data, tmp_path, "--translators", "cut,pix3pix")

    assert result.exit_code == 3
    assert "pix3pix" in result.output
    assert "cyclegan" in result.output


def evaluate(data: Path, out: Path, record: Path, *options: str) -> Result:
    runs = out / "runs" / "person-0"
    networks = ["--translator", str(runs / "pix2pix" / "checkpoint.safetensors")]
    networks += ["--embedder", str(runs / "resnet18-pix2pix" / "checkpoint.safetensors")]
    networks += ["--matcher", str(runs / "two_tower" / "checkpoint.safetensors")]
    arguments = ["evaluate", "--data", str(data), "--out", str(record), *networks, *options]
    return CliRunner().invoke(app, arguments)


def test_evaluate_states_what_the_study_states(data: Path, out: Path, tmp_path: Path) -> None:
    split, record = tmp_path / "split.json", tmp_path / "record.json"
    made = CliRunner().invoke(app, ["split", str(data), "--folds", "3", "--out", str(split)])
    assert made.exit_code == 0, made.output

    result = evaluate(data, out, record, "--split", str(split), "--fold", "0")

    assert result.exit_code == 0, result.output
    assert "never forensic accuracy" in result.stdout
    study = read_evaluations(out)["person-0-pix2pix-resnet18"]
    again = Evaluation.from_json(record.read_text())
    assert again.retrieval == study.retrieval
    assert again.open_set == study.open_set


def test_evaluate_refuses_people_who_were_trained_on(
    data: Path, out: Path, tmp_path: Path
) -> None:
    split, record = tmp_path / "split.json", tmp_path / "record.json"
    CliRunner().invoke(app, ["split", str(data), "--folds", "3", "--out", str(split)])

    result = evaluate(data, out, record, "--split", str(split), "--fold", "1")

    assert result.exit_code == 3
    assert "was trained on" in result.output
    assert not record.exists()
