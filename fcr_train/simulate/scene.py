"""The circumstances of one portrait: pose, camera, light, expression, background, day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_train.simulate.warp import Pose, draw_pose

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

KELVIN = (4000.0, 5500.0, 7000.0)
TINTS = ((1.10, 1.0, 0.86), (1.0, 1.0, 1.0), (0.95, 1.0, 1.06))
"""Colour of light after the camera has corrected half of it, at each of KELVIN (linear RGB)."""


@dataclass(frozen=True)
class Scene:
    """What differs from portrait to portrait of one person."""

    pose: Pose
    camera_mm: float
    """From the camera to the plane of the centre."""
    key: Float[np.ndarray, 3]
    """Direction to the key light; x right, y up, z to the camera."""
    key_strength: float
    fill_strength: float
    sky_strength: float
    tint: Float32[np.ndarray, 3]
    """Colour of the key light."""
    background: Float32[np.ndarray, 3]
    clothes: Float32[np.ndarray, 3]
    neckline: float
    """How far below its highest place the edge of the clothes lies [mm]."""
    opening: float
    """How much lower the edge is in front, as of an open collar [mm]."""
    expression: dict[str, float]
    gaze_mm: tuple[float, float]
    """Shift of the iris across and up."""
    years: float = 0.0
    """Years after the film."""
    bmi_change: float = 0.0
    """Change of the body-mass index since the film [kg/m2]."""


def draw_scene(male: bool, rng: np.random.Generator, first: bool = True) -> Scene:
    """Draw one portrait's circumstances. All ranges are assumptions.

    The `first` portrait is taken with the film: neutral expression, same age and weight.
    """
    strength = 0.25 if first else 1.0
    return Scene(
        pose=draw_pose(rng, degrees=5, scale=0.04, shift_mm=4),
        camera_mm=float(rng.uniform(800, 2000)),
        **draw_light(male, rng),
        background=draw_background(rng),
        clothes=draw_clothes(rng),
        neckline=float(rng.uniform(2, 30)),
        opening=float(rng.choice([0.0, 6.0, rng.uniform(15, 60)])),
        expression={k: strength * v for k, v in draw_expression(rng).items()},
        gaze_mm=(float(rng.normal(0, 0.4)), float(rng.normal(0, 0.25))),
        years=0.0 if first else float(rng.uniform(0, 8)),
        bmi_change=0.0 if first else float(rng.normal(0, 1.2)),
    )


def draw_light(male: bool, rng: np.random.Generator) -> dict[str, Any]:
    """Draw key, fill and sky; all light together is about 1 on a surface that faces the key."""
    azimuth, height = np.radians([rng.uniform(-40, 40), rng.uniform(10, 60)])
    # Women are lit more softly, as is usual in portraits.
    ratio = rng.uniform(1.0, 4.0 if male else 2.6)
    key = rng.uniform(0.52, 0.66)
    direction = [
        np.sin(azimuth) * np.cos(height),
        np.sin(height),
        np.cos(azimuth) * np.cos(height),
    ]
    kelvin = rng.uniform(KELVIN[0], KELVIN[-1])
    tint = [np.interp(kelvin, KELVIN, channel) for channel in zip(*TINTS, strict=True)]
    return {
        "key": np.array(direction),
        "key_strength": float(key),
        "fill_strength": float(0.7 * key / ratio),
        "sky_strength": float(rng.uniform(0.22, 0.34)),
        "tint": np.array(tint, np.float32),
    }


def draw_background(rng: np.random.Generator) -> Float32[np.ndarray, 3]:
    """Draw a wall: mostly light and grey."""
    grey = rng.uniform(0.18, 0.85)
    return (grey * np.clip(rng.normal(1, 0.06, 3), 0.8, 1.2)).astype(np.float32)


def draw_clothes(rng: np.random.Generator) -> Float32[np.ndarray, 3]:
    """Draw the colour of the clothes, light or dark."""
    colour = 10 ** rng.uniform(-1.9, -0.25) * np.clip(rng.normal(1, 0.3, 3), 0.3, 1.7)
    return np.minimum(colour, 0.85).astype(np.float32)


def draw_expression(rng: np.random.Generator) -> dict[str, float]:
    """Draw a mild expression."""
    raise_brows, slit = rng.uniform(0, 0.25), rng.uniform(0, 0.15)
    return {
        "expression-mouth-corner-puller": float(rng.uniform(0, 0.25)),
        "expression-mouth-compression": float(rng.uniform(0, 0.2)),
        "expression-mouth-open": float(rng.uniform(0, 0.05) * (rng.random() < 0.5)),
        "expression-eyebrows-left-up": float(raise_brows),
        "expression-eyebrows-right-up": float(raise_brows),
        "expression-eye-left-slit": float(slit),
        "expression-eye-right-slit": float(slit),
    }
