"""NIfTI in: one volume with the orientation that its affine states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_edge.errors import DataError
from fcr_train.simulate.ct.scan import Scan, check_size, orient
from fcr_train.simulate.ct.terms import check_text

if TYPE_CHECKING:
    from pathlib import Path

FROM_RAS = np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])
"""NIfTI's axes (right, front, up) to ours (left, up, forward)."""


def read_nifti(path: Path) -> Scan:
    """Read a .nii or .nii.gz file; its values must be Hounsfield units.

    Raises DataError for a damaged file, several volumes, or an affine that is not set.
    """
    import nibabel

    name = path.name
    try:
        image: Any = nibabel.load(path)
        header = image.header
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            check_text(header[field].item().decode(errors="replace"), field)
        shape = tuple(int(n) for n in image.shape if n != 1)
        step = tuple(float(s) for s in np.linalg.norm(image.affine[:3, :3], axis=0))
        coded = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    except DataError:
        raise
    except Exception as err:  # the file may be anything
        raise DataError(f"{path} is no NIfTI image ({err}): export it again") from err
    if not coded:
        raise DataError(
            f"{path} does not say how it is oriented (qform and sform codes are 0): convert it "
            "again with dcm2niix, or describe it as a raw volume"
        )
    check_size(shape, step, name)
    try:
        values = np.asarray(image.dataobj, np.float32).reshape(shape)
    except Exception as err:  # truncated or damaged data
        raise DataError(f"{path} is damaged ({err}): convert it again") from err
    directions = FROM_RAS @ (image.affine[:3, :3] / np.array(step))
    return orient(values, directions, (step[0], step[1], step[2]), name)
