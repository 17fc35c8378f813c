"""Radiographs of a scanned head: Hounsfield units to line integrals of soft tissue and bone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.radiograph import (
    BEAMS,
    SOFT,
    Beam,
    LineIntegrals,
    Projection,
    View,
    project_volumes,
)
from fcr_train.simulate.warp import Skull

if TYPE_CHECKING:
    from fcr_train.simulate.ct.head import UprightHead
    from fcr_train.simulate.ct.scan import Volume

TISSUE_HU = 50.0
"""Soft tissue as ICRP defines it, which SOFT describes; denser soft tissue counts as this."""
BONE_START_HU = 156.0
BONE_PER_HU = 0.060 / 1150
"""Cortical bone of 1306 HU attenuates 0.060 per mm more than soft tissue (as `skull.CORTICAL`)."""
DENSEST = 0.160
"""Attenuation beyond soft tissue, at most [per mm]: enamel; metal would be more."""


def bone_excess(hu: Volume) -> Volume:
    """Give attenuation beyond that of soft tissue [per mm]."""
    excess = (hu - np.float32(BONE_START_HU)) * np.float32(BONE_PER_HU)
    return np.asarray(np.clip(excess, 0, np.float32(DENSEST)))


def soft_attenuation(hu: Volume) -> Volume:
    """Give attenuation of soft tissue [per mm], 0 for air; bone counts as soft tissue here."""
    share = (np.minimum(hu, np.float32(TISSUE_HU)) + 1000) / np.float32(TISSUE_HU + 1000)
    return np.asarray(np.maximum(share * np.float32(SOFT), 0))


def film_of_head(head: UprightHead, projection: Projection) -> LineIntegrals:
    """Project a scanned head."""
    skull = Skull(head.grid, bone_excess(head.hu), soft_attenuation(head.hu))
    bone, soft = project_volumes(skull, projection)
    slant = projection.slant()
    return LineIntegrals(soft * slant, bone * slant)


def film_projection(view: View, size: int, beam: Beam) -> Projection:
    """Give the geometry of a film of an upright head; a parallel beam magnifies nothing."""
    return Projection(view, size, source_mm=BEAMS[beam])
