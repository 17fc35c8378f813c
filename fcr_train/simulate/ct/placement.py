"""Where the head lies in a scan: a turn and a shift that bring it upright, eyes at the origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import DataError
from fcr_train.simulate.ct.body import STEP_MM, Body, Surface, skin_surface, solid
from fcr_train.simulate.shape import vertex_normals
from fcr_train.simulate.warp import rotation_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Bool, Float64

    from fcr_train.simulate.shape import Anatomy

    Points = Float64[np.ndarray, "n 3"]

PITCHES = (-30.0, -15.0, 0.0, 15.0, 30.0)
"""Starting tilts of the head, chin up positive [degrees]."""
HEIGHT_STEP_MM = 40.0
NECK_Y = -122.0
"""Below it the reference head is neck, which is held and cut off in many ways [mm]."""
ROUNDS = ((8, 16, 6), (20, 6, 2), (50, 2, 1))
"""Rounds, use of every so many points, and starts kept: coarse, finer, finest."""
KEPT_SHARE = 0.85
"""Of the pairs, the nearest ones; the others are tubes, tape, hair and other shapes."""
SAME_SIDE = 0.3
"""Least cosine between normals that are paired."""
SCALES = (0.8, 1.2)
FAR_MM = 20.0
UNSEEN_MM = 6.0
"""Distance counted for a point outside the scan, so that sliding out of it never pays."""
FACE_MISFIT_MM = 5.0
"""Mean distance of the face from a real one, at most; other shapes are no face."""


@dataclass(frozen=True)
class Placement:
    """Where the upright head of a scan lies, and how the reference head fits it roughly."""

    rotation: Float64[np.ndarray, "3 3"]
    scale: float
    """Of the reference head that fits best; placing itself keeps millimetres."""
    origin_mm: Float64[np.ndarray, 3]
    """The point between the eyes, from the first voxel of the scan."""

    def to_scan(self, points: Points) -> Points:
        """Map points of the upright head to the scan [mm]."""
        return np.asarray(points @ self.rotation.T + self.origin_mm)

    def from_scan(self, points: Points) -> Points:
        """Map points of the scan to the upright head [mm]."""
        return np.asarray((points - self.origin_mm) @ self.rotation)


class Fitting:
    """The reference head's skin being laid on that of a scan."""

    def __init__(self, anatomy: Anatomy, skin: Surface, size_mm: Float64[np.ndarray, 3]) -> None:
        """Prepare the points to be laid on `skin`, in a scan of `size_mm`."""
        reference = anatomy.reference
        chosen = anatomy.control[reference[anatomy.control, 1] > NECK_Y]
        self.points = reference[chosen]
        self.normals = vertex_normals(reference, anatomy.head.skin)[chosen]
        self.face = anatomy.head.masks["face"][chosen]
        self._skin = skin
        self._size = size_mm

    def improve(self, start: Placement, rounds: int, every: int) -> Placement:
        """Let the points slide to their nearest skin `rounds` times, using each `every`-th one."""
        points, normals = self.points[::every], self.normals[::every]
        placement = start
        for _ in range(rounds):
            moved = placement.scale * points
            moved = placement.to_scan(moved)
            distance, near = (found[:, 0] for found in self._skin.nearest(moved, 1))
            same = ((normals @ placement.rotation.T) * self._skin.normals[near]).sum(1) > SAME_SIDE
            usable = same & self._inside(moved)
            if usable.sum() < 30:
                return placement
            limit = np.quantile(distance[usable], KEPT_SHARE)
            usable &= distance <= limit
            placement = fit_similarity(points[usable], self._skin.points[near[usable]])
        return placement

    def _inside(self, moved: Points) -> Bool[np.ndarray, " n"]:
        """Tell points within the scan, a voxel off its border."""
        within = (moved > STEP_MM) & (moved < self._size - STEP_MM)
        return np.asarray(within.all(1))

    def misfit(self, placement: Placement, face_only: bool = False) -> float:
        """Give the mean distance of the points from the skin [mm]."""
        chosen = self.face if face_only else np.ones(len(self.points), bool)
        moved = placement.to_scan(placement.scale * self.points[chosen])
        distance = np.minimum(self._skin.nearest(moved, 1)[0][:, 0], FAR_MM)
        return float(np.where(self._inside(moved), distance, UNSEEN_MM).mean())


def fit_similarity(source: Points, target: Points) -> Placement:
    """Find the turn, scale and shift that bring points nearest to others (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, spread, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float(np.clip((spread * sign).sum() / a.var(0).sum(), *SCALES))
    return Placement(rotation, scale, target.mean(0) - scale * rotation @ source.mean(0))


def starts(fitting: Fitting, skin: Surface) -> Iterator[Placement]:
    """Try tilts and heights, the head's front and middle on those of the scan at that height."""
    low, high = skin.points[:, 1].min(), skin.points[:, 1].max()
    for pitch in PITCHES:
        rotation = rotation_matrix(0.0, -np.radians(pitch), 0.0)
        turned = fitting.points @ rotation.T
        front = turned[turned[:, 2].argmax()]
        for nose in np.arange(low + 40, high, HEIGHT_STEP_MM):
            near = skin.points[np.abs(skin.points[:, 1] - nose) < 30]
            place = np.array([np.median(near[:, 0]), nose, near[:, 2].max()])
            yield Placement(rotation, 1.0, place - front)


def place_head(body: Body, anatomy: Anatomy, name: str) -> tuple[Placement, Surface]:
    """Find the head in a scan; give its place and its skin, upright with the eyes at the origin.

    Raises DataError when nothing in the scan looks like a face.
    """
    skin = skin_surface(solid(body), STEP_MM)
    size = (np.array(body.hu.shape) - 1) * STEP_MM
    fitting = Fitting(anatomy, skin, size)
    tried = list(starts(fitting, skin))
    for rounds, every, kept in ROUNDS:
        tried = [fitting.improve(start, rounds, every) for start in tried]
        tried = sorted(tried, key=fitting.misfit)[:kept]
    placement = tried[0]
    misfit = fitting.misfit(placement, face_only=True)
    if misfit > FACE_MISFIT_MM:
        raise DataError(
            f"{name} shows no face: its skin is {misfit:.1f} mm off a face's where one was "
            f"sought, more than {FACE_MISFIT_MM:g}; give a CT of the whole, bare face"
        )
    upright = Surface(
        placement.from_scan(skin.points), skin.normals @ placement.rotation, skin.triangles
    )
    return placement, upright
