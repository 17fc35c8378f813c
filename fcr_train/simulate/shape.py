"""From a person's parameters to two surfaces: the shape that the skull carries, and the skin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from fcr_train.simulate.depths import DepthField, DepthTable, read_depths
from fcr_train.simulate.head import Head, macro_weights
from fcr_train.simulate.population import MEAN_BMI, Person
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
NECK_SLOPE = 12.0
"""Body-mass index above the mean that gives the full double chin [kg/m2]."""

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
        self._field = DepthField(self.reference, self.reference[self.landmarks])
        self._depth_share = self._depth_fade()
        self._lid_share = self._lid_shares()
        self._smoothing = self._normal_smoothing()

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
        return Surfaces(bony, self._skin(face, deviation), self.table.mean + deviation)

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
        self, face: Float64[np.ndarray, "v 3"], deviation: Float64[np.ndarray, " l"]
    ) -> Float64[np.ndarray, "v 3"]:
        """Move the face along its normals by the deviation of the tissue depths."""
        change = self._field.spread(deviation)
        ears = self.head.masks["ears"]
        # Ears ride on the head as they are: a varying offset would crumple them.
        change[ears] = np.median(change[ears])
        normals = self._smoothing @ vertex_normals(face, self.head.skin)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return np.asarray(face + normals * (self._depth_share * change)[:, None])
