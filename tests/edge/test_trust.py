"""Who vouches for a bundle: forged, foreign and older ones are refused, the packaged one taken."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from fcr_edge import trust
from fcr_edge.bundle import SIGNATURE_NAME, Bundle, install_bundle, write_signature
from fcr_edge.cli import app
from fcr_edge.errors import BundleError, ConfigError
from fcr_edge.identify import demo_folder, find_bundle
from fcr_edge.manifest import Manifest
from fcr_edge.trust import Signature, sign

FIRST, LATER = "2026-11-01T08:00:00Z", "2026-11-22T08:00:00Z"
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch) -> None:
    """No test sees or changes the keys and bundles of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A bundle that did not come with the package: one byte of its manifest differs."""
    copy = tmp_path / "copy"
    shutil.copytree(demo_folder() / "bundle", copy)
    manifest = copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    return copy


def public(key) -> str:
    return key.public_key().public_bytes_raw().hex()


def sign_as(folder: Path, key=KEY, version: str = FIRST) -> None:
    bundle = Bundle.load(folder, allow_unsigned=True)
    write_signature(bundle, sign(bundle.sha256, key, version))


def rely_on(key=KEY, owner: str = "headquarters") -> None:
    trust.write_trusted({**trust.read_trusted(), public(key): owner})


def run(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_packaged_bundle_is_known_by_its_hash():
    manifest = (demo_folder() / "bundle" / "manifest.json").read_bytes()

    assert hashlib.sha256(manifest).hexdigest() == trust.PACKAGED_SHA256
    assert Bundle.load(demo_folder() / "bundle").standing.state == "packaged"


def test_a_bundle_that_nobody_signed_is_refused_unless_allowed(folder):
    with pytest.raises(BundleError, match=r"nobody has signed it.*--allow-unsigned"):
        Bundle.load(folder)

    assert Bundle.load(folder, allow_unsigned=True).standing.state == "unsigned"


def test_a_trusted_key_vouches(folder):
    sign_as(folder)
    rely_on()

    standing = Bundle.load(folder).standing

    assert standing.is_trusted
    assert str(standing) == f"signed by headquarters, {public(KEY)[:16]}..., on {FIRST}"


def test_a_key_that_is_not_trusted_does_not_vouch(folder):
    sign_as(folder, OTHER)
    rely_on(KEY)

    with pytest.raises(BundleError, match=rf"signed by the key {public(OTHER)[:16]}.*not trust"):
        Bundle.load(folder)

    assert Bundle.load(folder, allow_unsigned=True).standing.state == "unknown key"


@pytest.mark.parametrize("allow_unsigned", [False, True])
@pytest.mark.parametrize(
    "forge",
    [
        lambda told: {**told, "signature": "0" * 128},
        lambda told: {**told, "version": LATER},
        lambda told: {**told, "key": public(OTHER)},
    ],
    ids=["signature", "version", "key"],
)
def test_a_forged_signature_is_never_taken(folder, forge, allow_unsigned):
    sign_as(folder)
    rely_on()
    rely_on(OTHER)
    path = folder / SIGNATURE_NAME
    path.write_text(json.dumps(forge(json.loads(path.read_text()))))

    with pytest.raises(BundleError, match="never signed it, or it was changed since"):
        Bundle.load(folder, allow_unsigned)


def test_a_signature_holds_for_no_other_manifest(folder):
    sign_as(folder)
    rely_on()
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")

    with pytest.raises(BundleError, match="never signed it, or it was changed since"):
        Bundle.load(folder, allow_unsigned=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"schema": "fcr-signature/2"}', "unknown schema"),
        ('{"schema": "fcr-signature/1", "key": "0"}', "cannot be read"),
        (
            '{"schema": "fcr-signature/1", "key": "Z", "version": "now", "signature": "0"}',
            "not of the form",
        ),
        ("x" * 5000, "more than the 4096 allowed"),
    ],
    ids=["cut", "list", "empty", "schema", "fields", "form", "huge"],
)
def test_a_damaged_signature_is_a_sentence(folder, text, message):
    (folder / SIGNATURE_NAME).write_text(text)

    with pytest.raises(BundleError, match=message):
        Bundle.load(folder, allow_unsigned=True)


def test_a_damaged_list_of_keys_trusts_nobody(folder):
    sign_as(folder)
    rely_on()
    trust.trusted_file().write_text("{")

    with pytest.raises(ConfigError, match=r"trusted keys .* cannot be read"):
        Bundle.load(folder)


def test_a_gallery_finds_no_bundle_that_nobody_vouches_for(folder):
    fingerprint = Bundle.load(folder, allow_unsigned=True).fingerprint

    with pytest.raises(BundleError, match="nobody has signed it"):
        find_bundle(fingerprint, folder.parent / "db.bin")
    sign_as(folder)
    rely_on()

    assert find_bundle(fingerprint, folder.parent / "db.bin").folder == folder


def test_versions_go_forward_and_back_only_by_force(folder, tmp_path):
    rely_on()
    place = tmp_path / "installed"
    sign_as(folder, version=LATER)
    install_bundle(folder, place)
    sign_as(folder, version=FIRST)

    with pytest.raises(BundleError, match=f"signed on {LATER}, later than the new one, {FIRST}"):
        install_bundle(folder, place)
    assert Bundle.load(place / "demo").standing.version == LATER

    assert install_bundle(folder, place, force=True).standing.version == FIRST
    sign_as(folder, version=LATER)
    assert install_bundle(folder, place).standing.version == LATER


def test_another_maker_does_not_replace_what_is_installed(folder, tmp_path):
    rely_on()
    rely_on(OTHER, "somebody")
    place = tmp_path / "installed"
    sign_as(folder)
    install_bundle(folder, place)
    sign_as(folder, OTHER, LATER)

    with pytest.raises(BundleError, match=r"is signed by headquarters.*one signed by some"):
        install_bundle(folder, place)
    (folder / SIGNATURE_NAME).unlink()
    with pytest.raises(BundleError, match="the new one not signed"):
        install_bundle(folder, place, allow_unsigned=True)


def test_keys_are_added_listed_and_removed(folder, tmp_path):
    pem = tmp_path / "hq.pub"
    pem.write_bytes(
        KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )

    added = run("trust", "add", pem, "--name", "headquarters")
    listed = json.loads(run("trust", "list", "--json").stdout)
    too_short = run("trust", "remove", public(KEY)[:4])
    removed = run("trust", "remove", public(KEY)[:8])

    assert added.stdout.strip() == f"{public(KEY)} headquarters"
    assert listed["keys"] == {public(KEY): "headquarters"}
    assert too_short.exit_code == 3
    assert removed.exit_code == 0
    assert trust.read_trusted() == {}


def test_a_key_of_another_kind_is_refused(tmp_path):
    curve = generate_private_key(SECP256R1()).public_key()
    (tmp_path / "ec.pub").write_bytes(
        curve.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (tmp_path / "text.pub").write_text("a key")

    with pytest.raises(ConfigError, match="key of another kind"):
        trust.read_public_key(tmp_path / "ec.pub")
    with pytest.raises(ConfigError, match="not a public key in PEM"):
        trust.read_public_key(tmp_path / "text.pub")


def test_verify_tells_and_fails_where_nobody_trusted_vouches(folder):
    packaged = run("verify", demo_folder() / "bundle")
    unsigned = run("verify", folder)
    sign_as(folder)
    rely_on()
    signed = json.loads(run("verify", folder, "--json").stdout)

    assert packaged.exit_code == 0
    assert "came with the package" in packaged.stdout
    assert unsigned.exit_code == 3
    assert "nobody whom you trust vouches for it (not signed)" in unsigned.stderr
    assert (signed["standing"], signed["owner"]) == ("signed", "headquarters")
    assert (signed["key"], signed["version"]) == (public(KEY), FIRST)


def test_install_puts_a_bundle_where_galleries_find_it(folder, tmp_path):
    refused = run("install", folder)
    allowed = run("install", folder, "--allow-unsigned")
    sign_as(folder)
    rely_on()
    signed = run("install", folder)

    assert refused.exit_code == 3
    assert "nobody has signed it" in refused.stderr
    assert "warning: bundle demo: not signed" in allowed.stderr
    assert signed.exit_code == 0, signed.output
    installed = Path(signed.stdout.strip())
    assert installed == tmp_path / "data" / "fcr" / "bundles" / "demo"
    assert Bundle.load(installed).standing.owner == "headquarters"


def test_a_search_with_an_unsigned_bundle_warns(folder, tmp_path):
    film = next(iter(sorted((demo_folder() / "xrays").glob("*.png"))))
    command = ["reconstruct", film, "-o", tmp_path / "face.png", "-b", folder, "--device", "cpu"]

    refused, taken = run(*command), run(*command, "--allow-unsigned")

    assert refused.exit_code == 3
    assert "--allow-unsigned" in refused.stderr
    assert taken.exit_code == 0, taken.output
    assert "warning: bundle demo" in taken.stderr


def test_the_form_of_a_signature_is_fixed():
    with pytest.raises(BundleError, match="not of the form"):
        Signature("a" * 64, "2026-11-22", "b" * 128)


def flip_byte(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def test_500_tampered_bundles_are_all_refused_before_parsing(folder, tmp_path, monkeypatch):
    """Signed by a trusted key, then: a byte flipped, a file more, a link, an older one, a key."""
    rely_on()
    sign_as(folder, version=LATER)
    installed = install_bundle(folder, tmp_path / "installed")
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    (older / SIGNATURE_NAME).unlink()
    sign_as(older, version=FIRST)
    foreign = sign(installed.sha256, OTHER, LATER)
    files = sorted(path.name for path in folder.iterdir())
    whole = {name: (folder / name).read_bytes() for name in files}
    rng, came = random.Random(500), Counter()
    parse = Manifest.from_json
    parsed: list[bytes] = []
    monkeypatch.setattr(
        Manifest, "from_json", classmethod(lambda cls, data: (parsed.append(data), parse(data))[1])
    )

    for _ in range(500):
        kind = rng.choice(["byte", "byte", "byte", "more", "link", "older", "key"])
        came[kind] += 1
        parsed.clear()
        name = rng.choice(files)
        if kind == "older":
            with pytest.raises(BundleError, match="later than the new one"):
                install_bundle(older, tmp_path / "installed")
            continue
        if kind == "byte":
            flip_byte(folder / name, rng)
        elif kind == "more":
            (folder / rng.choice(["x.onnx", ".hidden", "model.onnx.data", "plan.engine"])).touch()
        elif kind == "link":
            (folder / name).rename(tmp_path / "aside")
            (folder / name).symlink_to(tmp_path / "aside")
        else:
            (folder / SIGNATURE_NAME).write_bytes(foreign.to_json())
        with pytest.raises(BundleError):
            Bundle.load(folder)
        assert set(parsed) <= {whole["manifest.json"]}, "no manifest is read that was not signed"
        for path in folder.iterdir():
            if path.name not in files or path.is_symlink():
                path.unlink()
        (tmp_path / "aside").unlink(missing_ok=True)
        (folder / name).write_bytes(whole[name])
        (folder / SIGNATURE_NAME).write_bytes(whole[SIGNATURE_NAME])

    assert min(came.values()) > 40
    assert Bundle.load(folder).standing.is_trusted
