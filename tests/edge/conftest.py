from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from fcr_edge import Bundle, Gallery, Identifier
from fcr_edge.enroll import Enrolment, enroll, list_people
from fcr_edge.identify import demo_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOME_PEOPLE = 8


@pytest.fixture(scope="session")
def identifier() -> Iterator[Identifier]:
    """The packaged demo bundle on the CPU."""
    with Identifier(Bundle.load(demo_folder() / "bundle"), "cpu") as ready:
        yield ready


@pytest.fixture(scope="session")
def people() -> list[Enrolment]:
    """A few of the packaged simulated people, with two photographs each."""
    return list(islice(list_people(demo_folder() / "people.csv")[0], SOME_PEOPLE))


@pytest.fixture(scope="session")
def gallery_file(
    tmp_path_factory: pytest.TempPathFactory, identifier: Identifier, people: list[Enrolment]
) -> Path:
    """A gallery of these people, to read and not to change."""
    path = tmp_path_factory.mktemp("gallery") / "db.bin"
    dimension = identifier.bundle.manifest.embedder.output.dimension
    with Gallery.create(path, identifier.bundle.fingerprint, dimension) as gallery:
        enroll(people, gallery, identifier)
    return path
