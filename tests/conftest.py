from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real-data",
        type=Path,
        default=None,
        help="folder with cephalograms/, orl_faces/, headsq_ct/; without it their tests skip",
    )


def _real_set(request: pytest.FixtureRequest, name: str) -> Path:
    folder = request.config.getoption("--real-data")
    if folder is None or not (folder / name).is_dir():
        pytest.skip(f"{name} absent (--real-data {folder}): skipped")
    return folder / name


@pytest.fixture
def cephalograms(request: pytest.FixtureRequest) -> Path:
    """Real lateral skull films, 001.jpg to 024.jpg."""
    return _real_set(request, "cephalograms")


@pytest.fixture
def orl_faces(request: pytest.FixtureRequest) -> Path:
    """Real portraits of 40 people, s1/1.pgm to s40/10.pgm."""
    return _real_set(request, "orl_faces")


@pytest.fixture
def headsq_ct(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Sidecar of a real head CT without the vault, slices quarter.1 to quarter.93.

    Its values are about HU + 1024; which side is the left one is not documented.
    """
    folder = _real_set(request, "headsq_ct")
    sidecar = tmp_path / "headsq.toml"
    sidecar.write_text(
        f"""
        folder = "{folder.resolve().as_posix()}"
        files = "quarter.*"
        type = "uint16"
        byte_order = "little"
        shape = [93, 64, 64]
        spacing_mm = [1.5, 3.2, 3.2]
        axes = ["top to bottom", "front to back", "right to left"]
        intercept = -1024
        """
    )
    return sidecar
