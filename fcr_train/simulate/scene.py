"""The circumstances of one portrait: pose, camera, light, expression, background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.warp import Pose, draw_pose

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True)
class Scene:
    """What differs from portrait to portrait of one person: pose, camera, light, expression."""

    pose: Pose
    camera_mm: float
    """From the camera to the plane of the centre."""
    key: Float64[np.ndarray, 3]
    """Direction to the key light; x right, y up, z to the camera."""
    key_strength: float
    fill_strength: float
    tint: Float64[np.ndarray, 3]
    """Colour of the light."""
    background: Float64[np.ndarray, 3]
    clothes: Float64[np.ndarray, 3]
    expression: dict[str, float]
    gaze_mm: tuple[float, float]
    years: float = 0.0
    """After the film."""
    bmi_change: float = 0.0
    """Since the film [kg/m2]."""
    """Shift of the iris across and up."""


def draw_scene(male: bool, rng: np.random.Generator) -> Scene:
    """Draw one portrait's circumstances. All ranges are assumptions."""
    pose = draw_pose(rng, degrees=5, scale=0.04, shift_mm=4)
    azimuth, height = np.radians([rng.uniform(-40, 40), rng.uniform(15, 55)])
    ratio = rng.uniform(1.3, 4.0 if male else 3.0)
    key = 0.62 * rng.uniform(0.92, 1.08)
    grey = rng.uniform(0.45, 0.92)
    raise_brows, slit = rng.uniform(0, 0.25), rng.uniform(0, 0.2)
    return Scene(
        pose=pose,
        camera_mm=float(rng.uniform(900, 2000)),
        key=np.array(
            [np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]
        ),
        key_strength=float(key),
        fill_strength=float(key / ratio),
        tint=np.array([1.0, 1.0, 1.0]) + rng.uniform(-1, 1) * np.array([0.035, 0.0, -0.05]),
        background=np.clip(grey + rng.normal(0, 0.018, 3), 0, 1),
        clothes=rng.uniform(0.03, 0.6) * np.clip(rng.normal(1, 0.18, 3), 0.4, 1.5),
        expression={
            "expression-mouth-corner-puller": float(rng.uniform(0, 0.25)),
            "expression-mouth-compression": float(rng.uniform(0, 0.25)),
            "expression-mouth-open": float(rng.uniform(0, 0.05) * (rng.random() < 0.5)),
            "expression-eyebrows-left-up": float(raise_brows),
            "expression-eyebrows-right-up": float(raise_brows),
            "expression-eye-left-slit": float(slit),
            "expression-eye-right-slit": float(slit),
        },
        gaze_mm=(float(rng.normal(0, 0.5)), float(rng.normal(0, 0.3))),
    )
