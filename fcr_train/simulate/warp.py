"""The warp that carries the reference skull into a person's head, and its calibration."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.shape import BLUR_MM, skin_shares
from fcr_train.simulate.skull import block_index
from fcr_train.simulate.solids import ORIGIN, STEP_MM

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64

    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.skull import Blocks, Template

    Points = Float64[np.ndarray, "n 3"]

LATTICE_MM = 6.0
MARGIN_MM = 3.0
REFERENCE_MARGIN_MM = 12.0
"""How far the lattice reaches beyond the skin of a person, and of the reference head."""
INVERSE_ROUNDS = 40
INVERSE_STEP_MM = 0.03
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

    @property
    def degrees(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll, as `rotation_matrix` takes them, in degrees."""
        r = self.rotation
        yaw, roll = np.arctan2(-r[2, 0], r[2, 2]), np.arctan2(-r[0, 1], r[1, 1])
        angles = np.degrees([yaw, np.arcsin(r[2, 1]), roll])
        return float(angles[0]), float(angles[1]), float(angles[2])

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
        self._skin, self._normals = anatomy.landmark_rays(anatomy.reference)
        mean = anatomy.table.mean
        self._bone_points = self._skin - mean[:, None] * self._normals
        self._shift = np.zeros(len(mean))
        for _ in range(rounds):
            depth = self.template_depths(template)
            usable = np.isfinite(depth) & (depth >= 1) & (depth <= 2 * mean + 4)
            error = np.where(usable, depth - mean, 0)
            limit = CALIBRATION_LIMIT_MM
            self._shift = np.clip(self._shift + error, -limit, limit)

    def displacement(self, points: Points) -> Float32[np.ndarray, "n 3"]:
        """Say where in the uncorrected template the bone at `points` is, as an offset [mm]."""
        places, centres = (np.asarray(p, np.float32) for p in (points, self._bone_points))
        square = (places**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * places @ centres.T
        share = np.exp(square * np.float32(-0.5 / CALIBRATION_KERNEL_MM**2))
        share /= share.sum(1, keepdims=True) + np.float32(CALIBRATION_FLOOR)
        return np.asarray(share @ (-self._shift[:, None] * self._normals).astype(np.float32))

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


def sample(volume: Float32[np.ndarray, "x y z"], points: Points) -> Float64[np.ndarray, " n"]:
    """Interpolate a template volume at points of the reference head; 0 outside the grid."""
    index = (points - ORIGIN) / STEP_MM
    return np.asarray(ndimage.map_coordinates(volume, index.T, order=1, cval=0.0))


@dataclass(frozen=True)
class Field:
    """Where points of a person's head lie in the template, as offsets on a lattice [mm]."""

    grid: Grid
    move: Float32[np.ndarray, "3 x y z"]

    def offsets(self, points: Points) -> Float32[np.ndarray, "n 3"]:
        """Interpolate the offsets at points, linearly; beyond the lattice its border goes on."""
        index = ((points - self.grid.start) / self.grid.step).T
        return np.stack(
            [
                ndimage.map_coordinates(move, index, np.float32, order=1, mode="nearest")
                for move in self.move
            ],
            1,
        )

    def to_reference(self, points: Points) -> Points:
        """Map points to the template."""
        return np.asarray(points + self.offsets(points))


class Warp:
    """Carries templates into the heads of people, as their bony shape says."""

    def __init__(self, anatomy: Anatomy) -> None:
        """Weigh the skin around each node of a lattice on the reference head, once for all."""
        self._anatomy = anatomy
        self._shape = anatomy.reference[anatomy.control]
        self._grid = lattice(self._shape, REFERENCE_MARGIN_MM)
        shares, blur = skin_shares(self._shape, self._grid.points())
        self._shares = shares.astype(np.float32)
        self._blur = blur.astype(np.float32).reshape(self._grid.shape)

    def forward(self, bony: Points) -> Field:
        """Say how far each place of the reference head moves in a person, on a lattice [mm].

        The displacement is that of the control vertices of the skin around, weighted by
        distance; deeper points average over a wider area. Linear in the bony shape.
        """
        move = (bony[self._anatomy.control] - self._shape).astype(np.float32)
        volumes = on_lattice(self._grid, self._shares @ move)
        for volume in volumes:
            smooth = ndimage.gaussian_filter(volume, BLUR_MM / LATTICE_MM, truncate=3.0)
            volume += self._blur * (smooth - volume)
        return Field(self._grid, volumes)

    def field(self, bony: Points, calibration: Calibration) -> Field:
        """Map a lattice of 6 mm around a person's head to the calibrated template."""
        grid = lattice(bony[self._anatomy.control], MARGIN_MM)
        points = grid.points().astype(np.float32)
        reference = invert(self.forward(bony), points)
        reference += calibration.displacement(reference)
        return Field(grid, on_lattice(grid, reference - points))

    def skull(
        self, template: Template, bony: Points, field: Field, pose: Pose = STRAIGHT
    ) -> Skull:
        """Build a person's skull in a pose, on a grid of 1.5 mm around the bony shape."""
        coarse = lattice(pose.turn(bony[self._anatomy.control]), MARGIN_MM)
        nodes = field.to_reference(pose.turn_back(coarse.points()))
        nodes = ((nodes - ORIGIN) / STEP_MM).astype(np.float32).reshape(*coarse.shape, 3)
        x, y, z = ((count - 1) * RATIO for count in coarse.shape)
        grid = Grid(coarse.start, STEP_MM, (x, y, z))
        bone, air = np.zeros((2, *grid.shape), np.float32)
        for out, volume, near in (
            (bone, template.bone, template.bone_blocks),
            (air, template.air, template.air_blocks),
        ):
            fill_blocks(out, volume, nodes, near)
        return Skull(grid, bone, air)

    def measure_depths(
        self, template: Template, calibration: Calibration, bony: Points, skin: Points
    ) -> Float64[np.ndarray, " l"]:
        """Measure a person's tissue depths along rays from the skin [mm]; infinite for a miss."""
        start, normals = self._anatomy.landmark_rays(skin)
        steps = np.arange(0, 60.0, RAY_STEP_MM)
        rays = (start[:, None] - steps[None, :, None] * normals[:, None]).reshape(-1, 3)
        reference = self.field(bony, calibration).to_reference(rays)
        return first_bone(sample(template.bone, reference), len(steps))


def invert(forward: Field, points: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """Find the places that a displacement carries to `points`, by fixed-point rounds.

    Each round starts a step behind: reference = point - displacement(reference). It converges
    where the displacement changes by less than its distance; after a few rounds nearly all
    points stand still and only the others go on.
    """
    reference = points.copy()
    moving = np.arange(len(points))
    for _ in range(INVERSE_ROUNDS):
        before = reference[moving]
        reference[moving] = points[moving] - forward.offsets(before)
        step = np.abs(reference[moving] - before).max(1)
        moving = moving[step > INVERSE_STEP_MM]
    return reference


def on_lattice(grid: Grid, offsets: Points) -> Float32[np.ndarray, "3 x y z"]:
    """Lay offsets of grid points out as three volumes."""
    return np.ascontiguousarray(offsets.T, np.float32).reshape(3, *grid.shape)


def lattice(points: Points, margin_mm: float) -> Grid:
    """Lay the coarse lattice around points, mirror-symmetric about x = 0 for a symmetric head."""
    low = np.floor((points.min(0) - margin_mm) / LATTICE_MM)
    high = np.ceil((points.max(0) + margin_mm) / LATTICE_MM)
    x, y, z = (int(count) for count in high - low + 1)
    return Grid(low * LATTICE_MM, LATTICE_MM, (x, y, z))


def fill_blocks(
    out: Float32[np.ndarray, "x y z"],
    volume: Float32[np.ndarray, "x y z"],
    nodes: Float32[np.ndarray, "x y z 3"],
    near: Blocks,
) -> None:
    """Sample a volume in the blocks between lattice nodes that hold any of it.

    `nodes` are places in the volume [cells]; `out` has RATIO cells along each edge of a block. A
    block's cells lie within 4 cells of its middle, those of an octant within 2 of its own, even
    where the head is stretched by a third.
    """
    corners = [nodes[i : i - 1 or None, j : j - 1 or None, k : k - 1 or None] for i, j, k in EDGES]
    middle = sum(corners) / np.float32(8)
    chosen = np.flatnonzero(near.two[block_index(middle.reshape(-1, 3))])
    ends = np.stack([corner.reshape(-1, 3)[chosen] for corner in corners], 1)
    index = np.matmul(CORNER_WEIGHTS, ends).reshape(-1, 8, 3)
    octants = np.flatnonzero(near.one[block_index(np.matmul(OCTANT_WEIGHTS, ends).reshape(-1, 3))])
    places = first_cells(out.shape, chosen)[:, None] + cell_offsets(out.shape)
    values = ndimage.map_coordinates(
        volume, index[octants].reshape(-1, 3).T, np.float32, order=1, cval=0.0
    )
    out.reshape(-1)[places.reshape(-1, 8)[octants].ravel()] = values


RATIO = round(LATTICE_MM / STEP_MM)
"""Cells along each edge of a block."""
EDGES = tuple(itertools.product((0, 1), repeat=3))
"""Corners of a block."""
CELLS = np.array(
    [cell for o in EDGES for cell in itertools.product(*([2 * k, 2 * k + 1] for k in o))]
)
"""Cells of a block, octant by octant."""
CORNER_WEIGHTS = np.stack(
    [np.prod(np.where(edge, CELLS / RATIO, 1 - CELLS / RATIO), 1) for edge in np.array(EDGES)], 1
).astype(np.float32)
"""Weight of each corner of a block at each of its cells."""
OCTANT_WEIGHTS = CORNER_WEIGHTS.reshape(8, 8, 8).mean(1)
"""Weight of each corner of a block in the middle of each octant."""


def cell_offsets(shape: tuple[int, ...]) -> Int64[np.ndarray, " n"]:
    """Give the flat index of each cell of a block relative to its first."""
    return np.asarray(CELLS @ np.array([shape[1] * shape[2], shape[2], 1]))


def first_cells(
    shape: tuple[int, ...], blocks: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Give the flat index of the first cell of each block."""
    x, y, z = np.unravel_index(blocks, [count // RATIO for count in shape])
    return np.asarray(((x * shape[1] + y) * shape[2] + z) * RATIO)
