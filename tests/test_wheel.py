"""What is shipped is the wheel: an editable install hides a file that it would lack."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
import fcr_edge, fcr_train.config
from fcr_edge import Bundle, demo
from fcr_edge.identify import demo_folder
assert fcr_edge.__file__.startswith(sys.argv[1])
print(fcr_train.config.load_preset("fastcut", "paper").size)
print(Bundle.load(demo_folder() / "bundle").manifest.name, len(demo.list_films()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.split("/")[0].split("-")[0] for name in names}
    assert tops == {"fcr_edge", "fcr_train", "export", "fcr"}
    assert {"fcr_edge/py.typed", "fcr_train/simulate/reference/head.npz"} <= set(names)
    assert "fcr_train/evaluate/report.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_unpacked_wheel_finds_presets_and_demo(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["256", "demo", "7"]
