"""Raw volumes in: files of bare numbers, described by a small TOML file beside them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_edge.errors import DataError
from fcr_train.simulate.ct.scan import Scan, check_size, orient
from fcr_train.simulate.ct.terms import check_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32

EXAMPLE = """\
folder = "."                  # where the files are, relative to this file
files = "slice_*.raw"         # one file a slice, in order of their numbers; or one file
type = "int16"                # uint8, int16, uint16, int32, float32
byte_order = "little"         # or "big"
shape = [93, 512, 512]        # as the numbers follow one another, the slowest axis first
spacing_mm = [1.5, 0.45, 0.45]
axes = ["top to bottom", "front to back", "right to left"]  # the subject's own right and left
slope = 1.0                   # value x slope + intercept = Hounsfield units
intercept = -1024.0"""
TYPES = ("uint8", "int16", "uint16", "int32", "float32")
ORDERS = {"little": "<", "big": ">"}
AXES = {
    "right to left": (1.0, 0.0, 0.0),
    "left to right": (-1.0, 0.0, 0.0),
    "bottom to top": (0.0, 1.0, 0.0),
    "top to bottom": (0.0, -1.0, 0.0),
    "back to front": (0.0, 0.0, 1.0),
    "front to back": (0.0, 0.0, -1.0),
}
KEYS = (
    "folder",
    "files",
    "type",
    "byte_order",
    "shape",
    "spacing_mm",
    "axes",
    "slope",
    "intercept",
)


@dataclass(frozen=True)
class Sidecar:
    """What the numbers of a raw volume mean."""

    folder: Path
    files: str
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    axes: tuple[str, str, str]
    slope: float
    intercept: float


def refuse_raw(path: Path) -> DataError:
    """Build the error for files that nothing describes, with the lines to write."""
    return DataError(
        f"{path} holds neither DICOM nor NIfTI: if it is a raw volume, describe it in a text file "
        f"such as ct.toml and give that file. Its lines:\n{EXAMPLE}"
    )


def read_raw(path: Path) -> Scan:
    """Read the raw volume that the sidecar at `path` describes.

    Raises DataError naming the key that is wrong, or the file whose size does not fit.
    """
    sidecar = read_sidecar(path)
    check_text(path.read_text(encoding="utf-8"), path.name)
    check_size(sidecar.shape, sidecar.spacing_mm, path.name)
    values = read_values(sidecar, path)
    hu = values * np.float32(sidecar.slope) + np.float32(sidecar.intercept)
    directions = np.array([AXES[axis] for axis in sidecar.axes]).T
    return orient(hu, directions, sidecar.spacing_mm, path.name)


def read_sidecar(path: Path) -> Sidecar:
    """Read and check a sidecar."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise DataError(f"{path} is no TOML file ({err}): its lines are\n{EXAMPLE}") from err
    unknown = set(table) - set(KEYS)
    missing = set(KEYS) - set(table) - {"folder", "slope", "intercept"}
    if unknown or missing:
        wrong = [f"unknown {key}" for key in sorted(unknown)]
        wrong += [f"no {key}" for key in sorted(missing)]
        raise DataError(f"{path} has {', '.join(wrong)}: its lines are\n{EXAMPLE}")
    check_values(table, path)
    folder = path.parent / str(table.get("folder", "."))
    order = ORDERS[table["byte_order"]]
    x, y, z = table["shape"]
    a, b, c = (float(step) for step in table["spacing_mm"])
    return Sidecar(
        folder=folder,
        files=table["files"],
        dtype=np.dtype(table["type"]).newbyteorder(order),
        shape=(x, y, z),
        spacing_mm=(a, b, c),
        axes=tuple(table["axes"]),
        slope=float(table.get("slope", 1.0)),
        intercept=float(table.get("intercept", 0.0)),
    )


def check_values(table: dict[str, Any], path: Path) -> None:
    """Raise DataError for a key whose value cannot be used."""

    def numbers(value: Any, *kinds: type) -> bool:
        return (
            isinstance(value, list)
            and len(value) == 3
            and all(type(x) in kinds and x > 0 for x in value)
        )

    axes = table["axes"]
    distinct = isinstance(axes, list) and len(axes) == 3 and all(a in AXES for a in axes)
    distinct = distinct and np.linalg.matrix_rank([AXES[a] for a in axes]) == 3
    files = table["files"]
    plain = isinstance(files, str) and files != "" and not re.search(r"[/\\]|\.\.", files)
    offset = (table.get("slope", 1.0), table.get("intercept", 0.0))
    rules = {
        "files": (plain, "a file name, in which * stands for the slice number"),
        "folder": (isinstance(table.get("folder", "."), str), "a folder"),
        "type": (table["type"] in TYPES, "one of " + ", ".join(TYPES)),
        "byte_order": (table["byte_order"] in ORDERS, "little or big"),
        "shape": (numbers(table["shape"], int), "three counts"),
        "spacing_mm": (numbers(table["spacing_mm"], int, float), "three distances"),
        "axes": (distinct, "three of " + ", ".join(AXES) + ", one along each axis of the body"),
        "slope": (isinstance(offset[0], (int, float)) and offset[0] != 0, "a number"),
        "intercept": (isinstance(offset[1], (int, float)), "a number"),
    }
    for key, (right, advice) in rules.items():
        if not right:
            raise DataError(f"{path} says {key} = {table.get(key)!r}: give {advice}")


def read_values(sidecar: Sidecar, path: Path) -> Float32[np.ndarray, "a b c"]:
    """Read the numbers of all files, in order of the numbers in their names."""
    files = sorted(sidecar.folder.glob(sidecar.files), key=natural_key)
    slices = sidecar.shape[0]
    if len(files) not in (1, slices):
        raise DataError(
            f"{sidecar.folder} holds {len(files)} files {sidecar.files}, but {path} says "
            f"{slices} slices: correct files or shape"
        )
    values = np.empty(sidecar.shape, np.float32)
    parts = values.reshape(len(files), -1)
    size = parts.shape[1] * sidecar.dtype.itemsize
    for part, file in zip(parts, files, strict=True):
        if file.stat().st_size != size:
            raise DataError(
                f"{file} has {file.stat().st_size} bytes instead of {size}: correct shape or type "
                f"in {path}"
            )
        part[:] = np.fromfile(file, sidecar.dtype)
    return values


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key that counts numbers in a name as numbers, so that 10 follows 9."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
