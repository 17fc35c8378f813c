"""The reference head laid on a scanned one: landmarks, a thin-plate spline, then all the skin."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

from fcr_edge.errors import DataError
from fcr_train.simulate.ct.body import STEP_MM, find_body
from fcr_train.simulate.ct.checks import missing_parts
from fcr_train.simulate.ct.placement import NECK_Y, Placement, place_head
from fcr_train.simulate.raster import nearest
from fcr_train.simulate.shape import vertex_normals

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

    from fcr_train.simulate.ct.body import Body, Surface
    from fcr_train.simulate.ct.scan import Scan
    from fcr_train.simulate.shape import Anatomy

    Points = Float64[np.ndarray, "n 3"]

logger = logging.getLogger(__name__)

NOSE_TIP = (0.0, -36.6, 44.6)
CHIN = (0.0, -102.0, 25.8)
EAR = (84.0, -22.0, -80.0)
ORBIT = (31.0, 0.0, 0.0)
"""On the reference head [mm]; ear and orbit of the left side."""
ANCHORS = (
    "glabella",
    "vertex",
    "frontal",
    "opisthocranion",
    "euryon",
    "zygion",
    "malar",
    "gonion",
    "temple",
)
"""Landmarks of the depth table that start at the nearest skin."""
ANCHOR_REACH_MM = 15.0
SMOOTHING = 5.0
ROUNDS = 30
CANDIDATES = 15
SAME_SIDE = 0.4
"""Least cosine between the normals of a pair."""
REACH_MM = 18.0
NEIGHBOURS = 80
WIDTHS_MM = (45.0, 12.0)
"""Over which displacements are averaged, first and last."""
SHRINK = 0.9
STEP_SHARE = 0.7
UNSEEN_SAMPLE = 400
INSIDE_NEIGHBOURS = 32
CHIN_Y = -118.0
"""Menton of the reference head [mm]."""
BONE_HU = 250.0
ORBIT_CM2 = (5.0, 22.0)
"""Area of the orbital opening; an adult's is some 10 to 14 cm2."""
LARGEST_RESIDUAL_MM = 4.0


@dataclass(frozen=True)
class Registration:
    """Where the parts of the reference head lie in a scanned one."""

    body: Body
    placement: Placement
    reference: Points
    """Control points of the reference head [mm]."""
    head: Points
    """The same in the upright scanned head [mm]."""
    residual_mm: float
    """Mean distance of the control points that the scan shows from its skin."""
    landmarks: tuple[str, ...]
    """Those found."""
    missing_top_mm: float
    """Height of the vault above the scan, estimated; 0 for a whole head."""

    def to_head(self, points: Points) -> Points:
        """Map points of the reference head to the upright scanned head.

        The displacement is that of the 32 nearest control points, weighted by distance; deeper
        points average over a wider area, as in the warp of simulated people.
        """
        distance, near = nearest(self.reference, points, INSIDE_NEIGHBOURS)
        reach = np.maximum(10.0, 5.0 + 0.8 * distance[:, 7:8])
        weight = np.exp(-((distance / reach) ** 2)) + 1e-12
        weight /= weight.sum(1, keepdims=True)
        move = self.head - self.reference
        return np.asarray(points + (weight[:, :, None] * move[near]).sum(1))


def register(scan: Scan, anatomy: Anatomy) -> Registration:
    """Lay the reference head on that of a scan.

    Raises DataError when there is no face, when the chin is cut off, or when no fit is found.
    """
    body = find_body(scan)
    placement, skin = place_head(body, anatomy, scan.name)
    check_chin(placement, scan)
    pairs = find_landmarks(anatomy, body, placement, skin)
    source = np.array([pair[0] for pair in pairs.values()])
    target = np.array([pair[1] for pair in pairs.values()])
    spline = RBFInterpolator(source, target, smoothing=SMOOTHING, kernel="linear", degree=1)
    laid, residual = lay_skin(anatomy, spline(anatomy.reference), placement, skin, scan)
    if residual > LARGEST_RESIDUAL_MM:
        raise DataError(
            f"{scan.name} does not fit a head, {residual:.1f} mm are left on average: check its "
            "spacing and orientation"
        )
    above = float(placement.to_scan(laid)[:, 1].max() - scan.size_mm[1])
    top = max(1.0, above) if missing_parts(body) else 0.0
    found = tuple(pairs)
    logger.info(
        "%s: registered, %.2f mm left on average, %d landmarks, some %.0f mm of vault missing",
        scan.name,
        residual,
        len(found),
        top,
    )
    reference = anatomy.reference[anatomy.control]
    return Registration(body, placement, reference, laid, residual, found, top)


def check_chin(placement: Placement, scan: Scan) -> None:
    """Raise DataError when the scan ends above the chin."""
    chin = placement.to_scan(placement.scale * np.array([[0.0, CHIN_Y, 5.0]]))[0, 1]
    if chin < 0:
        raise DataError(
            f"{scan.name} is cut off: it ends about {-chin:.0f} mm above the lower edge of the "
            "chin; give a scan that reaches to the neck"
        )


def find_landmarks(
    anatomy: Anatomy, body: Body, placement: Placement, skin: Surface
) -> dict[str, tuple[Points, Points]]:
    """Find pairs of points, on the reference head and on the scanned one [mm], by name."""
    pairs = {}
    scale = placement.scale
    for name, place, reach in (("nose tip", NOSE_TIP, (15, 22)), ("chin", CHIN, (12, 10))):
        expected = scale * np.array(place)
        found = most_forward(skin.points, expected, reach)
        if found is not None:
            pairs[name] = (np.array(place), found)
    for side in (1.0, -1.0):
        word = "left" if side > 0 else "right"
        turn = np.array([side, 1.0, 1.0])
        ear = most_lateral(skin.points, scale * turn * EAR, side)
        if ear is not None:
            pairs[f"{word} ear"] = (reference_ear(anatomy, side), ear)
        orbit = orbit_centre(body, placement, scale * turn * ORBIT)
        if orbit is not None:
            pairs[f"{word} eye socket"] = (turn * ORBIT, orbit)
    return {**pairs, **find_anchors(anatomy, placement, skin)}


def most_forward(points: Points, expected: Points, reach: tuple[int, int]) -> Points | None:
    """Find the foremost skin within a window across and up; the mean of the 5 foremost points."""
    apart = np.abs(points - expected)
    near = points[(apart[:, 0] < reach[0]) & (apart[:, 1] < reach[1]) & (apart[:, 2] < 25)]
    if len(near) < 20:
        return None
    return np.asarray(near[np.argsort(near[:, 2])[-5:]].mean(0))


def most_lateral(points: Points, expected: Points, side: float) -> Points | None:
    """Find the tip of an ear: the skin farthest to one side near the place expected."""
    apart = np.abs(points - expected)
    near = points[(apart[:, 1] < 30) & (apart[:, 2] < 25) & (apart[:, 0] < 25)]
    if len(near) < 20:
        return None
    return np.asarray(near[np.argsort(side * near[:, 0])[-5:]].mean(0))


def reference_ear(anatomy: Anatomy, side: float) -> Points:
    """Give the tip of an ear of the reference head."""
    ears = anatomy.reference[anatomy.head.masks["ears"]]
    return np.asarray(ears[np.argsort(side * ears[:, 0])[-5:]].mean(0))


def orbit_centre(body: Body, placement: Placement, expected: Points) -> Points | None:
    """Find the middle of an orbital opening: the hole that the bone leaves seen from the front."""
    offsets = np.arange(-30.0, 31.0, STEP_MM)
    depths = np.arange(-14.0, 22.0, STEP_MM)
    across, up, along = np.meshgrid(offsets, offsets, depths, indexing="ij")
    points = expected + np.stack([across.ravel(), up.ravel(), along.ravel()], 1)
    index = placement.to_scan(points) / STEP_MM
    hu = ndimage.map_coordinates(body.hu, index.T, order=1, cval=-1000.0)
    open_way = (hu.reshape(across.shape) > BONE_HU).sum(2) == 0
    parts, _ = ndimage.label(ndimage.binary_opening(open_way))
    middle = len(offsets) // 2
    if parts[middle, middle] == 0:
        return None
    hole = parts == parts[middle, middle]
    area = np.count_nonzero(hole) * STEP_MM**2 / 100
    if not ORBIT_CM2[0] < area < ORBIT_CM2[1]:
        return None
    rows, columns = np.nonzero(hole)
    return np.asarray(expected + np.array([offsets[rows].mean(), offsets[columns].mean(), 0.0]))


def find_anchors(
    anatomy: Anatomy, placement: Placement, skin: Surface
) -> dict[str, tuple[Points, Points]]:
    """Pair landmarks of the depth table with the nearest skin, where it is near."""
    pairs = {}
    for name, vertex in zip(anatomy.table.names, anatomy.landmarks, strict=True):
        if name not in ANCHORS:
            continue
        place = anatomy.reference[vertex]
        expected = placement.scale * place
        distance, near = (found[0, 0] for found in skin.nearest(expected[None], 1))
        side = "left " if place[0] > 1 else "right " if place[0] < -1 else ""
        # Where the scan shows nothing, the scaled head itself keeps the spline in bounds.
        target = skin.points[near] if distance < ANCHOR_REACH_MM else expected
        pairs[side + name] = (place, target)
    return pairs


def lay_skin(
    anatomy: Anatomy, head: Points, placement: Placement, skin: Surface, scan: Scan
) -> tuple[Points, float]:
    """Pull the skin of the reference head, roughly in place as `head`, onto that of the scan.

    Each round pairs control points with the nearest skin that faces the same way, averages the
    displacements over neighbours, and goes part of the way. Gives the control points in place,
    and the mean distance left [mm].
    """
    control = anatomy.control
    apart, near = nearest(anatomy.reference[control], anatomy.reference[control], NEIGHBOURS)
    head = head.copy()
    for number in range(ROUNDS):
        width = max(WIDTHS_MM[1], WIDTHS_MM[0] * SHRINK**number)
        pull, met = closest(head, anatomy, skin, placement, scan)
        weight = np.exp(-((apart / width) ** 2)) * met[near]
        total = weight.sum(1, keepdims=True)
        move = (weight[:, :, None] * pull[near]).sum(1) / np.maximum(total, 1e-3)
        head[control] += STEP_SHARE * move
    pull, met = closest(head, anatomy, skin, placement, scan)
    seen = met & (anatomy.reference[control, 1] > NECK_Y)
    laid = extend(anatomy.reference[control], head[control], met)
    return laid, float(np.linalg.norm(pull[seen], axis=1).mean())


def closest(
    head: Points,
    anatomy: Anatomy,
    skin: Surface,
    placement: Placement,
    scan: Scan,
) -> tuple[Points, Bool[np.ndarray, " n"]]:
    """Give the way of each control point to the skin [mm], and whether there is one to go."""
    normals = vertex_normals(head, anatomy.head.skin)[anatomy.control]
    points = head[anatomy.control]
    distance, near = skin.nearest(points, CANDIDATES)
    facing = (skin.normals[near] * normals[:, None]).sum(2) > SAME_SIDE
    distance = np.where(facing, distance, np.inf)
    first = distance.argmin(1)
    chosen = near[np.arange(len(near)), first]
    # To the skin's tangent plane there, as the points of the skin lie 2 mm apart.
    normal = skin.normals[chosen]
    height = ((skin.points[chosen] - points) * normal).sum(1, keepdims=True)
    in_scan = placement.to_scan(points)
    met = (in_scan > STEP_MM).all(1) & (in_scan < scan.size_mm - STEP_MM).all(1)
    met &= distance.min(1) < REACH_MM
    return np.where(met[:, None], height * normal, 0), met


def extend(reference: Points, head: Points, met: Bool[np.ndarray, " n"]) -> Points:
    """Place the points that the scan does not show as those it shows suggest."""
    if met.all():
        return head
    known = np.flatnonzero(met)
    known = known[:: max(1, len(known) // UNSEEN_SAMPLE)]
    spline = RBFInterpolator(
        reference[known], head[known], smoothing=SMOOTHING, kernel="linear", degree=1
    )
    out = head.copy()
    out[~met] = spline(reference[~met])
    return out
