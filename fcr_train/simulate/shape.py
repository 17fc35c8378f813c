"""From a person's parameters to two surfaces: the shape that the skull carries, and the skin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from fcr_train.simulate.depths import DepthField, DepthTable, read_depths
from fcr_train.simulate.head import Head, macro_weights
from fcr_train.simulate.population import MEAN_BMI, Person
from fcr_train.simulate.raster import nearest
from fcr_train.simulate.sliders import ASYMMETRIES, read_sliders

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64

EYE_CLEARANCE_MM = 18.0
"""Around an eye centre the skin keeps its depth, so that lids stay on the eyeball."""
FADE_MM = 9.0
LID_REACH_MM = (16.0, 34.0)
"""Skin nearer to an eye than the first moves with it, beyond the second it does not."""
NAPE_Z = -30.0
"""Behind this plane the size correction has a scale of its own [mm]."""
SIZE = {"male": (0.96, 0.92, 0.845), "female": (0.98, 0.976, 0.945)}
"""Scales of breadth, height, and length behind NAPE_Z. The mesh's sexes differ too much in size;
these bring breadth, length and face height to the means of ANSUR II (US Army 2012)."""
EYE_SHIFT_MM = {"male": 1.0, "female": 0.7}
"""Outward shift of each eye that brings the interpupillary distance nearer to ANSUR II."""
NORMAL_REACH_MM = 8.0
"""Skin moves by tissue depth along the mean normal over this reach."""
RAY_REACH_MM = 12.0
"""Tissue depth is measured along the mean normal of the skin over this reach."""
NECK_SLOPE = 12.0
"""Body-mass index above the mean that gives the full double chin [kg/m2]."""

NEIGHBOURS = 32
"""Vertices of the skin that carry a point of the skull."""
BLUR_MM = 12.0
"""Blur of the warp far from the skin, the sd of a Gaussian."""
DEPTH_ROUNDS = 2
DEPTH_LIMIT = (2.5, 0.25)
"""How far the skin may leave its own shape so that a landmark has its depth: a length [mm] and a
share of the mean depth, added. It keeps lips and nose in shape where sliders meet at extremes."""
OPEN_NOSE = ("rhinion", "alare curvature")
"""Landmarks over the nasal aperture, where no bone lies beneath to measure from."""

Weights = dict[str, float]


@dataclass(frozen=True)
class Surfaces:
    """A person's surfaces, vertex by vertex as the head mesh, in mm, origin between the eyes."""

    bony: Float64[np.ndarray, "v 3"]
    """Shape as the skull carries it: mean tissue depth everywhere, no soft-only feature."""
    skin: Float64[np.ndarray, "v 3"]
    """The skin and the eyes."""
    depth_target: Float64[np.ndarray, " l"]
    """Tissue depth meant at each landmark [mm]."""


def person_weights(person: Person) -> tuple[Weights, Weights]:
    """Give target weights of the bony shape and of the face.

    The face has the full sliders; the bony shape only the share the bone follows, and average
    muscle and weight, because fat must not move bone.
    """
    bony_macro = replace(person.macro, muscle=0.5, weight=0.5)
    bony, face = macro_weights(bony_macro), macro_weights(person.macro)
    for weights, share in slider_weights(person):
        for name, weight in weights.items():
            face[name] = face.get(name, 0.0) + weight
            bony[name] = bony.get(name, 0.0) + share * weight
    return bony, face


def slider_weights(person: Person) -> list[tuple[Weights, float]]:
    """List the weights of every slider with the share of it that the bone follows."""
    sliders = read_sliders()
    middle = [slider for slider in sliders if not slider.paired]
    paired = [slider for slider in sliders if slider.paired]
    weights = [
        (slider.weights(value), slider.bone_fraction)
        for slider, value in zip(middle, person.midline, strict=True)
    ]
    for side, values in (("l-", person.left), ("r-", person.right)):
        weights += [
            (slider.weights(value, side), slider.bone_fraction)
            for slider, value in zip(paired, values, strict=True)
        ]
    weights += [
        ({f"asym-{stem}-{'l' if value > 0 else 'r'}": abs(value)}, share)
        for (stem, share), value in zip(ASYMMETRIES.items(), person.asymmetry, strict=True)
    ]
    double = (person.bmi - MEAN_BMI) / NECK_SLOPE
    neck = {f"neck-double-{'incr' if double > 0 else 'decr'}": abs(double)}
    return [*weights, ({f"head-{person.head_shape}": person.head_shape_weight}, 1.0), (neck, 0.0)]


def vertex_normals(
    shape: Float64[np.ndarray, "v 3"], triangles: Int64[np.ndarray, "t 3"]
) -> Float64[np.ndarray, "v 3"]:
    """Give unit normals at vertices, the mean of the triangles around weighted by area."""
    a, b, c = (shape[triangles[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    normals = np.stack(
        [
            np.bincount(triangles.T.ravel(), np.tile(area[:, k], 3), minlength=len(shape))
            for k in range(3)
        ],
        1,
    )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(length, 1e-12))


class Anatomy:
    """The reference head with everything that is the same for all people: landmarks, fields."""

    def __init__(self, head: Head, table: DepthTable | None = None) -> None:
        """Prepare the head; `table` replaces the packaged tissue depths."""
        self.head = head
        self.table = table or read_depths()
        self.reference = head.reference()
        self.eyes = head.eye_centres(self.reference)
        to_eyes = self.reference[:, None] - self.eyes[None]
        self.eye_distance = np.linalg.norm(to_eyes, axis=2).min(1)
        self.control = np.flatnonzero(self._is_control())
        self.landmarks = self._nearest_control(self.table.position)
        self._around = self._landmark_surroundings()
        self._depth_share = self._depth_fade()
        tip = self.control[self.reference[self.control, 2].argmax()]
        anchors = np.append(self.landmarks, tip)
        self._field = DepthField(self.reference, anchors, self._depth_share)
        self._lid_share = self._lid_shares()
        self._smoothing = self._normal_smoothing()
        skin, normals = self.landmark_rays(self.reference)
        self._bone = skin - self.table.mean[:, None] * normals
        self._solvable = ~np.isin(self.table.names, OPEN_NOSE)
        self._bone_shares = blurred_shares(self.reference[self.control], self._bone)

    def _is_control(self) -> Bool[np.ndarray, " v"]:
        """Tell the skin that carries the warp: without ears, mouth, lids and trunk."""
        masks = self.head.masks
        hidden = masks["ears"] | masks["inside-mouth"] | self.head.is_eye
        head = self.reference[:, 1] > -170
        return np.asarray(~hidden & (self.eye_distance > 18.5) & head)

    def _nearest_control(self, positions: Float64[np.ndarray, "l 3"]) -> Int64[np.ndarray, " l"]:
        """Find the control vertex nearest to each left or midline point; mirror the right ones."""
        tree = cKDTree(self.reference[self.control])
        left = np.column_stack([np.abs(positions[:, 0]), positions[:, 1:]])
        vertices = self.control[tree.query(left)[1]]
        return np.where(positions[:, 0] < 0, self.head.mirror[vertices], vertices)

    def _depth_fade(self) -> Float64[np.ndarray, " v"]:
        """Give the share of the depth field that moves each vertex: none at the eyes."""
        share = np.clip((self.eye_distance - EYE_CLEARANCE_MM) / FADE_MM, 0, 1)
        share[self.head.masks["inside-mouth"] | self.head.is_eye] = 0
        return np.asarray(share)

    def _normal_smoothing(self) -> csr_array:
        """Average normals over the skin around, so that nose and lips move whole, uncrumpled."""
        near = cKDTree(self.reference).sparse_distance_matrix(
            cKDTree(self.reference[self.control]), 2 * NORMAL_REACH_MM, output_type="coo_matrix"
        )
        weight = np.exp(-((near.data / NORMAL_REACH_MM) ** 2))
        rows, columns = near.row, self.control[near.col]
        return csr_array((weight, (rows, columns)), shape=(len(self.reference),) * 2)

    def _landmark_surroundings(self) -> csr_array:
        """Weigh the skin around each landmark, over which its ray is perpendicular."""
        places = self.reference[self.landmarks]
        near = cKDTree(places).sparse_distance_matrix(
            cKDTree(self.reference[self.control]), 2 * RAY_REACH_MM, output_type="coo_matrix"
        )
        weight = np.exp(-((near.data / RAY_REACH_MM) ** 2))
        size = (len(places), len(self.reference))
        return csr_array((weight, (near.row, self.control[near.col])), shape=size)

    def landmark_rays(
        self, skin: Float64[np.ndarray, "v 3"]
    ) -> tuple[Float64[np.ndarray, "l 3"], Float64[np.ndarray, "l 3"]]:
        """Give the skin points of the landmarks and outward normals, means of the skin around."""
        normals = self._around @ vertex_normals(skin, self.head.skin)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return skin[self.landmarks], np.asarray(normals)

    def _lid_shares(self) -> Float64[np.ndarray, " v"]:
        """Give how far each vertex follows the outward shift of the eyes, by side."""
        near, far = LID_REACH_MM
        share = np.clip((far - self.eye_distance) / (far - near), 0, 1)
        share[self.head.is_eye] = 1
        return np.asarray(share * np.clip(self.reference[:, 0] / 12.0, -1, 1))

    def surfaces(self, person: Person, rng: np.random.Generator) -> Surfaces:
        """Build a person's surfaces; `rng` draws the tissue depths only."""
        bony_weights, face_weights = person_weights(person)
        bony, face = self.head.shape(bony_weights), self.head.shape(face_weights)
        origin = self.head.eye_centres(bony).mean(0)
        bony, face = (self._sized(shape - origin, person) for shape in (bony, face))
        deviation = self.table.deviation(person, rng)
        skin = self._skin(face, self.bone_points(bony), deviation)
        return Surfaces(bony, skin, self.table.mean + deviation)

    def bone_points(self, bony: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "l 3"]:
        """Say where the warp carries the bone under each landmark [mm].

        A calibrated template has its bone at the mean depth below the reference head.
        """
        move = bony[self.control] - self.reference[self.control]
        return np.asarray(self._bone + self._bone_shares @ move)

    def _sized(
        self, shape: Float64[np.ndarray, "v 3"], person: Person
    ) -> Float64[np.ndarray, "v 3"]:
        """Correct the size by sex, shift the eyes, and apply the person's own scale."""
        breadth, height, length = SIZE[person.sex]
        x, y, z = shape.T
        z = np.where(z < NAPE_Z, NAPE_Z + length * (z - NAPE_Z), z)
        x = breadth * x + EYE_SHIFT_MM[person.sex] * self._lid_share
        return np.asarray(person.size * np.stack([x, height * y, z], 1))

    def _skin(
        self,
        face: Float64[np.ndarray, "v 3"],
        bone: Float64[np.ndarray, "l 3"],
        deviation: Float64[np.ndarray, " l"],
    ) -> Float64[np.ndarray, "v 3"]:
        """Move the face along its normals until landmarks lie mean and `deviation` above the bone.

        So tissue depths follow the table whatever a soft-only slider adds; its feature stays
        between landmarks.
        """
        normals = self._smoothing @ vertex_normals(face, self.head.skin)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        limit = DEPTH_LIMIT[0] + DEPTH_LIMIT[1] * self.table.mean
        change = deviation.copy()
        for _ in range(DEPTH_ROUNDS):
            skin = face + normals * (self._depth_share * self._spread(change))[:, None]
            at, along = self.landmark_rays(skin)
            lacking = self.table.mean + deviation - ((at - bone) * along).sum(1)
            change = np.where(self._solvable, change + lacking, change)
            change = np.clip(change, deviation - limit, deviation + limit)
        return np.asarray(face + normals * (self._depth_share * self._spread(change))[:, None])

    def _spread(self, change: Float64[np.ndarray, " l"]) -> Float64[np.ndarray, " v"]:
        """Spread changes of depth over the skin; ears and nose tip ride along as they are."""
        spread = self._field.spread(np.append(change, 0.0))
        ears = self.head.masks["ears"]
        # A varying offset would crumple the ears.
        spread[ears] = np.median(spread[ears])
        return spread


def skin_shares(
    skin: Float64[np.ndarray, "c 3"], points: Float64[np.ndarray, "n 3"]
) -> tuple[csr_array, Float64[np.ndarray, " n"]]:
    """Weigh the vertices of the skin at each point, the weights of a point summing to 1.

    The 32 nearest count; deeper points average over a wider reach. Says for each point, too, how
    much of a blur it needs [0-1]: far from the skin the nearest vertices change abruptly.
    """
    distance, near = nearest(skin, points, NEIGHBOURS)
    reach = np.maximum(10.0, 5.0 + 0.8 * distance[:, 7:8])
    weight = np.exp(-((distance / reach) ** 2)) + 1e-12
    weight /= weight.sum(1, keepdims=True)
    ends = np.arange(0, near.size + 1, NEIGHBOURS)
    shares = csr_array((weight.ravel(), near.ravel(), ends), shape=(len(points), len(skin)))
    return shares, np.clip((distance[:, 7] - 8.0) / 14.0, 0, 1)


def blurred_shares(
    skin: Float64[np.ndarray, "c 3"], points: Float64[np.ndarray, "n 3"]
) -> Float64[np.ndarray, "n c"]:
    """Give the weights of `skin_shares`, blurred as deep points need it by 27 samples around.

    The samples are those of a three-point rule for a Gaussian: 0 and +-sqrt(3) sd.
    """
    shares, blur = skin_shares(skin, points)
    around = np.zeros(shares.shape)
    step = np.sqrt(3) * BLUR_MM
    for signs in itertools.product((-1, 0, 1), repeat=3):
        weight = np.prod([1 / 6 if sign else 2 / 3 for sign in signs])
        around += weight * skin_shares(skin, points + step * np.array(signs))[0].toarray()
    return np.asarray(shares.toarray() * (1 - blur[:, None]) + around * blur[:, None])
