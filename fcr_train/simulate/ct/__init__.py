"""Head CTs: a scan becomes films and a face of the scanned person, and a skull template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.ct.films import film_of_head, film_projection
from fcr_train.simulate.ct.head import upright_head
from fcr_train.simulate.ct.reading import read_scan
from fcr_train.simulate.ct.registration import Registration, register
from fcr_train.simulate.ct.scan import Scan
from fcr_train.simulate.ct.skin import face_surface, openness, render_face
from fcr_train.simulate.ct.template import scan_template
from fcr_train.simulate.exposure import STANDARD, develop, encode, expose, show_bone, trace_bone
from fcr_train.simulate.pictures import Picture
from fcr_train.simulate.radiograph import VIEWS, Beam, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.skull import Template

__all__ = ["MARK", "Scan", "ScannedHead", "read_scan"]

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
        """Make the scanned person's films, of the kinds of a plan, and clay faces.

        The head is shown upright. Write them with MARK: they show a real person.
        """
        surface = face_surface(self.upright)
        light = openness(self.upright, surface)
        for view in views:
            film = film_of_head(self.upright, film_projection(view, size, beam))
            rng = np.random.default_rng([NOISE_SEED, VIEWS.index(view)])
            level = develop(expose(film.full, STANDARD, rng), STANDARD)
            yield Picture(view, "xray", 0, encode(level))
            yield Picture(view, "skull", 0, encode(level * trace_bone(film.bone)))
            yield Picture(view, "bone", 0, encode(show_bone(film.bone)))
            yield Picture(view, "face", 0, render_face(surface, light, view, size))

    def template(self, procedural: Template) -> Template:
        """Make a skull template, to be calibrated and warped like a `procedural` one.

        The procedural skull completes what the scan lacks.
        """
        return scan_template(self.scan, self.upright, self.registration, procedural)
