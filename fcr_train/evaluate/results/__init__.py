"""What the tables of a study hold, read from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.results.calibration import build_calibration
from fcr_train.evaluate.results.claims import build_claims
from fcr_train.evaluate.results.conditions import build_conditions, build_splits
from fcr_train.evaluate.results.groups import build_gaps, build_groups
from fcr_train.evaluate.results.images import build_images
from fcr_train.evaluate.results.open_set import build_open_set
from fcr_train.evaluate.results.retrieval import build_cmc, build_grid, build_retrieval
from fcr_train.evaluate.results.training import build_trainings

if TYPE_CHECKING:
    from fcr_train.evaluate.study import Study
    from fcr_train.evaluate.tables import Table

BUILDERS = (
    build_images,
    build_retrieval,
    build_cmc,
    build_grid,
    build_conditions,
    build_splits,
    build_open_set,
    build_calibration,
    build_groups,
    build_gaps,
    build_claims,
    build_trainings,
)
"""In the order of the report."""


def build_tables(study: Study) -> list[Table]:
    """Make every table of a study, in the order of the report."""
    return [build(study) for build in BUILDERS]
