"""Checks of a scan, each with one sentence of what is wrong with it and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_edge.errors import DataError
from fcr_train.simulate.ct.body import BALL, STEP_MM, TISSUE_HU

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

    from fcr_train.simulate.ct.body import Body, Mask
    from fcr_train.simulate.ct.scan import Scan

AIR_RANGE = (-1100.0, -800.0)
"""Air is -1000 HU; scanners and conversions put it up to 100 off."""
SOFT_RANGE = (-150.0, 200.0)
"""Fat is about -100 HU, muscle and brain 20 to 60, blood and contrast more."""
LEAST_AIR = 0.02
"""Share of air in any scan of a whole head."""
BONE_HU = 250.0
THIN_BONE_HU = 150.0
"""Also the orbital roofs, thinner than the voxels of many scans."""
LEAST_BONE_CM3 = 150.0
"""A skull with its jaw has some 700 cm3 of bone; half a one still has more than this."""
BRAIN_CM2 = 40.0
BRAIN_MM = 16.0
"""Area that the skull encloses in a slice, and over how many millimetres at least."""
BREADTH_MM = (100.0, 220.0)
LENGTH_MM = (130.0, 270.0)
"""Of the head with ears where the skull encloses the brain; wider than any adult's."""
LEAST_AIRWAY_CM3 = 3.0
CONTACT_MM = 8.0
"""Least extent of a contact with the border of the volume that counts."""
NECK_BAND_MM = 30.0


def check_units(scan: Scan) -> None:
    """Raise DataError unless air and soft tissue have the values of Hounsfield units."""
    sample = scan.hu[::2, ::2, ::2]
    air = ((sample > AIR_RANGE[0]) & (sample < AIR_RANGE[1])).mean()
    dense = sample[sample > TISSUE_HU]
    usual = np.inf
    if dense.size:
        counts, edges = np.histogram(dense, np.arange(TISSUE_HU, dense.max() + 50, 25))
        usual = float(edges[counts.argmax()]) + 12.5
    if air < LEAST_AIR or not SOFT_RANGE[0] < usual < SOFT_RANGE[1]:
        raise DataError(
            f"{scan.name} has values from {sample.min():.0f} to {sample.max():.0f}, most often "
            f"{usual:.0f}, which are no Hounsfield units (air -1000, soft tissue 0 to 100): give "
            "the original scan, or its slope and intercept"
        )


def check_body(body: Body, name: str) -> list[str]:
    """Raise DataError when there is no whole head; give warnings about what is missing."""
    check_bone(body, name)
    brain = brain_slices(body, name)
    check_build(body, brain, name)
    check_borders(body, brain, name)
    return missing_parts(body)


def check_bone(body: Body, name: str) -> None:
    """Raise DataError when there is too little bone for a skull, or no airway in it."""
    bone = np.count_nonzero(body.tissue & (body.hu > BONE_HU)) * STEP_MM**3 / 1000
    if bone < LEAST_BONE_CM3:
        raise DataError(
            f"{name} shows no head: it holds {bone:.0f} cm3 of bone, a skull has several hundred; "
            "give a CT of the head"
        )
    deep = ndimage.binary_erosion(body.filled, BALL)
    air = np.count_nonzero(deep & (body.hu < TISSUE_HU)) * STEP_MM**3 / 1000
    if air < LEAST_AIRWAY_CM3:
        raise DataError(
            f"{name} shows no head: it has {air:.1f} cm3 of air inside, a head has airways and "
            "sinuses; give a CT of a person's head, not of a phantom"
        )


def brain_slices(body: Body, name: str) -> Int64[np.ndarray, " n"]:
    """Find the slices in which bone encloses a space as large as the brain's."""
    bone = body.tissue & (body.hu > THIN_BONE_HU)
    enclosed = np.zeros(bone.shape[1])
    for k in range(bone.shape[1]):
        ring = ndimage.binary_closing(np.pad(bone[:, k], 4), iterations=3)
        area = np.count_nonzero(ndimage.binary_fill_holes(ring) & ~ring)
        enclosed[k] = area * STEP_MM**2 / 100
    slices = np.flatnonzero(enclosed > BRAIN_CM2)
    if len(slices) * STEP_MM < BRAIN_MM:
        raise DataError(
            f"{name} shows no head: bone encloses {enclosed.max():.0f} cm2 in a slice at most, a "
            f"skull more than {BRAIN_CM2:.0f} over {BRAIN_MM:.0f} mm and more; give a CT of the "
            "head from the chin to above the brows"
        )
    return slices


def check_build(body: Body, brain: Int64[np.ndarray, " n"], name: str) -> None:
    """Raise DataError when the body around the brain is not as large as a head."""
    across, along = (
        np.median([extent(body.tissue[:, k], axis) for k in brain]) for axis in (0, 1)
    )
    for value, (low, high), what in (
        (across, BREADTH_MM, "broad"),
        (along, LENGTH_MM, "long"),
    ):
        if not low <= value <= high:
            raise DataError(
                f"{name} shows no head: the body in it is {value:.0f} mm {what}, a head "
                f"{low:.0f} to {high:.0f}; check its voxel size and orientation"
            )


def extent(section: Mask, axis: int) -> float:
    """Give how far a section of the body reaches along one of its axes [mm]."""
    found = np.flatnonzero(section.any(1 - axis))
    return float(np.ptp(found) + 1) * STEP_MM if len(found) else 0.0


def neck_level(body: Body, brain: Int64[np.ndarray, " n"]) -> int:
    """Find the narrowest slice below the brain: below it are shoulders, which may be cut."""
    breadth: Float64[np.ndarray, " n"] = np.array(
        [extent(body.tissue[:, k], 0) for k in range(brain[0] + 1)]
    )
    band = int(NECK_BAND_MM / STEP_MM)
    return int(breadth.argmin()) if brain[0] > band else 0


def check_borders(body: Body, brain: Int64[np.ndarray, " n"], name: str) -> None:
    """Raise DataError when the head touches the front, back or a side of the volume."""
    head = body.tissue[:, neck_level(body, brain) :]
    faces = {
        "front": head[:, :, -1],
        "back": head[:, :, 0],
        "left side": head[-1],
        "right side": head[0].copy(),
    }
    for side, contact in faces.items():
        wide = max(extent(contact, 0), extent(contact, 1))
        if wide > CONTACT_MM:
            raise DataError(
                f"{name} is cut off: the head touches the {side} of the volume over "
                f"{wide:.0f} mm; reconstruct the scan with a larger field of view"
            )


def missing_parts(body: Body) -> list[str]:
    """Describe what lies outside the scan and can be done without."""
    top = body.tissue[:, -1]
    wide = max(extent(top, 0), extent(top, 1))
    if wide <= CONTACT_MM:
        return []
    return [
        f"the top of the head is missing, the scan ends where the head is still {wide:.0f} mm "
        "wide: a template is completed with the procedural vault, films and pictures of this "
        "person show what the scan shows"
    ]
