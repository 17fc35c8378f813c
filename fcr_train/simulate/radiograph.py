"""Radiographs: divergent Beer-Lambert line integrals of skin, air and bone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fcr_train.simulate.raster import cover, cross

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64

    from fcr_train.simulate.warp import Pose, Skull

    Picture = Float64[np.ndarray, "h w"]

View = Literal["frontal", "lateral"]
VIEWS: tuple[View, ...] = ("frontal", "lateral")

SOURCE_MM = 1600.0
"""From the X-ray source to the plane of the centre."""
Beam = Literal["divergent", "parallel"]
BEAMS: dict[Beam, float] = {"divergent": SOURCE_MM, "parallel": 1e7}
"""Distance of the source [mm]; from the second, rays spread by less than 1e-5 over a head."""
CENTRE = (0.0, -10.0, -62.0)
"""Point of the head in the middle of the film [mm]."""
FIELD_MM = 281.6
"""Side of the picture in the plane of the centre; 1.10 mm a pixel at 256 pixels."""
SOFT = 0.0264
"""Attenuation of soft tissue [per mm]: SpekPy 70 kVp, 2.5 mm Al, ICRP tissue, behind 14 cm."""


@dataclass(frozen=True)
class Projection:
    """Geometry of a film of `size` pixels: a source (by default 1.6 m away), a flat film.

    Frontal is postero-anterior: the source stands behind the head. Lateral: the source stands on
    the subject's right. The face looks at the viewer, or towards image right.
    """

    view: View
    size: int
    scale: float = 1.0
    shift_mm: tuple[float, float] = (0.0, 0.0)
    source_mm: float = SOURCE_MM

    @classmethod
    def posed(cls, view: View, size: int, pose: Pose, beam: Beam = "divergent") -> Projection:
        """Show a head as large and as far off the middle as the pose says."""
        return cls(view, size, pose.scale, pose.shift_mm, BEAMS[beam])

    @property
    def depth_axis(self) -> int:
        """Axis of the head along which rays run."""
        return 2 if self.view == "frontal" else 0

    @property
    def across_axis(self) -> int:
        """Axis of the head that points to image right."""
        return 0 if self.view == "frontal" else 2

    @property
    def pitch_mm(self) -> float:
        """Size of a pixel in the plane of the centre."""
        return FIELD_MM / self.size / self.scale

    def offsets(self) -> tuple[Float64[np.ndarray, " w"], Float64[np.ndarray, " h"]]:
        """Give offsets of columns and rows from the axis, in the plane of the centre [mm]."""
        middle = (self.size - 1) / 2
        pixels = (np.arange(self.size) - middle) * self.pitch_mm
        across, up = self.shift_mm
        return pixels - across, -pixels - up

    def magnification(self, depth: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Give how far from the axis a ray is at a depth, relative to the plane of the centre."""
        return np.asarray(1 + (depth - CENTRE[self.depth_axis]) / self.source_mm)

    def to_pixels(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
        """Project points of the head to (column, row)."""
        beam = self.magnification(points[:, self.depth_axis])
        across = (points[:, self.across_axis] - CENTRE[self.across_axis]) / beam
        up = (points[:, 1] - CENTRE[1]) / beam
        middle = (self.size - 1) / 2
        return np.stack(
            [
                middle + (across + self.shift_mm[0]) / self.pitch_mm,
                middle - (up + self.shift_mm[1]) / self.pitch_mm,
            ],
            1,
        )

    def slant(self) -> Picture:
        """Give how much longer than the depth a ray's path is, 1 in the middle."""
        across, up = self.offsets()
        return np.asarray(np.sqrt(1 + (across[None] ** 2 + up[:, None] ** 2) / self.source_mm**2))


@dataclass(frozen=True)
class LineIntegrals:
    """Attenuation along each ray, dimensionless: the film's content before exposure."""

    soft: Picture
    bone: Picture

    @property
    def full(self) -> Picture:
        """Soft tissue and bone together."""
        return np.asarray(self.soft + self.bone)


def surface_path(
    points: Float64[np.ndarray, "v 3"],
    triangles: Int64[np.ndarray, "t 3"],
    projection: Projection,
) -> Picture:
    """Measure the length of each ray inside a closed surface [mm], at normal incidence.

    The surface may be open where no ray passes. Depths are summed with the sign of the side that
    a triangle shows, so nothing has to be sorted.
    """
    size = projection.size
    pixels = projection.to_pixels(points)
    hits = cover(pixels, triangles, (size, size))
    # Along a ray the inverse distance from the source is what is linear on the film.
    distance = projection.source_mm * projection.magnification(points[:, projection.depth_axis])
    corners = 1 / distance[triangles[hits.triangle]]
    depth = 1 / (corners * hits.corners).sum(1)
    a, b, c = (pixels[triangles[:, k]] for k in range(3))
    side = np.sign(cross(b - a, c - a))[hits.triangle]
    total = np.bincount(hits.pixel, side * depth, minlength=size * size)
    # Which sign means inside depends on the view alone.
    sign = -1.0 if projection.view == "frontal" else 1.0
    return np.asarray(sign * total.reshape(size, size))


def hat_weights(
    positions: Float64[np.ndarray, "d p"], axis: Float64[np.ndarray, " n"]
) -> Float32[np.ndarray, "d p n"]:
    """Give weights of linear interpolation at `positions` on a regular axis, 0 beyond its ends."""
    step = axis[1] - axis[0]
    index = ((positions - axis[0]) / step).astype(np.float32)
    nodes = np.arange(len(axis), dtype=np.float32)
    return np.asarray(np.maximum(0, 1 - np.abs(index[:, :, None] - nodes)))


def project_volumes(skull: Skull, projection: Projection) -> tuple[Picture, Picture]:
    """Sum bone attenuation and air along each ray: dimensionless, and mm of air.

    Slabs across the rays are resampled at their own magnification, two neighbours with that of
    their middle: 0.75 mm off, which moves nothing by more than 0.07 mm.
    """
    order = (projection.depth_axis, 1, projection.across_axis)
    depth, height, breadth = (skull.grid.axis(k) for k in order)
    step = skull.grid.step
    middle = depth[0] + step * (2 * np.arange(-(-len(depth) // 2)) + 0.5)
    across, up = projection.offsets()
    beam = projection.magnification(middle)[:, None]
    rows = hat_weights(up[None] * beam + CENTRE[1], height)
    columns = hat_weights(across[None] * beam + CENTRE[order[2]], breadth)
    bone, air = (
        np.tensordot(np.matmul(rows, pairs), columns, ((0, 2), (0, 2))).astype(float) * step
        for pairs in (add_pairs(volume.transpose(order)) for volume in (skull.bone, skull.air))
    )
    return bone, air


def add_pairs(slabs: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "p h w"]:
    """Add each slab to its neighbour; the last one of an odd number stays alone."""
    pairs = slabs[0::2].copy()
    pairs[: len(slabs) // 2] += slabs[1::2]
    return pairs


def line_integrals(
    skull: Skull,
    skin: Float64[np.ndarray, "v 3"],
    triangles: Int64[np.ndarray, "t 3"],
    projection: Projection,
    bone_density: float,
) -> LineIntegrals:
    """Project a posed head: its solid `skin`, closed by `triangles`, and its skull."""
    bone, air = project_volumes(skull, projection)
    path = np.maximum(surface_path(skin, triangles, projection), 0)
    slant = projection.slant()
    soft = np.maximum(SOFT * (path - air), 0)
    return LineIntegrals(soft * slant, bone_density * bone * slant)
