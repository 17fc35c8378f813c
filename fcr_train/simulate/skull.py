"""A procedural skull: bones as implicit surfaces, rasterised to attenuation and air volumes."""

from __future__ import annotations

import itertools
import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from fcr_edge.errors import DataError
from fcr_train.simulate.bones import (
    add_clinoids,
    mandible,
    mandibular_canal,
    neck,
    petrous_pyramid,
    strong_face,
    weak_face,
)
from fcr_train.simulate.cavities import (
    ETHMOID,
    carve,
    mastoid_cells,
    nasal_cavity,
    orbit,
    put_septum,
    resting_air,
    sinuses,
    thin_walls,
    turbinates,
)
from fcr_train.simulate.solids import (
    AXES,
    EVERYWHERE,
    HALF_SHAPE,
    ORIGIN,
    SHAPE,
    STEP_MM,
    Solid,
    coordinates,
    logistic,
    occupancy,
    shell,
    unite,
)
from fcr_train.simulate.teeth import put_teeth
from fcr_train.simulate.vault import (
    floor_height,
    map_index,
    outer_face,
    seam,
    skin_depth,
    thickness,
    vault_lines,
)

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Bool, Float32, Int32, Int64

    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.solids import Slices, Volume
    from fcr_train.simulate.traits import Side, SkullTraits

    Values = Float32[np.ndarray, " n"]
    Offset = tuple[int, int, int]

__all__ = ["ORIGIN", "SHAPE", "STEP_MM", "SkullBuilder", "Template"]

# Attenuation beyond that of soft tissue [per mm], at 70 kVp with 2.5 mm Al behind 14 cm of soft
# tissue; cortical bone from a SpekPy spectrum, the other an estimate.
CORTICAL, SPONGIOSA = 0.060, 0.016
NOISE_SEED = 20_000
TILE = 128
"""Cells along each edge of the block of noise that repeats over the head, a power of two."""
GRAINS = {"fine": 0.7, "cells": 1.5, "coarse": 3.5}
"""Blur of the noise [cells]: trabeculae, air cells, density that varies from place to place."""
SKIN_GAP_MM = 1.5
"""Bone comes no nearer to the skin."""
TABLE_MM, STRONG_MM, WEAK_MM, NECK_MM = 1.5, 1.9, 0.8, 1.4
"""Thickness of the cortex: tables of the vault, face where strong and weak, vertebrae."""
JAW_MM, RAMUS_MM = 2.7, 1.3
"""Cortex of the lower jaw, and what the flat ramus has beyond it."""
WALL_LEVEL = 0.25
FLOOR_RELIEF_MM = 0.8
"""Unevenness of the floor of the brain case, the imprint of the brain's folds."""
PLATE_SHARE = 0.5
"""Cortical share of the thin plates of the base, less than half a cell thick in places."""


@dataclass(frozen=True)
class Template:
    """A skull on the grid of the reference head."""

    bone: Volume
    """Attenuation beyond soft tissue [per mm]."""
    air: Volume
    """Share of air [0-1]."""

    @cached_property
    def bone_blocks(self) -> Blocks:
        """Tell where bone is near."""
        return blocks_near(self.bone)

    @cached_property
    def air_blocks(self) -> Blocks:
        """Tell where air is near."""
        return blocks_near(self.air)


def write_template(path: Path, template: Template) -> None:
    """Write a template so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, bone=template.bone, air=template.air)
    part.replace(path)


def read_template(path: Path) -> Template:
    """Read a template. Raises DataError for a file that holds none."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            template = Template(bone=arrays["bone"], air=arrays["air"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        raise DataError(f"{path} holds no skull: delete it and repeat the command") from err
    if not template.bone.shape == template.air.shape == SHAPE:
        raise DataError(f"{path} is a skull on another grid: delete it and repeat the command")
    return template


BLOCK = 2
"""Cells along each edge of the blocks in which a template is looked up."""
BLOCKS = tuple(-(-count // BLOCK) for count in SHAPE)


class Blocks(NamedTuple):
    """Tells of each block, flattened, whether anything is in it or near it."""

    one: Bool[np.ndarray, " n"]
    """In it or in a block next to it: within 2 cells of any place in it."""
    two: Bool[np.ndarray, " n"]
    """As far as the next but one: within 4 cells."""


def blocks_near(volume: Volume) -> Blocks:
    """Tell which blocks of a volume are near anything."""
    held = np.zeros(BLOCKS, bool)
    for i, j, k in itertools.product(range(BLOCK), repeat=3):
        part = volume[i::BLOCK, j::BLOCK, k::BLOCK] > 0
        held[: part.shape[0], : part.shape[1], : part.shape[2]] |= part
    one = with_neighbours(held)
    return Blocks(one.ravel(), with_neighbours(one).ravel())


def block_index(places: Float32[np.ndarray, "n 3"]) -> Int64[np.ndarray, " n"]:
    """Give the flat index of the block at each place [cells]; 0 for outside."""
    block = np.floor(places / BLOCK).astype(np.int64)
    inside = ((block >= 0) & (block < BLOCKS)).all(1)
    flat = (block[:, 0] * BLOCKS[1] + block[:, 1]) * BLOCKS[2] + block[:, 2]
    return np.where(inside, flat, 0)


def with_neighbours(cells: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Add the 26 neighbours of each cell."""
    for axis in range(3):
        forward = np.moveaxis(cells, axis, 0)
        grown = forward.copy()
        grown[1:] |= forward[:-1]
        grown[:-1] |= forward[1:]
        cells = np.moveaxis(grown, 0, axis)
    return np.ascontiguousarray(cells)


class Grain:
    """Noise of unit variance that repeats over the head; each pattern shifts it elsewhere."""

    def __init__(self) -> None:
        """Draw one block for each grain."""
        rng = np.random.default_rng(NOISE_SEED)
        self._tiles = {name: self._tile(rng, blur) for name, blur in GRAINS.items()}

    @staticmethod
    def _tile(rng: np.random.Generator, blur: float) -> Volume:
        noise = rng.standard_normal((TILE,) * 3, np.float32)
        noise = ndimage.gaussian_filter(noise, blur, mode="wrap", truncate=3.0)
        return np.asarray(noise / noise.std(), np.float32)

    def at(self, name: str, cells: Int32[np.ndarray, "3 n"], offset: Offset) -> Values:
        """Read the noise at cells of the half grid."""
        i, j, k = ((row + shift) & (TILE - 1) for row, shift in zip(cells, offset, strict=True))
        return np.asarray(self._tiles[name].reshape(-1)[(i * TILE + j) * TILE + k])

    def box(self, name: str, cells: Slices, offset: Offset) -> Volume:
        """Read the noise over a box of the half grid."""
        rows = [
            np.arange(part.start + shift, part.stop + shift) & (TILE - 1)
            for part, shift in zip(cells, offset, strict=True)
        ]
        return np.asarray(self._tiles[name][np.ix_(*rows)])


def pattern_offset(side: Side) -> Offset:
    """Say where in the noise the pattern of one side starts."""
    x, y, z = np.random.default_rng((side.pattern, 0)).integers(0, TILE, 3).tolist()
    return x, y, z


@dataclass(frozen=True)
class Cranium:
    """What all crania share, at the cells that hold bone in any of them."""

    cells: Int32[np.ndarray, " n"]
    """Flat indices into the half grid."""
    places: Int32[np.ndarray, "3 n"]
    outside: Values
    """Distance to the outer face of vault and base, positive outside [mm]."""
    depth: Values
    """Below the outer face [mm]."""
    above_floor: Values
    thickness: Values
    seam: Values
    face: Values
    """Distance to face and base."""
    bar: Values
    """Distance below which there is no bone: skin, orbit and nasal cavity [mm]."""
    cortex: Values
    """Thickness of the cortex of the face [mm]."""
    marrow: Values
    """Density of spongy bone: much in the vault, little in the face."""
    floor: Values
    """How much of a place belongs to the thin plates of the floor, not to the wall [0-1]."""
    wall: Values
    """Cortical share of the walls of orbit and nose, and of the turbinates."""
    petrous: Values
    map_index: Int32[np.ndarray, " n"]


class SkullBuilder:
    """Builds skulls of given traits; holds what all of them share."""

    def __init__(self, anatomy: Anatomy) -> None:
        """Measure the depth below the skin and lay out the bones that all skulls share."""
        depth = skin_depth(anatomy)
        self._skin = depth < 1.0
        self._grain = Grain()
        space = orbit(), nasal_cavity(), turbinates()
        self._cranium = lay_cranium(depth, *space)
        self._air = resting_air(*space[1:])

    def build(self, traits: SkullTraits) -> Template:
        """Build a skull; equal sides give a mirror-symmetric one."""
        shared = Shared(traits)
        left = self._half(traits, shared, traits.left, traits.septum_mm)
        right = left
        if traits.left != traits.right or traits.septum_mm:
            right = self._half(traits, shared, traits.right, -traits.septum_mm)
        bone, air = (np.concatenate([right[k][:0:-1], left[k]]) for k in range(2))
        return Template(bone, air)

    def _half(
        self, traits: SkullTraits, shared: Shared, side: Side, septum: float
    ) -> tuple[Volume, Volume]:
        """Build attenuation and air of one side; the plane x = 0 comes from the left one."""
        offset = pattern_offset(side)
        bone, air = np.zeros(HALF_SHAPE, np.float32), self._air.copy()
        bone.reshape(-1)[self._cranium.cells] = self._attenuate(traits, side, offset)
        hollow = sinuses(traits, side)
        carve(bone, air, hollow, CORTICAL)
        self._divide(bone, hollow[ETHMOID].solid, offset)
        self._aerate(bone, air, mastoid_cells(side), offset)
        self._jaw(bone, shared, mandible(traits, side), offset)
        self._neck(bone, air, shared, offset)
        put_septum(bone, air, septum, CORTICAL)
        put_teeth(bone, traits, side)
        bone[self._skin] = 0
        return bone, air

    def _attenuate(self, traits: SkullTraits, side: Side, offset: Offset) -> Values:
        """Turn the distances of the cranium into attenuation: tables, diploe, petrous bone."""
        c = self._cranium
        fine, cells, coarse = (self._grain.at(name, c.places, offset) for name in GRAINS)
        thick = c.thickness * np.float32(traits.vault_thickness) + 0.35 * coarse
        relief = FLOOR_RELIEF_MM * coarse
        inside = unite(c.depth - thick, c.above_floor + relief, c.seam)
        vault = np.maximum(c.outside - c.floor * relief, inside)
        distance = np.maximum(unite(c.face, vault, 2), c.bar)
        filled = occupancy(distance)
        table = np.where(vault < c.face, np.float32(TABLE_MM), c.cortex)
        cortical = shell(distance, table) * (1 - c.floor * np.float32(1 - PLATE_SHARE))
        cortical = np.maximum(
            cortical,
            np.float32(0.28 * traits.petrous)
            * c.petrous
            * filled
            * np.clip(1 + 0.5 * cells, 0.3, 1.8),
        )
        spongy = (filled - shell(distance, table)) * c.marrow
        spongy *= np.where(vault < c.face, np.float32(traits.diploe), np.float32(1))
        spongy *= np.clip(1 + 0.18 * coarse + 0.40 * fine, 0.2, 1.9)
        cortical = np.maximum(cortical, c.wall * (1 - filled))
        cortical *= np.clip(1 + 0.08 * coarse + 0.06 * fine, 0.6, 1.4)
        lines = vault_lines(traits, side).reshape(-1)[c.map_index]
        lines = np.where(vault < c.face, lines, np.float32(1))
        return np.asarray((CORTICAL * cortical + SPONGIOSA * spongy) * lines, np.float32)

    def _aerate(self, bone: Volume, air: Volume, cells: Solid, offset: Offset) -> None:
        """Riddle a part of the bone with air cells."""
        part = cells.cells
        bubbles = occupancy(cells.distance) * logistic(4 * self._grain.box("cells", part, offset))
        bubbles *= bone[part] > 0
        bone[part] *= 1 - 0.9 * bubbles
        air[part] = np.maximum(air[part], 0.9 * bubbles)

    def _divide(self, bone: Volume, cavity: Solid, offset: Offset) -> None:
        """Divide a cavity into cells by walls, where the noise is near its mean."""
        part = cavity.cells
        noise = self._grain.box("cells", part, offset)
        wall = np.exp((noise / WALL_LEVEL) ** 2 * np.float32(-0.5)) * occupancy(cavity.distance)
        bone[part] = np.maximum(bone[part], 0.14 * CORTICAL * wall)

    def _jaw(self, bone: Volume, shared: Shared, jaw: Solid, offset: Offset) -> None:
        """Add the lower jaw: a thick cortex, and the canal within."""
        part = jaw.cells
        cortex = JAW_MM + RAMUS_MM * logistic(-(coordinates(part)[2] + 42) / 4)
        grain = self._grain.box("fine", part, offset)
        own = marrow(jaw.distance, cortex, 1.3, grain)
        bone[part] = np.maximum(bone[part], own * (1 - 0.75 * shared.canal))

    def _neck(self, bone: Volume, air: Volume, shared: Shared, offset: Offset) -> None:
        """Add the neck's bones, which push the air aside."""
        part = shared.neck.cells
        own = marrow(shared.neck.distance, NECK_MM, 1.6, self._grain.box("fine", part, offset))
        bone[part] = np.maximum(bone[part], own)
        air[part] *= 1 - occupancy(shared.neck.distance)


class Shared:
    """What both sides of one skull have in common."""

    def __init__(self, traits: SkullTraits) -> None:
        """Build the neck and the canal of the jaw."""
        self.neck = neck(traits)
        self.canal = occupancy(mandibular_canal(traits).distance)


def marrow(distance: Volume, cortex: float | Volume, density: float, grain: Volume) -> Volume:
    """Turn a distance into attenuation: a cortex around spongy bone with a grain."""
    filled = occupancy(distance)
    cortical = shell(distance, cortex)
    spongy = density * (filled - cortical) * np.clip(1 + 0.35 * grain, 0.2, 1.9)
    return np.asarray(CORTICAL * cortical + SPONGIOSA * spongy, np.float32)


def lay_cranium(depth: Volume, orbit: Solid, nose: Solid, folds: Solid) -> Cranium:
    """Lay out vault, face and base at the cells that may hold bone."""
    x, y, z = coordinates((slice(None),) * 3)
    strong, weak = strong_face(), weak_face()
    add_clinoids(weak)
    face = unite(strong.distance, weak.distance, 3)
    floor = floor_height(x, z)
    outer, above = outer_face(depth, x, y, z), 0.9 * (y - floor)
    width = seam(z) + 0 * outer
    plate = 2 + 2.2 * logistic(-(z + 42) / 4)
    outside = -unite(outer, above + 0.9 * plate, width)
    # Vaults are at most 14 mm thick, with floors a little below the plates.
    may = (outside < 2) & (np.minimum(outer, above) < 14)
    foramen = Solid(*EVERYWHERE).ellipsoid((0, -56, -107), (13, 14, 15))
    hollow = np.minimum(np.minimum(orbit.distance, nose.distance), foramen.distance)
    wall = thin_walls(orbit, nose, folds, z)
    chosen = np.flatnonzero((may | (face < 2) | (wall > 0)) & (depth > 0.5))
    places = np.stack(np.unravel_index(chosen, HALF_SHAPE)).astype(np.int32)
    place = [axis[row] for axis, row in zip(AXES, places, strict=True)]

    def pick(volume: Volume) -> Values:
        return np.ascontiguousarray(
            np.broadcast_to(volume, HALF_SHAPE).reshape(-1)[chosen], np.float32
        )

    return Cranium(
        cells=chosen.astype(np.int32),
        places=places,
        outside=pick(outside),
        depth=pick(outer),
        above_floor=pick(above),
        thickness=pick(thickness(y, z)),
        seam=pick(width),
        face=pick(face),
        bar=pick(np.maximum(SKIN_GAP_MM - depth, -hollow - 0.2)),
        cortex=pick(np.where(strong.distance < weak.distance, STRONG_MM, WEAK_MM)),
        marrow=pick(0.7 + 0.9 * logistic((y - 8) / 6)),
        floor=pick(logistic((outer - above) / 3) * (face > 1)),
        wall=pick(wall),
        petrous=pick(padded(petrous_pyramid())),
        map_index=map_index(*place),
    )


def padded(solid: Solid) -> Volume:
    """Spread the occupancy of a solid over the whole half grid."""
    whole = np.zeros(HALF_SHAPE, np.float32)
    whole[solid.cells] = occupancy(solid.distance)
    return whole
