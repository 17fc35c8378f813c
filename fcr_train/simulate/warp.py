"""The warp that carries the reference skull into a person's head, and its calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array

from fcr_train.simulate.depths import gaussian
from fcr_train.simulate.raster import nearest
from fcr_train.simulate.shape import vertex_normals
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM, Template

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64

    from fcr_train.simulate.shape import Anatomy

    Points = Float64[np.ndarray, "n 3"]

LATTICE_MM = 6.0
NEIGHBOURS = 32
MARGIN_MM = 3.0
BONE_LEVEL = 0.008
"""Attenuation beyond soft tissue at which a ray has met bone [per mm]."""
RAY_STEP_MM = 0.25
CALIBRATION_ROUNDS = 6
CALIBRATION_KERNEL_MM = 8.0
CALIBRATION_FLOOR = 0.35
CALIBRATION_LIMIT_MM = 10.0
EAR_LINE = (0.0, -25.0, -75.0)
"""Point on the line through the ears about which heads turn [mm]."""


@dataclass(frozen=True)
class Pose:
    """How a head is held and how large it is shown: rotation about the ear line, scale, shift."""

    rotation: Float64[np.ndarray, "3 3"]
    scale: float
    """Of the picture, about 1."""
    shift_mm: tuple[float, float]
    """Of the picture, to the right and up."""

    def turn(self, points: Points) -> Points:
        """Turn points of the head into the pose."""
        return np.asarray((points - EAR_LINE) @ self.rotation.T + EAR_LINE)

    def turn_back(self, points: Points) -> Points:
        """Turn points in the pose back into the head."""
        return np.asarray((points - EAR_LINE) @ self.rotation + EAR_LINE)


STRAIGHT = Pose(np.eye(3), 1.0, (0.0, 0.0))


def draw_pose(rng: np.random.Generator, degrees: float, scale: float, shift_mm: float) -> Pose:
    """Draw yaw, pitch and roll, scale and shift, each uniform within plus or minus its limit."""
    angles = np.radians(rng.uniform(-degrees, degrees, 3))
    across, up = rng.uniform(-shift_mm, shift_mm, 2).tolist()
    return Pose(rotation_matrix(*angles), float(1 + rng.uniform(-scale, scale)), (across, up))


def rotation_matrix(yaw: float, pitch: float, roll: float) -> Float64[np.ndarray, "3 3"]:
    """Turn about the vertical, then the ear line, then the line of sight [radians]."""
    (sy, sp, sr), (cy, cp, cr) = np.sin([yaw, pitch, roll]), np.cos([yaw, pitch, roll])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(tilt @ nod @ turn)


@dataclass(frozen=True)
class Grid:
    """A regular grid in the frame of the head as posed [mm]."""

    start: Float64[np.ndarray, 3]
    step: float
    shape: tuple[int, int, int]

    def axis(self, k: int) -> Float64[np.ndarray, " n"]:
        """Give coordinates along one axis [mm]."""
        return np.asarray(self.start[k] + self.step * np.arange(self.shape[k]))

    def points(self) -> Points:
        """List all grid points, the last axis fastest."""
        axes = np.meshgrid(*(self.axis(k) for k in range(3)), indexing="ij")
        return np.stack([axis.ravel() for axis in axes], 1)


@dataclass(frozen=True)
class Skull:
    """A person's skull as posed: attenuation beyond soft tissue [per mm], and share of air."""

    grid: Grid
    bone: Float32[np.ndarray, "x y z"]
    air: Float32[np.ndarray, "x y z"]


class Calibration:
    """A displacement of the template that puts its bone at the mean tissue depths.

    Without it, every mean depth error of the template would have to be carried by the faces.
    """

    def __init__(self, anatomy: Anatomy, template: Template, rounds: int = CALIBRATION_ROUNDS):
        """Measure the template's depths along rays and correct them `rounds` times."""
        self._skin, self._normals = landmark_rays(anatomy, anatomy.reference)
        mean = anatomy.table.mean
        self._bone_points = self._skin - mean[:, None] * self._normals
        self._shift = np.zeros(len(mean))
        for _ in range(rounds):
            depth = self.template_depths(template)
            usable = np.isfinite(depth) & (depth >= 1) & (depth <= 2 * mean + 4)
            error = np.where(usable, depth - mean, 0)
            limit = CALIBRATION_LIMIT_MM
            self._shift = np.clip(self._shift + error, -limit, limit)

    def displacement(self, points: Points) -> Points:
        """Say where in the uncorrected template the bone at `points` is, as an offset [mm]."""
        kernel = gaussian(points, self._bone_points, CALIBRATION_KERNEL_MM)
        share = kernel / (kernel.sum(1, keepdims=True) + CALIBRATION_FLOOR)
        return np.asarray(share @ (-self._shift[:, None] * self._normals))

    def template_depths(self, template: Template) -> Float64[np.ndarray, " l"]:
        """Measure the corrected template's tissue depths [mm]; infinite where a ray misses."""
        reach = 2 * float(np.abs(self._skin).max())
        steps = np.arange(0, min(reach, 70.0), RAY_STEP_MM)
        rays = self._skin[:, None] - steps[None, :, None] * self._normals[:, None]
        flat = rays.reshape(-1, 3)
        return first_bone(sample(template.bone, flat + self.displacement(flat)), len(steps))


def first_bone(excess: Float64[np.ndarray, " n"], steps: int) -> Float64[np.ndarray, " l"]:
    """Give the depth of the first bone on each ray of `steps` samples [mm], or infinity."""
    hit = excess.reshape(-1, steps) > BONE_LEVEL
    return np.where(hit.any(1), hit.argmax(1) * RAY_STEP_MM, np.inf)


def landmark_rays(anatomy: Anatomy, skin: Points) -> tuple[Points, Points]:
    """Give the skin points of the landmarks and outward normals, each the mean of 12 around."""
    normals = vertex_normals(skin, anatomy.head.skin)[anatomy.control]
    around = nearest(skin[anatomy.control], skin[anatomy.landmarks], 12)[1]
    mean = normals[around].mean(1)
    return skin[anatomy.landmarks], mean / np.linalg.norm(mean, axis=1, keepdims=True)


def sample(volume: Float32[np.ndarray, "x y z"], points: Points) -> Float64[np.ndarray, " n"]:
    """Interpolate a template volume at points of the reference head; 0 outside the grid."""
    index = (points - ORIGIN) / STEP_MM
    return np.asarray(ndimage.map_coordinates(volume, index.T, order=1, cval=0.0))


@dataclass(frozen=True)
class Field:
    """Where points of a person's head lie in the template, as offsets on a lattice [mm]."""

    grid: Grid
    move: Float64[np.ndarray, "x y z 3"]

    def to_reference(self, points: Points) -> Points:
        """Map points to the template, interpolating linearly."""
        index = ((points - self.grid.start) / self.grid.step).T
        move = [
            ndimage.map_coordinates(self.move[..., k], index, order=1, mode="nearest")
            for k in range(3)
        ]
        return np.asarray(points + np.stack(move, 1))


class Warp:
    """Carries the calibrated template into the heads of people."""

    def __init__(self, anatomy: Anatomy, template: Template, calibration: Calibration) -> None:
        """Keep what all people share."""
        self._anatomy = anatomy
        self._template = template
        self._calibration = calibration
        filled = (template.bone > 0) | (template.air > 0)
        self._filled = ndimage.binary_dilation(filled, np.ones((3, 3, 3), bool)).ravel()

    def to_reference(self, bony: Points, points: Points) -> Points:
        """Map points of a person's head to the template, `bony` being the person's bony shape.

        The displacement is that of the 32 nearest control vertices of the skin, weighted by
        distance; deeper points average over a wider area.
        """
        control = bony[self._anatomy.control]
        move = self._anatomy.reference[self._anatomy.control] - control
        distance, near = nearest(control, points, NEIGHBOURS)
        reach = np.maximum(10.0, 5.0 + 0.8 * distance[:, 7:8])
        weight = np.exp(-((distance / reach) ** 2)) + 1e-12
        weight /= weight.sum(1, keepdims=True)
        ends = np.arange(0, near.size + 1, NEIGHBOURS)
        shares = csr_array((weight.ravel(), near.ravel(), ends), shape=(len(points), len(move)))
        reference = points + shares @ move
        return np.asarray(reference + self._calibration.displacement(reference))

    def field(self, bony: Points) -> Field:
        """Map a lattice of 6 mm around a person's head to the template."""
        grid = lattice(bony[self._anatomy.control], MARGIN_MM)
        points = grid.points()
        move = self.to_reference(bony, points) - points
        return Field(grid, move.reshape(*grid.shape, 3))

    def skull(self, bony: Points, field: Field, pose: Pose = STRAIGHT) -> Skull:
        """Build a person's skull in a pose, on a grid of 1.5 mm around the bony shape."""
        posed = pose.turn(bony[self._anatomy.control])
        coarse = lattice(posed, MARGIN_MM)
        nodes = field.to_reference(pose.turn_back(coarse.points()))
        nodes = ((nodes - ORIGIN) / STEP_MM).reshape(*coarse.shape, 3)
        grid, index = refine(coarse, nodes)
        chosen = np.flatnonzero(self._filled[nearest_cells(index)])
        index = index.reshape(3, -1)[:, chosen]
        bone, air = np.zeros((2, *grid.shape), np.float32)
        for out, volume in ((bone, self._template.bone), (air, self._template.air)):
            values = ndimage.map_coordinates(volume, index, np.float32, order=1, cval=0.0)
            out.reshape(-1)[chosen] = values
        return Skull(grid, bone, air)

    def measure_depths(self, bony: Points, skin: Points) -> Float64[np.ndarray, " l"]:
        """Measure a person's tissue depths along rays from the skin [mm]; infinite for a miss."""
        start, normals = landmark_rays(self._anatomy, skin)
        steps = np.arange(0, 60.0, RAY_STEP_MM)
        rays = (start[:, None] - steps[None, :, None] * normals[:, None]).reshape(-1, 3)
        return first_bone(sample(self._template.bone, self.to_reference(bony, rays)), len(steps))


def lattice(points: Points, margin_mm: float) -> Grid:
    """Lay the coarse lattice around points, mirror-symmetric about x = 0 for a symmetric head."""
    low = np.floor((points.min(0) - margin_mm) / LATTICE_MM)
    high = np.ceil((points.max(0) + margin_mm) / LATTICE_MM)
    x, y, z = (int(count) for count in high - low + 1)
    return Grid(low * LATTICE_MM, LATTICE_MM, (x, y, z))


def nearest_cells(index: Float32[np.ndarray, "3 x y z"]) -> Int64[np.ndarray, " n"]:
    """Give the flat index of the template cell nearest to each point; 0 for outside."""
    cells = np.rint(index).astype(np.int32)
    flat = (cells[0] * SHAPE[1] + cells[1]) * SHAPE[2] + cells[2]
    inside = (cells >= 0).all(0)
    for axis, count in enumerate(SHAPE):
        inside &= cells[axis] < count
    return np.where(inside, flat, 0).ravel()


def refine(
    coarse: Grid, nodes: Float64[np.ndarray, "x y z 3"]
) -> tuple[Grid, Float32[np.ndarray, "3 x y z"]]:
    """Interpolate a vector on the lattice to steps of 1.5 mm, linearly along each axis."""
    ratio = round(coarse.step / STEP_MM)
    values = np.moveaxis(nodes, 3, 0).astype(np.float32)
    for axis in (1, 2, 3):
        values = stretch(values, axis, ratio)
    x, y, z = values.shape[1:]
    return Grid(coarse.start, STEP_MM, (x, y, z)), values


def stretch(values: Float32[np.ndarray, ...], axis: int, ratio: int) -> Float32[np.ndarray, ...]:
    """Put `ratio` - 1 linearly interpolated values between neighbours along an axis."""
    values = np.moveaxis(values, axis, 0)
    first, step = values[:-1], np.diff(values, axis=0) / np.float32(ratio)
    fine = np.empty((ratio * len(first) + 1, *values.shape[1:]), np.float32)
    for k in range(ratio):
        fine[k:-1:ratio] = first + np.float32(k) * step
    fine[-1] = values[-1]
    return np.moveaxis(fine, 0, axis)
