"""The head mesh: base shape, targets that deform it, masks and the reference head."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import DataError
from fcr_train.simulate.subdivide import Finer, subdivide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Bool, Float64, Int64

HEAD_FILE = Path(__file__).parent / "reference" / "head.npz"
HEAD_SHA256 = "d0b8b51a5b65e77519cefd4b1e3a68a6aadeab17756385c66f72424ad65a4876"
"""SHA-256 of the packed head; changes only when pack_head.py or its source does."""
MASKS = ("face", "lips", "eyelids", "ears", "inside-mouth")
"""Regions painted on the mesh by its makers, in the order of the mask columns."""
UNIT_MM = 108.0
"""Millimetres of one mesh unit."""
ANCESTRIES = ("african", "asian", "caucasian")
"""Vocabulary of the mesh, in its order; names of shape targets, not a claim about people."""
LEVELS = ("min", "average", "max")
SOCKET_MM = 17.6
"""Skin nearer to the centre of an eye lines its socket or is the rim of its lids."""
SOCKET_EDGE = np.radians(60)
"""Angle from the line of sight beyond which the lining is folded to the front."""
OLD_AGE = 90.0
YOUNG_AGE = 25.0
"""Ages of the mesh's 'old' and 'young' targets [years]."""


@dataclass(frozen=True)
class Macro:
    """The coarse description of a person that the macro targets understand."""

    male: float
    """0 female to 1 male."""
    ancestry: tuple[float, float, float]
    """Weights of ANCESTRIES, sum 1."""
    muscle: float = 0.5
    weight: float = 0.5
    """Both 0 to 1, 0.5 the average."""
    age: float = YOUNG_AGE
    """Years."""


@dataclass(frozen=True)
class Head:
    """The packed head, in mm, in the frame of the reference head.

    x points to the subject's left, y up, z forward; the origin is midway between the eyes.
    """

    base: Float64[np.ndarray, "v 3"]
    triangles: Int64[np.ndarray, "t 3"]
    skin_triangles: int
    """The first this many triangles are skin, the rest eyes."""
    mirror: Int64[np.ndarray, " v"]
    masks: Mapping[str, Bool[np.ndarray, " v"]]
    targets: Mapping[str, Float64[np.ndarray, "v 3"]]

    @property
    def skin(self) -> Int64[np.ndarray, "s 3"]:
        """Triangles of the skin."""
        return self.triangles[: self.skin_triangles]

    @property
    def eyes(self) -> Int64[np.ndarray, "e 3"]:
        """Triangles of both eyes."""
        return self.triangles[self.skin_triangles :]

    @property
    def is_eye(self) -> Bool[np.ndarray, " v"]:
        """Tell vertices of the eyes from those of the skin."""
        mask = np.zeros(len(self.base), bool)
        mask[self.eyes] = True
        return mask

    def shape(self, weights: Mapping[str, float]) -> Float64[np.ndarray, "v 3"]:
        """Deform the base by weighted targets; the sum is linear (MakeHuman's own rule)."""
        shape = self.base.copy()
        for name, weight in weights.items():
            if weight:
                shape += weight * self.targets[name]
        return shape

    def eye_centres(self, shape: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "2 3"]:
        """Give the centre of the left and of the right eye, the mean of their corners."""
        corners = shape[self.eyes].reshape(2, -1, 3)
        return np.asarray(corners.mean(1))

    def centred(self, shape: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "v 3"]:
        """Shift a shape so that the origin lies midway between its eyes."""
        return np.asarray(shape - self.eye_centres(shape).mean(0))

    def with_closed_mouth(self, shape: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "v 3"]:
        """Draw the pocket behind the lips forward, where a living head has tongue, teeth and gums.

        Each vertex inside the mouth moves between the lips beside it; left open, the pocket would
        be air and a dark box on films, and flattened it would be a dark line.
        """
        inside = self.masks["inside-mouth"]
        touching = self.skin[inside[self.skin].any(1)]
        ring = np.setdiff1d(touching, np.flatnonzero(inside))
        across = np.clip(shape[inside, 0], shape[ring, 0].min(), shape[ring, 0].max())
        weight = np.exp(-(((across[:, None] - shape[ring][None, :, 0]) / 4.0) ** 2))
        closed = shape.copy()
        closed[inside, 0] = across
        closed[inside, 1:] = (weight @ shape[ring, 1:]) / weight.sum(1, keepdims=True)
        return closed

    @cached_property
    def finer(self) -> Finer:
        """The skin with four times the triangles, so that its outline shows no corners."""
        return subdivide(self.skin, len(self.base))

    def as_solid(self, shape: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "w 3"]:
        """Give the surface that bounds all soft tissue, with the triangles of `finer`.

        Mouth and eye sockets are closed, and the whole is smoothed.

        The skin lines the sockets behind the eyes. Folded to the front of each eyeball it covers
        the eye; on films, the gap between eyeball and lining would show as a ring of air.
        """
        solid = self.with_closed_mouth(shape)
        for centre, lining in zip(self.eye_centres(shape), self.socket_linings, strict=True):
            offset = shape[lining] - centre
            across = np.hypot(offset[:, 0], offset[:, 1])
            angle = np.arctan2(across, offset[:, 2])
            folded = SOCKET_EDGE * (np.pi - angle) / (np.pi - SOCKET_EDGE)
            folded = np.where(angle > SOCKET_EDGE, folded, angle)
            way = offset[:, :2] / np.maximum(across, 1e-9)[:, None]
            reach = np.linalg.norm(offset, axis=1)
            front = [reach * np.sin(folded) * way[:, k] for k in (0, 1)]
            solid[lining] = centre + np.stack([*front, reach * np.cos(folded)], 1)
        return self.finer(solid)

    @cached_property
    def socket_linings(self) -> tuple[Int64[np.ndarray, " l"], Int64[np.ndarray, " r"]]:
        """Give the skin vertices behind the left and the right eyeball."""
        reference = self.reference()
        left, right = (
            np.flatnonzero(~self.is_eye & (np.linalg.norm(reference - centre, axis=1) < SOCKET_MM))
            for centre in self.eye_centres(reference)
        )
        return left, right

    def reference(self) -> Float64[np.ndarray, "v 3"]:
        """Build the reference head: average of sexes and ancestries, young, average weight."""
        average = Macro(male=0.5, ancestry=(1 / 3, 1 / 3, 1 / 3))
        return self.centred(self.shape(macro_weights(average)))


def macro_weights(macro: Macro) -> dict[str, float]:
    """Give the weights of the macro targets, products of piecewise linear hats."""
    weights: dict[str, float] = {}
    old = float(np.clip((macro.age - YOUNG_AGE) / (OLD_AGE - YOUNG_AGE), 0, 1))
    for sex, sex_weight in (("female", 1 - macro.male), ("male", macro.male)):
        for origin, part in zip(ANCESTRIES, macro.ancestry, strict=True):
            weights[f"{origin}-{sex}-young"] = sex_weight * part * (1 - old)
            weights[f"{origin}-{sex}-old"] = sex_weight * part * old
        for muscle, muscle_weight in zip(LEVELS, hat(macro.muscle), strict=True):
            for weight, weight_weight in zip(LEVELS, hat(macro.weight), strict=True):
                name = f"universal-{sex}-young-{muscle}muscle-{weight}weight"
                weights[name] = sex_weight * muscle_weight * weight_weight * (1 - old)
        # Only the average body is packed for old age: over 18-35 years its share stays below 1/6.
        weights[f"universal-{sex}-old-averagemuscle-averageweight"] = sex_weight * old
    return weights


def hat(value: float) -> tuple[float, float, float]:
    """Split a value in 0-1 into the weights of the minimum, average and maximum target."""
    return max(0.0, 1 - 2 * value), 1 - abs(2 * value - 1), max(0.0, 2 * value - 1)


@cache
def load_head(path: Path = HEAD_FILE) -> Head:
    """Read the packed head and make its targets mirror-symmetric.

    Raises DataError when the file is missing or is no packed head.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            arrays = {name: packed[name] for name in packed.files}
        base = arrays["base"] * (UNIT_MM / 10000)
        mirror = arrays["mirror"].astype(np.int64)
        head = Head(
            base=base,
            triangles=arrays["triangles"].astype(np.int64),
            skin_triangles=int(arrays["skin_triangles"]),
            mirror=mirror,
            masks={n: either_side(arrays["masks"][:, k], mirror) for k, n in enumerate(MASKS)},
            targets=unpack_targets(arrays, mirror),
        )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        raise DataError(f"{path} is not a packed head: run pack_head.py again") from err
    return head


def unpack_targets(
    arrays: Mapping[str, np.ndarray], mirror: Int64[np.ndarray, " v"]
) -> dict[str, Float64[np.ndarray, "v 3"]]:
    """Spread the sparse displacements [mm], and make left and right mirror images of each other.

    A midline target becomes the mean of itself and its mirror image (they differ by 0.1 mm at
    most), a target "r-..." is the mirror image of its "l-..."; asymmetries and one-sided
    expressions stay as they are.
    """
    names = arrays["names"].tobytes().decode().split("\n")
    starts = [0, *arrays["ends"].tolist()]
    targets: dict[str, Float64[np.ndarray, "v 3"]] = {}
    for name, start, end in zip(names, starts, starts[1:], strict=False):
        target = np.zeros((len(mirror), 3))
        target[arrays["index"][start:end]] = arrays["shift"][:, start:end].T * (UNIT_MM / 1000)
        if name.startswith("l-"):
            targets["r-" + name[2:]] = mirrored(target, mirror)
        elif not name.startswith(("asym-", "expression-eye")):
            target = (target + mirrored(target, mirror)) / 2
        targets[name] = target
    return targets


def either_side(
    mask: Bool[np.ndarray, " v"], mirror: Int64[np.ndarray, " v"]
) -> Bool[np.ndarray, " v"]:
    """Make a mask symmetric: its pictures miss a few vertices on one side."""
    return np.asarray(mask | mask[mirror])


def mirrored(
    target: Float64[np.ndarray, "v 3"], mirror: Int64[np.ndarray, " v"]
) -> Float64[np.ndarray, "v 3"]:
    """Reflect displacements or positions in the plane x = 0."""
    return np.asarray(target[mirror] * (-1.0, 1.0, 1.0))
