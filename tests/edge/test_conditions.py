"""What an examiner knows beside the film is told to a translator that takes it, and recorded."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fcr_edge import Bundle, Gallery, Identifier, demo, imaging, report
from fcr_edge.bundle import describe_model, write_bundle
from fcr_edge.cli import app
from fcr_edge.conditions import ASTRAY, Conditions
from fcr_edge.errors import ConfigError
from fcr_edge.identify import demo_folder
from fcr_edge.manifest import Description, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fcr_edge.identify import Reconstruction

# One 1 x 1 convolution of "skull", "batch" x 7 x 64 x 64, opset 18, IR 10, as the ONNX package
# wrote it. Red is the skull; green is 1/2 of the sex + 1/4 where it is known; blue is 1/2 of the
# age + 1/4 of the body mass. Kept as text so that these tests need only what a field kit has.
TRANSLATOR = base64.b64decode(
    "CAoSADrLAQoWCgVza3VsbAoBdxIEZmFjZSIEQ29udhIBZypjCAMIBwgBCAEQAUIBd0pUAACAPwAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAA/AACAPgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/AAAAAAAAgD4AAAAAWiQK"
    "BXNrdWxsEhsKGQgBEhUKBxIFYmF0Y2gKAggHCgIIQAoCCEBiIwoEZmFjZRIbChkIARIVCgcSBWJhdGNoCgIIAwoCCEAK"
    "AghAQgQKABAS"
)
XRAY = demo.list_films()[0].xray
KNOWN = Conditions(sex="female", age=60, bmi=21)


@pytest.fixture(scope="session")
def told_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged embedder behind a translator that takes sex, age and body mass."""
    bundle = Bundle.load(demo_folder() / "bundle")
    one = bundle.manifest
    translator = replace(
        one.translator,
        files=(describe_model("translator.onnx", TRANSLATOR),),
        input=TensorSpec("skull", channels=7, height=64, width=64, low=-1, high=1),
        output=TensorSpec("face", channels=3, height=64, width=64, low=-1, high=1),
        conditions=("sex", "age", "bmi"),
    )
    parts = {name: getattr(one, name) for name in Description.__dataclass_fields__}
    parts |= {"name": "told", "translator": translator}
    parts |= {"suppressor": None, "film": None, "soft_tissue": "classical-2"}
    description = Description(**parts)
    folder = tmp_path_factory.mktemp("told") / "bundle"
    models = {"translator.onnx": TRANSLATOR, "embedder.onnx": bundle.model_bytes("embedder")}
    write_bundle(folder, description, "# Told\n", models)
    return folder


@pytest.fixture(scope="session")
def telling(told_folder: Path) -> Iterator[Identifier]:
    with Identifier(Bundle.load(told_folder, allow_unsigned=True), "cpu") as ready:
        yield ready


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def colour(made: Reconstruction) -> list[int]:
    """The only green and blue of a face that TRANSLATOR makes."""
    (green,), (blue,) = (np.unique(made.face[:, :, place]) for place in (1, 2))
    return [int(green), int(blue)]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        # 255 (1 + x) / 2, of x = sex / 2 + known / 4 and of x = age / 2 + bmi / 4
        pytest.param(Conditions(), [128, 128], id="nothing"),
        pytest.param(Conditions(sex="female"), [96, 128], id="female: -1/2 + 1/4"),
        pytest.param(Conditions(sex="male"), [223, 128], id="male: 1/2 + 1/4"),
        pytest.param(Conditions(age=60), [128, 159], id="half of the span: 1/4"),
        pytest.param(Conditions(age=100, bmi=39), [128, 223], id="beyond the span: 1/2 + 1/4"),
        pytest.param(KNOWN, [96, 143], id="1/4 - 1/8"),
    ],
)
def test_the_planes_reach_the_translator_behind_the_skull(
    telling: Identifier, conditions: Conditions, expected: list[int]
) -> None:
    made = telling.reconstruct(XRAY, conditions)

    assert colour(made) == expected
    assert made.conditions == conditions
    assert np.array_equal(made.face[:, :, :1], imaging.resize(made.skull, (64, 64)))


@pytest.mark.parametrize(
    ("conditions", "named"),
    [
        pytest.param(Conditions(sex="male"), "sex", id="sex"),
        pytest.param(Conditions(age=0), "age", id="a newborn, whose age is 0 and not unknown"),
        pytest.param(KNOWN, "sex, age, bmi", id="all"),
    ],
)
def test_what_the_translator_does_not_take_is_refused(
    identifier: Identifier, conditions: Conditions, named: str
) -> None:
    told = f"the bundle demo takes a film alone, not {named}: leave out what it does not take"

    with pytest.raises(ConfigError, match=told):
        identifier.reconstruct(XRAY, conditions)
    with pytest.raises(ConfigError, match=told):
        identifier.translate(np.zeros((64, 64, 1), np.uint8), conditions)


def test_a_bundle_that_takes_some_refuses_the_rest(told_folder: Path) -> None:
    bundle = Bundle.load(told_folder, allow_unsigned=True)
    entry = bundle.manifest.translator
    some = replace(entry, conditions=("age",), input=replace(entry.input, channels=3))
    bundle.manifest = replace(bundle.manifest, translator=some)

    with (
        Identifier(bundle, "cpu") as narrow,
        pytest.raises(ConfigError, match="told takes a film with age, not sex, bmi: leave out"),
    ):
        narrow.reconstruct(XRAY, KNOWN)


def test_the_result_says_what_was_told_by_whom_and_what_a_wrong_word_does(
    telling: Identifier, gallery_file: Path, tmp_path: Path
) -> None:
    with Gallery.open(gallery_file) as gallery:
        result = telling.identify([XRAY], gallery, conditions=KNOWN)
        report.write_report(result, gallery, tmp_path / "told")
        silent = telling.identify([XRAY], gallery)
        report.write_report(silent, gallery, tmp_path / "silent")

    record = json.loads((tmp_path / "told" / "result.json").read_text())
    assert record["schema"] == "fcr-result/1"
    assert record["conditions"] == {
        "told_by": "examiner",
        "sex": "female",
        "age": 60,
        "bmi": 21,
    }
    sentence = f"told by the examiner: female, 60 years, 21 kg/m2; {ASTRAY}"
    assert sentence in record["warnings"]
    assert sentence.encode() in (tmp_path / "told" / "face.png").read_bytes()
    told, untold = (
        imaging.read_picture(tmp_path / name / "result.png") for name in ("told", "silent")
    )
    assert told.shape[0] == untold.shape[0] + report.CAPTION  # a line of its own


def test_a_result_without_a_word_from_the_examiner_says_so(
    telling: Identifier, gallery_file: Path
) -> None:
    with Gallery.open(gallery_file) as gallery:
        record = report.make_record(telling.identify([XRAY], gallery))

    assert record["conditions"] == {"told_by": None, "sex": None, "age": None, "bmi": None}
    assert not any(ASTRAY in warning for warning in record["warnings"])


def test_identify_tells_the_translator(told_folder: Path, gallery_file: Path) -> None:
    told = ("--sex", "female", "--age", 34, "--bmi", 24)

    done = run(
        *(
            "identify",
            XRAY,
            "-g",
            gallery_file,
            "-b",
            told_folder,
            "--allow-unsigned",
            "--device",
            "cpu",
            "--json",
        ),
        *told,
    )

    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["bundle"]["name"] == "told"
    assert record["conditions"]["age"] == 34
    assert f"warning: told by the examiner: female, 34 years, 24 kg/m2; {ASTRAY}" in done.stderr


def test_reconstruct_tells_the_translator(told_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "face.png"

    done = run(
        "reconstruct",
        XRAY,
        "-o",
        out,
        "-b",
        told_folder,
        "--allow-unsigned",
        "--sex",
        "male",
        "--age",
        60,
    )

    assert done.exit_code == 0, done.stderr
    assert imaging.read_picture(out)[0, 0, 1:].tolist() == [223, 159]
    assert "told by the examiner: male, 60 years; " in done.stderr


@pytest.mark.parametrize(
    ("told", "message"),
    [
        pytest.param(("--sex", "female"), "takes a film alone, not sex", id="demo bundle"),
        pytest.param(("--age", "-1"), "age is -1: give years from 0 to 130", id="age"),
        pytest.param(("--age", "nan"), "age is nan", id="no age"),
        pytest.param(("--bmi", "1000"), "bmi is 1000: give kg/m2 from 5 to 100", id="body mass"),
    ],
)
def test_a_condition_that_cannot_be_taken_is_one_clear_sentence(
    told: tuple[str, ...], message: str, gallery_file: Path, tmp_path: Path
) -> None:
    for command in (
        ("identify", XRAY, "-g", gallery_file),
        ("reconstruct", XRAY, "-o", tmp_path / "face.png"),
    ):
        done = run(*command, *told)

        assert done.exit_code == 3, done.stderr
        assert done.stdout == ""
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert message in line
    assert not (tmp_path / "face.png").exists()


def test_a_sex_that_no_translator_knows_is_wrong_usage(gallery_file: Path) -> None:
    assert run("identify", XRAY, "-g", gallery_file, "--sex", "woman").exit_code == 2
