"""A skull template from a scan: bone and air on the grid of the reference head."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.ct.films import bone_excess
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM, Template
from fcr_train.simulate.texture import smoothstep
from fcr_train.simulate.warp import LATTICE_MM, Grid

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32

    from fcr_train.simulate.ct.head import UprightHead
    from fcr_train.simulate.ct.registration import Registration
    from fcr_train.simulate.ct.scan import Scan, Volume

    Places = Float32[np.ndarray, "3 x y z"]

logger = logging.getLogger(__name__)

BLEND_MM = 12.0
"""Over this depth below its cuts the scan gives way to the procedural skull."""
BONE_DEPTH_MM, AIR_DEPTH_MM = 2.0, 1.5
"""Nearer to the skin nothing is bone, nothing air; half a voxel of the scan adds to the second."""
AIR_START_HU, AIR_SPAN_HU = -94.0, 930.0
"""Share of air in a voxel: none at the first value, all of it the second below."""
METAL_HU = 3000.0
"""Denser than enamel."""
METAL_MM3 = 40.0
TEETH_Y, TEETH_BACK_Z = (-81.0, -60.0), -32.0
"""Where the crowns of the reference head are [mm]; metal spoils this band."""
STREAKS_MM = 15.0
"""Above and below the band rays of metal are filtered out."""
BAND_BLUR_MM = 2.0


def scan_template(
    scan: Scan, head: UprightHead, registration: Registration, procedural: Template
) -> Template:
    """Carry the bone and air of a scanned head to the reference head.

    What the scan lacks, vault or spine, comes from the procedural skull; so do the teeth when
    they bear metal.
    """
    places = reference_places(registration)
    index = (places - head.grid.start[:, None, None, None]) / head.grid.step
    hu = sample(head.hu, index, -1000.0)
    bone = bone_excess(hu) * sample(deeper(head, BONE_DEPTH_MM), index, 0.0)
    air = np.clip((AIR_START_HU - hu) / AIR_SPAN_HU, 0, 1)
    air = air * sample(deeper(head, AIR_DEPTH_MM + head.blur_mm), index, 0.0)
    bone = without_metal(bone, hu, procedural)
    known = scanned_share(scan, registration, places)
    return Template(
        bone=np.asarray(known * bone + (1 - known) * procedural.bone, np.float32),
        air=np.asarray(known * air + (1 - known) * procedural.air, np.float32),
    )


def reference_places(registration: Registration) -> Places:
    """Say where in the upright scanned head each point of the reference grid lies [mm]."""
    ratio = round(LATTICE_MM / STEP_MM)
    x, y, z = (-(-(count - 1) // ratio) + 1 for count in SHAPE)
    lattice = Grid(np.array(ORIGIN), LATTICE_MM, (x, y, z))
    nodes = registration.to_head(lattice.points()).reshape(x, y, z, 3)
    index = np.meshgrid(*(np.arange(count) / ratio for count in SHAPE), indexing="ij")
    return np.stack(
        [ndimage.map_coordinates(nodes[..., k], index, np.float32, order=1) for k in range(3)]
    )


def sample(volume: Volume, index: Places, outside: float) -> Volume:
    """Interpolate a volume at fractional indices."""
    out = ndimage.map_coordinates(volume, index, np.float32, order=1, cval=outside)
    return np.asarray(out)


def deeper(head: UprightHead, depth_mm: float) -> Volume:
    """Give 1 for what lies deeper than this below the skin, else 0; cuts are no skin."""
    rounds = max(1, round(depth_mm / head.grid.step))
    inner = ndimage.binary_erosion(head.filled, iterations=rounds, border_value=1)
    return np.asarray(inner, np.float32)


def scanned_share(scan: Scan, registration: Registration, places: Places) -> Volume:
    """Give 1 where the scan shows the head, falling to 0 towards its upper and lower end."""
    up = registration.placement.rotation[1]
    height = np.tensordot(up, places, 1) + registration.placement.origin_mm[1]
    margin = np.minimum(height, scan.size_mm[1] - height)
    share = smoothstep(margin / BLEND_MM)
    if registration.missing_top_mm == 0:
        # The scan ends above the head, in air: nothing to complete there.
        share = np.where(height > scan.size_mm[1] / 2, 1, share)
    return np.asarray(share, np.float32)


def without_metal(bone: Volume, hu: Volume, procedural: Template) -> Volume:
    """Put procedural teeth in place of a bite with metal, and filter its rays near by."""
    _, y, z = (start + STEP_MM * np.arange(n) for start, n in zip(ORIGIN, SHAPE, strict=True))
    band = (y > TEETH_Y[0]) & (y < TEETH_Y[1])
    beside = (y > TEETH_Y[0] - STREAKS_MM) & (y < TEETH_Y[1] + STREAKS_MM)
    front = z > TEETH_BACK_Z
    metal = np.count_nonzero(hu[:, band][:, :, front] > METAL_HU) * STEP_MM**3
    if metal < METAL_MM3:
        return bone
    logger.warning("%.0f mm3 of metal at the teeth: procedural teeth take their place", metal)
    filtered = ndimage.median_filter(bone, 3)
    streaks = box_share(beside, front)
    repaired = bone + streaks * (filtered - bone)
    teeth = box_share(band, front)
    return np.asarray(repaired + teeth * (procedural.bone - repaired), np.float32)


def box_share(rows: Bool[np.ndarray, " y"], depths: Bool[np.ndarray, " z"]) -> Volume:
    """Give 1 within a range of y and z of the reference grid, fading at its edges."""
    blur = BAND_BLUR_MM / STEP_MM
    up = ndimage.gaussian_filter1d(rows.astype(np.float32), blur)
    forward = ndimage.gaussian_filter1d(depths.astype(np.float32), blur)
    return np.asarray(up[None, :, None] * forward[None, None, :], np.float32)
