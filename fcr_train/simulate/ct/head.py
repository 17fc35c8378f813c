"""A scanned head upright on the simulator's axes: Hounsfield units and what is body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.ct.body import STEP_MM, isotropic
from fcr_train.simulate.warp import Grid

if TYPE_CHECKING:
    from jaxtyping import Float64

    from fcr_train.simulate.ct.body import Body, Mask
    from fcr_train.simulate.ct.placement import Placement
    from fcr_train.simulate.ct.scan import Scan, Volume

    Points = Float64[np.ndarray, "n 3"]

FINE_MM = (1.0, 1.5)
"""Limits of the grid's step; between them it is that of the scan's finest axis."""
BLUR = 0.35
"""Share of a voxel."""
REACH_MM = ((-120.0, 120.0), (-170.0, 150.0), (-215.0, 85.0))
"""What of the upright head is kept along x, y and z: more than a picture shows."""


@dataclass(frozen=True)
class UprightHead:
    """A scan turned upright, the eyes at the origin; air where nothing was scanned."""

    grid: Grid
    hu: Volume
    """Hounsfield units; -1000 where nothing of the body is."""
    filled: Mask
    """The body with the air inside."""
    blur_mm: float
    """Blur that hides the steps of the scan's coarsest voxels."""


def upright_head(scan: Scan, body: Body, placement: Placement) -> UprightHead:
    """Resample a scan in the upright frame, without table, headrest and tubes."""
    step = float(np.clip(min(scan.spacing_mm), *FINE_MM))
    corners = np.array(np.meshgrid(*((0.0, s) for s in scan.size_mm), indexing="ij"))
    reach = placement.from_scan(corners.reshape(3, -1).T)
    low = np.floor(np.maximum(reach.min(0), [r[0] for r in REACH_MM]))
    high = np.ceil(np.minimum(reach.max(0), [r[1] for r in REACH_MM]))
    x, y, z = (int(n) for n in (high - low) // step + 1)
    grid = Grid(low, step, (x, y, z))
    hu = resample(isotropic(scan, step), step, grid, placement, -1000.0)
    near = resample(body.near.astype(np.float32), STEP_MM, grid, placement, 0.0)
    hu[near < 0.5] = -1000.0
    filled = resample(body.filled.astype(np.float32), STEP_MM, grid, placement, 0.0) > 0.5
    return UprightHead(grid, hu, filled, BLUR * max(scan.spacing_mm))


def resample(
    volume: Volume, step_mm: float, grid: Grid, placement: Placement, outside: float
) -> Volume:
    """Interpolate a volume that lies in the scan's axes on a grid of the upright head."""
    # The upright point grid.start + k step lies at a linear function of k in the scan.
    matrix = placement.rotation * (grid.step / step_mm)
    offset = placement.to_scan(grid.start[None])[0] / step_mm
    out = ndimage.affine_transform(
        volume, matrix, offset, output_shape=grid.shape, order=1, cval=outside
    )
    return np.asarray(out, np.float32)
