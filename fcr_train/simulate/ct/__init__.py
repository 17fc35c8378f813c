"""Head CTs: a scan becomes films and a face of the scanned person, and a skull template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.ct.films import Beam, film_of_head, film_projection
from fcr_train.simulate.ct.head import upright_head
from fcr_train.simulate.ct.reading import read_scan
from fcr_train.simulate.ct.registration import Registration, register
from fcr_train.simulate.ct.scan import Scan
from fcr_train.simulate.ct.skin import face_surface, openness, render_face
from fcr_train.simulate.ct.template import scan_template
from fcr_train.simulate.person import Picture
from fcr_train.simulate.radiograph import BONE, FILM, VIEWS, View, expose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.skull import Template

__all__ = ["MARK", "ScannedHead", "ct_template", "read_scan", "scan_pictures"]

MARK = {"CT": "made from the CT scan of a real person"}
"""Text that belongs into every picture file made here."""
NOISE_SEED = 30_000


class ScannedHead:
    """A scan whose head has been found: registered and turned upright, once for all uses."""

    def __init__(self, scan: Scan, anatomy: Anatomy) -> None:
        """Find the head in a scan, some 10 s; DataError when there is no whole face."""
        self.scan = scan
        self.anatomy = anatomy
        self.registration: Registration = register(scan, anatomy)
        self.upright = upright_head(scan, self.registration.body, self.registration.placement)

    def pictures(
        self, size: int, views: Sequence[View] = VIEWS, beam: Beam = "divergent"
    ) -> Iterator[Picture]:
        """Make the scanned person's films, with and without soft tissue, and clay faces.

        The head is shown upright. Write them with MARK: they show a real person.
        """
        surface = face_surface(self.upright)
        light = openness(self.upright, surface)
        for view in views:
            film = film_of_head(self.upright, film_projection(view, size, beam))
            rng = np.random.default_rng([NOISE_SEED, VIEWS.index(view)])
            yield Picture(view, "xray", 0, expose(film.full, FILM, rng))
            yield Picture(view, "bone", 0, expose(film.bone, BONE, rng))
            yield Picture(view, "face", 0, render_face(surface, light, view, size))

    def template(self) -> Template:
        """Make a skull template, to be calibrated and warped like the procedural one."""
        return scan_template(self.scan, self.upright, self.registration, self.anatomy)


def scan_pictures(
    scan: Scan,
    anatomy: Anatomy,
    size: int,
    views: Sequence[View] = VIEWS,
    beam: Beam = "divergent",
) -> Iterator[Picture]:
    """Make the films and faces of a scan's person; see `ScannedHead.pictures`."""
    return ScannedHead(scan, anatomy).pictures(size, views, beam)


def ct_template(scan: Scan, anatomy: Anatomy) -> Template:
    """Make a skull template of a scan; see `ScannedHead.template`."""
    return ScannedHead(scan, anatomy).template()
