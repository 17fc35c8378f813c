"""Keys are made once and never overwritten; what they sign, field kits take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.signing import make_keys, sign_bundle
from fcr_edge import trust
from fcr_edge.bundle import Bundle
from fcr_edge.errors import ConfigError
from fcr_train.cli import app


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_what_a_key_signs_is_trusted_where_the_key_is(bundle: Bundle, tmp_path: Path) -> None:
    public, digits = make_keys(tmp_path / "hq.pem", "open sesame")

    signature = sign_bundle(bundle.folder, tmp_path / "hq.pem", "open sesame")
    trust.write_trusted({trust.read_public_key(public): "headquarters"})
    try:
        standing = Bundle.load(bundle.folder).standing
    finally:
        (bundle.folder / "manifest.sig").unlink()  # other tests share the bundle

    assert signature.key == digits == trust.read_public_key(public)
    assert standing.owner == "headquarters"
    if os.name == "posix":
        assert (tmp_path / "hq.pem").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("passphrase", ["wrong", None])
def test_a_locked_key_needs_its_passphrase(
    bundle: Bundle, tmp_path: Path, passphrase: str | None
) -> None:
    make_keys(tmp_path / "hq.pem", "open sesame")

    with pytest.raises(ConfigError, match=r"hq\.pem cannot be read .*--passphrase"):
        sign_bundle(bundle.folder, tmp_path / "hq.pem", passphrase)


@pytest.mark.parametrize("name", ["hq.pem", "hq.pem.pub"])
def test_no_key_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")

    with pytest.raises(ConfigError, match="no key is overwritten"):
        make_keys(tmp_path / "hq.pem", None)

    assert (tmp_path / name).read_text() == "precious"


def test_signing_from_the_command_line(bundle: Bundle, tmp_path: Path) -> None:
    key = tmp_path / "hq.pem"
    runner = CliRunner()

    made = runner.invoke(app, ["keygen", "--out", str(key), "--passphrase"], input="ab\nab\n")
    told = runner.invoke(
        app, ["sign", str(bundle.folder), "--key", str(key), "--passphrase"], input="ab\n"
    )
    (bundle.folder / "manifest.sig").unlink()

    assert made.exit_code == 0, made.output
    assert made.stdout.strip().endswith("hq.pem.pub")
    assert told.exit_code == 0, told.output
    assert "signed on 20" in told.stdout
