from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--real-data",
        type=Path,
        default=None,
        help="folder with cephalograms/ and orl_faces/; tests that use them skip without it",
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
