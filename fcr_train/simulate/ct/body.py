"""The body in a scan: which voxels belong to it, and where its skin is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

from fcr_train.simulate.ct.scan import AIR_HU

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64

    from fcr_train.simulate.ct.scan import Scan, Volume

    Mask = Bool[np.ndarray, "x y z"]

STEP_MM = 2.0
TISSUE_HU = -500.0
"""Above it a voxel is more tissue than air."""
SKIN_HU = -400.0
MIDDLE_MM = 55.0
"""Nearer to the middle lie tubes, tape and the table; beyond are ears."""
CROSS, BALL = (ndimage.generate_binary_structure(3, rank) for rank in (1, 2))
"""Balls of 2 mm and 3 mm. One after the other they reach 4 mm, nearly as far to all sides."""
INNER_MM = 3.0
"""Deeper than this below the skin everything counts as tissue when the skin is sought."""


@dataclass(frozen=True)
class Body:
    """A scan on cubes of 2 mm in its own axes, and what of it is body."""

    hu: Volume
    tissue: Mask
    """The head without table, headrest and tubes; air inside left out."""
    filled: Mask
    """The same with the air inside."""
    near: Mask
    """The filled body and the voxels around it, which are partly skin."""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh [mm] with outward unit normals."""

    points: Float64[np.ndarray, "v 3"]
    normals: Float64[np.ndarray, "v 3"]
    triangles: Int64[np.ndarray, "t 3"]

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points)

    def nearest(
        self, points: Float64[np.ndarray, "n 3"], count: int
    ) -> tuple[Float64[np.ndarray, "n k"], Int64[np.ndarray, "n k"]]:
        """Find the `count` nearest points of the surface: distances [mm] and indices."""
        distance, index = self._tree.query(points, np.arange(1, count + 1))
        return np.asarray(distance), np.asarray(index)


def find_body(scan: Scan) -> Body:
    """Find the largest thing in the scan that is not air."""
    hu = isotropic(scan, STEP_MM)
    raw = hu > TISSUE_HU
    # Opening with a ball of 3 mm parts the table, tubes and tape from the body.
    parts, count = ndimage.label(ndimage.binary_opening(raw, BALL))
    core = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax()) if count else parts > 0
    tissue = raw & regrown(core)
    filled = fill_air(tissue)
    return Body(hu, tissue, filled, ndimage.binary_dilation(filled, BALL))


def grow(mask: Mask) -> Mask:
    """Grow a mask by 4 mm."""
    return ndimage.binary_dilation(ndimage.binary_dilation(mask, CROSS), BALL)


def shrink(mask: Mask) -> Mask:
    """Undo `grow` where the mask was solid; beyond the scan it goes on."""
    inner = ndimage.binary_erosion(mask, CROSS, border_value=1)
    return ndimage.binary_erosion(inner, BALL, border_value=1)


def regrown(core: Mask) -> Mask:
    """Give lids, lips and the tip of the nose back to the opened body: 4 mm; to ears 12 mm."""
    near = grow(core)
    wide = grow(grow(near))
    if core.any():
        middle = int(np.median(np.nonzero(core)[0]))
        reach = round(MIDDLE_MM / STEP_MM)
        part = slice(max(middle - reach, 0), middle + reach + 1)
        wide[part] = near[part]
    return wide


def isotropic(scan: Scan, step_mm: float) -> Volume:
    """Interpolate a scan on cubes; by monotone cubics where it is coarser than they are."""
    volume = scan.hu
    for axis, (spacing, size) in enumerate(zip(scan.spacing_mm, scan.size_mm, strict=True)):
        places = np.arange(0, size + 1e-6, step_mm) / spacing
        volume = along_axis(volume, axis, places, smooth=spacing > step_mm)
    return np.asarray(np.maximum(volume, np.float32(AIR_HU)))


def along_axis(
    volume: Volume, axis: int, places: Float64[np.ndarray, " n"], smooth: bool
) -> Volume:
    """Interpolate along one axis at fractional indices, linearly or by monotone cubics."""
    moved = np.moveaxis(volume, axis, 0)
    if smooth:
        # Monotone between voxels: splines that ring would make air of skin and bone of fat.
        out = PchipInterpolator(np.arange(len(moved)), moved)(places)
    else:
        first = np.minimum(places.astype(int), len(moved) - 2)
        share = (places - first).astype(np.float32)[:, None, None]
        out = moved[first] * (1 - share) + moved[first + 1] * share
    return np.moveaxis(out.astype(np.float32), 0, axis)


def fill_air(tissue: Mask) -> Mask:
    """Fill the air inside the head: nostrils, ear canals, parted lips; then each slice."""
    filled = tissue | shrink(grow(tissue))
    for level in range(filled.shape[1]):
        filled[:, level] = ndimage.binary_fill_holes(filled[:, level])
    return np.asarray(filled)


def solid(body: Body) -> Volume:
    """Give Hounsfield units with air inside made tissue, and all but the body made air."""
    inner = ndimage.binary_erosion(body.filled, BALL)
    return np.asarray(
        np.where(body.near, np.where(inner, np.float32(40), body.hu), np.float32(-1000))
    )


def skin_surface(hu: Volume, step_mm: float) -> Surface:
    """Lay the surface of the skin through a solid volume; mm from its first voxel."""
    from skimage.measure import marching_cubes

    smooth = ndimage.gaussian_filter(hu, 0.5)
    points, triangles, normals, _ = marching_cubes(
        smooth, SKIN_HU, spacing=(step_mm,) * 3, gradient_direction="descent"
    )
    return Surface(
        points.astype(np.float64), normals.astype(np.float64), triangles.astype(np.int64)
    )
