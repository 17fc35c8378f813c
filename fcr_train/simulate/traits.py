"""What differs from skull to skull beneath the same face: sinuses, vault, teeth, jaw and neck."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from fcr_train.simulate.population import Person

# Every distribution in this module is an assumption: plausible spreads, taken from no study.
TEETH_A_ROW = 8
"""Teeth on one side of one jaw, from the central incisor to the third molar."""
MISSING, THIRD_MOLAR, METAL, ROOT_FILLING = 0.03, 0.5, 0.05, 0.03
"""Probability for each tooth: lost; third molar there; crown or filling of metal; root filled.
Central incisors are never lost: tissue depths at the lips are measured down to them."""
NO_FRONTAL_SINUS = 0.05
MARKED_ASYMMETRY = 0.04
"""Probability that one maxillary or sphenoid sinus is a third smaller than the other."""
PATTERNS = 2**31

Metal = Literal["none", "filling", "crown"]


@dataclass(frozen=True)
class Tooth:
    """One tooth and what a dentist did to it."""

    present: bool = True
    outward_mm: float = 0.0
    """Crowding: off the arch, outward positive."""
    lean_degrees: float = 0.0
    """Crowding: tilt along the arch."""
    sunk_mm: float = 0.0
    """How far the crown stays below the plane of the bite."""
    metal: Metal = "none"
    root_filled: bool = False


WHOLE_ROW = (*(Tooth(),) * (TEETH_A_ROW - 1), Tooth(present=False))


@dataclass(frozen=True)
class Side:
    """The traits of one side of the skull; sizes are ratios to the mean."""

    frontal_sinus: float = 1.0
    """0 where the sinus is absent."""
    maxillary_sinus: float = 1.0
    sphenoid_sinus: float = 1.0
    mastoid_cells: float = 1.0
    ramus_width: float = 1.0
    upper: tuple[Tooth, ...] = WHOLE_ROW
    lower: tuple[Tooth, ...] = WHOLE_ROW
    pattern: int = 0
    """Picks the grain of the bone, the course of sutures and of vessels."""


@dataclass(frozen=True)
class SkullTraits:
    """Everything of a skull that the soft tissue does not follow; the default is the average."""

    left: Side = Side()
    right: Side = Side()
    septum_mm: float = 0.0
    """Shift of the nasal septum to the left."""
    vault_thickness: float = 1.0
    diploe: float = 1.0
    """Density of the spongy layer of the vault."""
    petrous: float = 1.0
    """Density of the petrous bone."""
    sella: float = 1.0
    """Size of the pituitary fossa and the clinoids."""
    gonial_degrees: float = 0.0
    """Angle of the jaw, above 0 more obtuse."""
    chin: float = 1.0
    bite_degrees: float = 0.0
    """Opening of the jaw about the condyles."""
    sutures: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Visibility of the coronal, lambdoid and sagittal suture [0-1]."""
    vessels: float = 0.5
    """Depth of the vascular grooves of the vault [0-1]."""
    lordosis: float = 0.5
    """Curvature of the neck, 0 straight."""
    vertebra_height: float = 1.0
    vertebra_shift_mm: tuple[float, ...] = (0.0,) * 6
    """Steps of C2 to C7 forward or back."""
    disc: float = 1.0
    """Height of the discs of the neck."""
    hyoid_mm: tuple[float, float] = (0.0, 0.0)
    """Position of the hyoid bone: up, forward."""

    def row(self) -> dict[str, str]:
        """Give the main traits as columns of people.csv, in order; sizes relative to the mean."""
        return {
            "frontal_sinus_left": f"{self.left.frontal_sinus:.2f}",
            "frontal_sinus_right": f"{self.right.frontal_sinus:.2f}",
            "vault_thickness": f"{self.vault_thickness:.2f}",
            "gonial_angle_deg": f"{self.gonial_degrees:.1f}",
            "bite_opening_deg": f"{self.bite_degrees:.1f}",
            "septum_mm": f"{self.septum_mm:.1f}",
            "teeth": str(sum(tooth.present for tooth in self.teeth())),
            "metal_teeth": str(sum(t.present and t.metal != "none" for t in self.teeth())),
        }

    def teeth(self) -> tuple[Tooth, ...]:
        """List the teeth of both sides and jaws, absent ones too."""
        return self.left.upper + self.left.lower + self.right.upper + self.right.lower


def draw_traits(person: Person, rng: np.random.Generator) -> SkullTraits:
    """Draw the traits of a person's skull; both sides nearly alike."""
    common = draw_common_side(person, rng)
    left, right = (draw_side(common, rng) for _ in range(2))
    if rng.random() < MARKED_ASYMMETRY:
        right = replace(right, maxillary_sinus=0.67 * right.maxillary_sinus)
    if rng.random() < MARKED_ASYMMETRY:
        left = replace(left, sphenoid_sinus=0.67 * left.sphenoid_sinus)
    return SkullTraits(
        left=left,
        right=right,
        septum_mm=float(rng.uniform(-2, 2)),
        vault_thickness=draw_ratio(rng, 0.15),
        diploe=draw_ratio(rng, 0.20),
        petrous=draw_ratio(rng, 0.08),
        sella=draw_ratio(rng, 0.10),
        gonial_degrees=float(np.clip(rng.normal(0, 3), -6, 6)),
        chin=draw_ratio(rng, 0.10),
        # Films are taken with the teeth together, or nearly so.
        bite_degrees=float(3 * rng.random() ** 3),
        sutures=tuple(rng.uniform(0.15, 1, 3).tolist()),
        vessels=float(rng.uniform(0.1, 1)),
        lordosis=float(rng.normal(0.5, 0.35)),
        vertebra_height=draw_ratio(rng, 0.05),
        vertebra_shift_mm=tuple(rng.normal(0, 0.5, 6).tolist()),
        disc=draw_ratio(rng, 0.15),
        hyoid_mm=tuple(rng.normal(0, (4.0, 3.0)).tolist()),
    )


def draw_ratio(rng: np.random.Generator, sd: float) -> float:
    """Draw a ratio to the mean, normal, cut at three standard deviations."""
    return float(1 + sd * np.clip(rng.normal(), -3, 3))


def draw_common_side(person: Person, rng: np.random.Generator) -> Side:
    """Draw what both sides share; men have larger air cells."""
    sex = 1.0 if person.is_male else -1.0
    return Side(
        frontal_sinus=float((1 + 0.10 * sex) * rng.lognormal(0, 0.25)),
        maxillary_sinus=draw_ratio(rng, 0.10),
        sphenoid_sinus=draw_ratio(rng, 0.10),
        mastoid_cells=float((1 + 0.08 * sex) * draw_ratio(rng, 0.12)),
        ramus_width=draw_ratio(rng, 0.06),
    )


def draw_side(common: Side, rng: np.random.Generator) -> Side:
    """Draw one side around what both share."""
    absent = rng.random() < NO_FRONTAL_SINUS
    frontal = common.frontal_sinus * rng.lognormal(0, 0.25)
    return Side(
        frontal_sinus=0.0 if absent else float(np.clip(frontal, 0.45, 1.9)),
        maxillary_sinus=common.maxillary_sinus * draw_ratio(rng, 0.06),
        sphenoid_sinus=common.sphenoid_sinus * draw_ratio(rng, 0.06),
        mastoid_cells=common.mastoid_cells * draw_ratio(rng, 0.06),
        ramus_width=common.ramus_width * draw_ratio(rng, 0.015),
        upper=tuple(draw_tooth(number, rng) for number in range(TEETH_A_ROW)),
        lower=tuple(draw_tooth(number, rng) for number in range(TEETH_A_ROW)),
        pattern=int(rng.integers(PATTERNS)),
    )


def draw_tooth(number: int, rng: np.random.Generator) -> Tooth:
    """Draw a tooth; `number` counts from the central incisor, 0."""
    last = number == TEETH_A_ROW - 1
    absent, metal, root, buried = rng.random(4)
    outward, lean = rng.uniform(-1, 1, 2).tolist()
    return Tooth(
        present=bool(absent < THIRD_MOLAR if last else absent > MISSING or number == 0),
        outward_mm=outward,
        lean_degrees=8 * lean,
        sunk_mm=5.0 * float(last and buried < 0.4),
        metal=draw_metal(float(metal), number),
        root_filled=bool(root < ROOT_FILLING),
    )


def draw_metal(chance: float, number: int) -> Metal:
    """Choose between no metal, a filling and, more rarely, a crown; none on front teeth."""
    if number < 3 or chance > METAL:
        return "none"
    return "crown" if chance < 0.3 * METAL else "filling"
