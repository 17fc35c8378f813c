"""A bundle is loaded only if it is exactly what its manifest says, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from fcr_edge import manifest as manifest_module
from fcr_edge.bundle import Bundle, describe_model, write_bundle
from fcr_edge.errors import BundleError
from fcr_edge.identify import demo_folder
from fcr_edge.manifest import (
    MAX_MANIFEST_BYTES,
    BundleFile,
    Description,
    EmbedderEntry,
    EmbeddingSpec,
    FilmEntry,
    Fusion,
    Manifest,
    ParityRow,
    Scale,
    SuppressorEntry,
    TensorSpec,
    TranslatorEntry,
    VectorSpec,
)

MODELS = {"translator.onnx": b"a translator", "embedder.onnx": b"an embedder"}
FILES = ("translator.onnx", "embedder.onnx", "MODEL_CARD.md", "manifest.json")
FINGERPRINT = "c65e34561d48b3abdbad1e61b5c648e55e2d7913d72bf04df76ef62bf43da5fe"
DEMO_FINGERPRINT = "92a1561ceb6e795f793b78f18b6b684641370fe93e946a5903b9f2556233b5a8"
FACE = TensorSpec("face", channels=3, height=64, width=64, low=0, high=1)
PARITY = ParityRow(
    reference="PyTorch 2.14.1",
    candidate="ONNX Runtime 1.31.1",
    measure="max_abs_difference",
    value=1e-6,
    limit=1e-4,
    pictures=3,
    batches=(1, 3),
)


COMMON = {
    "preset": "tiny",
    "parameters": 7,
    "steps": 20,
    "checkpoint_sha256": "c" * 64,
    "training_data": {"generator": "fcr-simulate", "people": 20, "simulated": True},
    "weights_licence": "Apache-2.0",
    "opset": 18,
    "ir_version": 10,
    "parity": (PARITY,),
}
WHOLE_MODELS = {**MODELS, "film.onnx": b"a film model", "suppressor.onnx": b"a suppressor"}


def describe_whole() -> Description:
    """Describe a bundle that lacks nothing."""
    xray = TensorSpec("film", channels=1, height=32, width=32, low=0, high=1)
    return replace(
        describe(),
        soft_tissue="learned-1",
        film=FilmEntry(
            architecture="FilmNetwork",
            method="film",
            files=(describe_model("film.onnx", WHOLE_MODELS["film.onnx"]),),
            input=xray,
            output=VectorSpec("findings", ("frontal", "inverted", "nasion x", "nasion y")),
            limits={"inverted": 0.5},
            **COMMON,
        ),
        suppressor=SuppressorEntry(
            architecture="Suppressor",
            method="unet",
            files=(describe_model("suppressor.onnx", WHOLE_MODELS["suppressor.onnx"]),),
            input=xray,
            output=TensorSpec("layers", channels=3, height=32, width=32, low=0, high=1),
            least_confidence=0.4,
            floors=(12, 6),
            **COMMON,
        ),
        fusion=Fusion(Scale(0.1, 0.2), Scale(-0.1, 0.3), people=40, simulated=True),
    )


def describe() -> Description:
    return Description(
        name="test",
        created="2026-11-21T12:00:00Z",
        intended_use="Tests.",
        versions={"fcr": "0.1.0"},
        soft_tissue="classical-1",
        translator=TranslatorEntry(
            architecture="resnet",
            method="fastcut",
            files=(describe_model("translator.onnx", MODELS["translator.onnx"]),),
            input=TensorSpec("skull", channels=1, height=64, width=64, low=-1, high=1),
            output=TensorSpec("face", channels=3, height=64, width=64, low=-1, high=1),
            **COMMON,
        ),
        embedder=EmbedderEntry(
            architecture="densenet121",
            method="arcface",
            files=(describe_model("embedder.onnx", MODELS["embedder.onnx"], "half"),),
            input=FACE,
            output=EmbeddingSpec("embedding", dimension=16),
            **COMMON,
        ),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", describe(), "# Test\n", MODELS)
    return tmp_path / "bundle"


def edit(folder: Path, change: object) -> None:
    """Rewrite manifest.json after change(document) has altered it."""
    path = folder / "manifest.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def test_a_loaded_bundle_is_what_was_written(folder):
    bundle = Bundle.load(folder, allow_unsigned=True)

    assert bundle.manifest == write_bundle(folder, describe(), "# Test\n", MODELS)
    assert bundle.model_bytes("translator") == MODELS["translator.onnx"]
    assert bundle.model_bytes("embedder") == MODELS["embedder.onnx"]
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert bundle.sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def test_a_bundle_that_lacks_nothing_is_what_was_written(tmp_path):
    written = write_bundle(tmp_path / "bundle", describe_whole(), "# Test\n", WHOLE_MODELS)

    bundle = Bundle.load(tmp_path / "bundle", allow_unsigned=True)

    assert bundle.manifest == written
    assert bundle.manifest.fusion == Fusion(Scale(0.1, 0.2), Scale(-0.1, 0.3), 40, simulated=True)
    assert bundle.model_bytes("film") == WHOLE_MODELS["film.onnx"]
    assert bundle.model_bytes("suppressor") == WHOLE_MODELS["suppressor.onnx"]
    assert bundle.fingerprint == FINGERPRINT, "a gallery survives another film model"


def test_what_a_bundle_lacks_is_neither_written_nor_given(folder):
    document = json.loads((folder / "manifest.json").read_bytes())

    assert not {"film", "suppressor", "fusion"} & set(document)
    with pytest.raises(BundleError, match="bundle test has no suppressor: export one that has"):
        Bundle.load(folder, allow_unsigned=True).model_bytes("suppressor")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suppressor": {"output": {"channels": 1}}}, "not one channel into three"),
        ({"suppressor": {"least_confidence": 1.5}}, "least confidence is 1.5"),
        ({"suppressor": {"floors": [12, 256]}}, r"floors are \[12, 256\]"),
        ({"soft_tissue": "classical-1"}, "'classical-1' stands with a suppressor"),
        ({"suppressor": None}, "'learned-1' stands without a suppressor"),
        ({"film": {"output": {"values": ["frontal", "frontal"]}}}, "names 2 values, 1 of them"),
        ({"fusion": {"lateral": {"sd": 0}}}, "standard deviation 0.0, not above 0"),
        ({"fusion": {"lateral": {"sd": None}}}, r"fusion.lateral.sd = 'None', not float"),
        ({"film": {"limit": 1}}, "unknown key 'film.limit'"),
    ],
)
def test_a_wrong_entry_of_what_may_be_absent_is_refused(tmp_path, change, message):
    write_bundle(tmp_path / "bundle", describe_whole(), "# Test\n", WHOLE_MODELS)
    edit(tmp_path / "bundle", lambda document: merge(document, change))

    with pytest.raises(BundleError, match=message):
        Bundle.load(tmp_path / "bundle", allow_unsigned=True)


def merge(document: dict, change: dict) -> None:
    """Change some values deep in a document."""
    for key, value in change.items():
        if isinstance(value, dict):
            merge(document[key], value)
        else:
            document[key] = value


def test_the_models_are_the_hashed_bytes_even_if_the_files_change_later(folder):
    bundle = Bundle.load(folder, allow_unsigned=True)

    (folder / "embedder.onnx").write_bytes(b"AN EMBEDDER")

    assert bundle.model_bytes("embedder") == MODELS["embedder.onnx"]


def test_a_manifest_survives_json(folder):
    manifest = Bundle.load(folder, allow_unsigned=True).manifest

    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json() == (folder / "manifest.json").read_bytes()


def conditioned(*names: str, channels: int) -> Description:
    one = describe()
    source = replace(one.translator.input, channels=channels)
    return replace(one, translator=replace(one.translator, input=source, conditions=names))


@pytest.mark.parametrize("names", [("sex",), ("age", "sex"), ("sex", "age", "bmi")])
def test_the_conditions_of_a_translator_are_kept_in_their_order(tmp_path, names):
    description = conditioned(*names, channels=1 + 2 * len(names))

    written = write_bundle(tmp_path / "bundle", description, "# Test\n", MODELS)

    entry = Bundle.load(tmp_path / "bundle", allow_unsigned=True).manifest.translator
    assert entry.conditions == names
    assert entry.skull == describe().translator.input
    assert written.fingerprint == describe().fingerprint


@pytest.mark.parametrize(
    ("names", "channels", "message"),
    [
        pytest.param(("sex",), 1, r"1 channels, not 1 for the skull and 2 .* 1 cond", id="few"),
        pytest.param((), 3, "3 channels, not 1 for the skull", id="none"),
        pytest.param(
            ("sex", "sex"), 5, r"\('sex', 'sex'\), not each of sex, age, bmi", id="twice"
        ),
        pytest.param(("height",), 3, "'height'.*: update FCR", id="unknown"),
    ],
)
def test_conditions_that_do_not_fit_the_input_are_refused(names, channels, message):
    with pytest.raises(BundleError, match=message):
        conditioned(*names, channels=channels)


def test_without_conditions_the_manifest_is_what_it_was_before_there_were_any(folder):
    packaged = (demo_folder() / "bundle" / "manifest.json").read_bytes()

    assert Manifest.from_json(packaged).to_json() == packaged
    assert Manifest.from_json(packaged).translator.conditions == ()
    assert b"conditions" not in (folder / "manifest.json").read_bytes()


def test_the_packaged_bundle_keeps_its_fingerprint():
    # Galleries enrolled with the demonstration's embedder hold these digits.
    assert Bundle.load(demo_folder() / "bundle").fingerprint == DEMO_FINGERPRINT


@pytest.mark.parametrize("name", FILES[:3])
def test_one_changed_byte_is_refused(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)

    with pytest.raises(BundleError, match=rf"{name} has SHA-256 .*; copy or export the bundle"):
        Bundle.load(folder, allow_unsigned=True)


@pytest.mark.parametrize("name", FILES[:3])
@pytest.mark.parametrize("extra", [-1, 1])
def test_another_size_is_refused(folder, name, extra):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:extra] if extra < 0 else data + b"x")

    with pytest.raises(BundleError, match=rf"{name} has {len(data) + extra} bytes"):
        Bundle.load(folder, allow_unsigned=True)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()

    with pytest.raises(BundleError, match=name):
        Bundle.load(folder, allow_unsigned=True)


@pytest.mark.parametrize("name", FILES)
def test_a_symbolic_link_is_refused_even_to_the_right_bytes(folder, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)

    with pytest.raises(BundleError, match=r"symbolic link: replace it by the file"):
        Bundle.load(folder, allow_unsigned=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", FILES)
def test_a_named_pipe_is_refused_without_waiting_for_it(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)

    with pytest.raises(BundleError, match="not a regular file"):
        Bundle.load(folder, allow_unsigned=True)


def test_an_extra_file_is_refused(folder):
    (folder / "engine.plan").write_bytes(b"\0")

    with pytest.raises(BundleError, match=r"engine\.plan does not belong to it: move it"):
        Bundle.load(folder, allow_unsigned=True)


def test_a_subfolder_is_refused(folder):
    (folder / "more").mkdir()

    with pytest.raises(BundleError, match="more does not belong to it"):
        Bundle.load(folder, allow_unsigned=True)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: None])
def test_what_is_no_bundle_is_refused(tmp_path, make):
    make(tmp_path / "thing")

    with pytest.raises(BundleError, match=r"cannot be read: .* fcr-train export"):
        Bundle.load(tmp_path / "thing", allow_unsigned=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda m: m.update(schema="fcr-bundle/2"),
            r"schema 'fcr-bundle/2', this FCR reads 'fcr-bundle/1': update FCR",
            id="newer schema",
        ),
        pytest.param(lambda m: m.pop("schema"), "schema 'None'", id="no schema"),
        pytest.param(lambda m: m.update(evil=1), "unknown key 'evil'", id="unknown key"),
        pytest.param(
            lambda m: m["embedder"]["files"][0].update(url="x"),
            r"unknown key 'embedder\.files\[0\]\.url'",
            id="unknown key inside",
        ),
        pytest.param(lambda m: m.pop("card"), "lacks the key 'card'", id="missing key"),
        pytest.param(
            lambda m: m["translator"]["input"].pop("low"),
            r"lacks the key 'translator\.input\.low'",
            id="missing key inside",
        ),
        pytest.param(lambda m: m.update(name=7), "name = '7', not str", id="wrong type"),
        pytest.param(lambda m: m.update(name="a/b"), "'a/b' cannot be the name", id="bad name"),
        pytest.param(lambda m: m.update(name="a\x1b[2J"), "not printable", id="terminal escape"),
        pytest.param(
            lambda m: m.update(created="yesterday"), "created is 'yesterday'", id="bad time"
        ),
        pytest.param(
            lambda m: m["embedder"]["output"].update(dimension=True), "dimension", id="bool as int"
        ),
        pytest.param(
            lambda m: m["embedder"].update(files=[]), "not one fp32 file", id="no model file"
        ),
        pytest.param(
            lambda m: m["embedder"]["files"][0].update(path="../embedder.onnx"),
            "cannot be the name of a file",
            id="path outside",
        ),
        pytest.param(
            lambda m: m["embedder"]["files"][0].update(path="Translator.onnx"),
            "a file name is used twice",
            id="one name in two cases",
        ),
        pytest.param(
            lambda m: m["embedder"]["files"][0].update(path="manifest.json"),
            "cannot be the name of a file",
            id="a model called manifest.json",
        ),
        pytest.param(
            lambda m: m["card"].update(path="README.md"), r"not MODEL_CARD\.md", id="other card"
        ),
        pytest.param(
            lambda m: m["embedder"]["files"][0].update(sha256="0" * 63), "SHA-256", id="short hash"
        ),
        pytest.param(
            lambda m: m["embedder"].update(checkpoint_sha256="C" * 64),
            "the checkpoint has the SHA-256",
            id="checkpoint",
        ),
        pytest.param(
            lambda m: m["embedder"]["files"][0].update(size=2**40), "size of", id="huge size"
        ),
        pytest.param(
            lambda m: m["embedder"]["files"][0].update(precision="int4"), "int4", id="precision"
        ),
        pytest.param(
            lambda m: m["translator"]["input"].update(channels=4), "4 channels", id="channels"
        ),
        pytest.param(
            lambda m: m["translator"]["input"].update(height=10**6), "side of 1000000", id="side"
        ),
        pytest.param(
            lambda m: m["translator"]["input"].update(low=1.0), r"low 1\.0, not below", id="range"
        ),
        pytest.param(
            lambda m: m["translator"].update(conditions=["sex"]),
            "1 channels, not 1 for the skull and 2",
            id="conditions without planes",
        ),
        pytest.param(
            lambda m: m["translator"].update(conditions="sex"), "conditions = 'sex'", id="a word"
        ),
        pytest.param(
            lambda m: m["embedder"].update(conditions=[]),
            r"unknown key 'embedder\.conditions'",
            id="an embedder with conditions",
        ),
        pytest.param(
            lambda m: m["translator"]["parity"][0].update(value=0.5),
            "fails its parity",
            id="parity",
        ),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(folder, change, message):
    edit(folder, change)

    with pytest.raises(BundleError, match=message):
        Bundle.load(folder, allow_unsigned=True)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"schema": "fcr-bundle/1", ', id="truncated"),
        pytest.param(b'{"schema": NaN}', id="not a number"),
        pytest.param(b'{"schema": "fcr-bundle/1", "schema": "fcr-bundle/1"}', id="a key twice"),
        pytest.param(b"[" * (MAX_MANIFEST_BYTES - 1), id="deep"),
        pytest.param(b"\xff\xfe{}", id="not UTF-8"),
        pytest.param(b"1" * 60000, id="a huge number"),
    ],
)
def test_a_manifest_that_is_no_json_object_is_refused(folder, data):
    (folder / "manifest.json").write_bytes(data)

    with pytest.raises(BundleError, match=r"update FCR|copy or export"):
        Bundle.load(folder, allow_unsigned=True)


def test_infinity_spelled_as_a_large_number_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"high": 1.0', '"high": 1e999'))

    with pytest.raises(BundleError, match="high = 'inf'"):
        Bundle.load(folder, allow_unsigned=True)


def test_an_oversized_manifest_is_refused_before_it_is_parsed(folder, monkeypatch):
    monkeypatch.setattr(manifest_module.json, "loads", lambda *_, **__: pytest.fail("was parsed"))
    (folder / "manifest.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))

    with pytest.raises(BundleError, match=f"{MAX_MANIFEST_BYTES + 1} bytes, more than the"):
        Bundle.load(folder, allow_unsigned=True)


def test_random_damage_to_a_manifest_never_ends_in_another_error(folder):
    data = (folder / "manifest.json").read_bytes()
    dice = random.Random(1)
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            Manifest.from_json(bytes(damaged))
        except BundleError:
            continue


def test_the_fingerprint_is_stable():
    # Galleries on disk hold fingerprints: other digits here make each of them refuse its bundle.
    assert describe().fingerprint == FINGERPRINT


def test_the_fingerprint_ignores_the_translator_and_words(folder):
    one = describe()
    other = replace(
        one,
        name="other",
        created="2027-01-01T00:00:00Z",
        soft_tissue="none",
        translator=replace(
            one.translator, files=(describe_model("translator.onnx", b"a better translator"),)
        ),
        embedder=replace(one.embedder, preset="paper", parity=()),
    )

    assert other.fingerprint == one.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"files": (describe_model("embedder.onnx", b"another"),)}, id="weights"),
        pytest.param({"input": replace(FACE, height=65)}, id="size"),
        pytest.param({"input": replace(FACE, low=-1.0)}, id="range"),
        pytest.param({"output": EmbeddingSpec("embedding", dimension=17)}, id="dimension"),
    ],
)
def test_the_fingerprint_tells_embeddings_of_a_photo_apart(change):
    one = describe()

    assert replace(one, embedder=replace(one.embedder, **change)).fingerprint != one.fingerprint


def test_whole_numbers_and_fractions_give_one_fingerprint(folder):
    assert Bundle.load(folder, allow_unsigned=True).fingerprint == describe().fingerprint


def test_a_bundle_is_replaced_by_a_bundle(folder):
    models = {**MODELS, "translator.onnx": b"a better translator"}
    one = describe()
    file = describe_model("translator.onnx", models["translator.onnx"])
    better = replace(one, translator=replace(one.translator, files=(file,)))

    write_bundle(folder, better, "# Test\n", models)

    assert (
        Bundle.load(folder, allow_unsigned=True).model_bytes("translator")
        == b"a better translator"
    )
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match=r"left alone .*: remove it yourself, or choose another"):
        write_bundle(tmp_path, describe(), "# Test\n", MODELS)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_bundle_is_left_alone(folder):
    (folder / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match=r"left alone .*notes\.txt does not belong"):
        write_bundle(folder, describe(), "# Test\n", MODELS)

    assert (folder / "notes.txt").read_text() == "mine"


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()

    for folder in (tmp_path / "empty", tmp_path / "new" / "folder"):
        write_bundle(folder, describe(), "# Test\n", MODELS)

        assert Bundle.load(folder, allow_unsigned=True).manifest.name == "test"


def test_models_unlike_their_description_are_not_written(tmp_path):
    models = {**MODELS, "embedder.onnx": b"AN EMBEDDER"}

    with pytest.raises(BundleError, match="changed or damaged"):
        write_bundle(tmp_path / "bundle", describe(), "# Test\n", models)

    assert list(tmp_path.iterdir()) == []


def test_models_without_description_are_not_written(tmp_path):
    with pytest.raises(BundleError, match=r"the manifest names .* the files are"):
        write_bundle(tmp_path / "bundle", describe(), "# Test\n", {**MODELS, "x.onnx": b"x"})


def test_an_unwritable_place_is_an_error_with_advice(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(BundleError, match=r"cannot be written: .* choose a folder"):
        write_bundle(tmp_path / "file" / "bundle", describe(), "# Test\n", MODELS)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_rename_leaves_the_old_bundle_whole(folder, monkeypatch, failing):
    before, calls, rename = Bundle.load(folder, allow_unsigned=True).sha256, [], Path.rename

    def fail_at(self, target):
        calls.append(self)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at)

    with pytest.raises(BundleError, match="No space left"):
        write_bundle(folder, replace(describe(), name="newer"), "# Test\n", MODELS)

    assert Bundle.load(folder, allow_unsigned=True).sha256 == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_manifest_too_large_to_read_back_is_not_written(tmp_path):
    wordy = replace(describe(), intended_use="x" * MAX_MANIFEST_BYTES)

    with pytest.raises(BundleError, match=f"more than {MAX_MANIFEST_BYTES}"):
        write_bundle(tmp_path / "bundle", wordy, "# Test\n", MODELS)


@pytest.mark.parametrize(
    ("measure", "value", "limit", "passed"),
    [
        pytest.param("max_abs_difference", 0.5e-4, 1e-4, True, id="small difference"),
        pytest.param("max_abs_difference", 1e-4, 1e-4, False, id="difference at the limit"),
        pytest.param("min_cosine", 0.999999, 0.99999, True, id="near"),
        pytest.param("min_cosine", 0.99999, 0.99999, False, id="cosine at the limit"),
        pytest.param("min_cosine", 0.1, None, True, id="no limit"),
        pytest.param("max_abs_difference", float("nan"), 1e-4, False, id="not a number"),
    ],
)
def test_a_parity_row_passes_within_its_limit(measure, value, limit, passed):
    row = replace(PARITY, measure=measure, value=value, limit=limit)

    assert row.passed is passed


def test_a_file_of_a_bundle_is_never_empty():
    with pytest.raises(BundleError, match="size of 0 bytes"):
        BundleFile("x.onnx", "0" * 64, 0)
