"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fcr_edge.errors import DataError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that whoever reads it sees the old content or all of the new.

    Folders that are missing are made. Raises DataError where the file cannot be written, as on a
    full disk; what was there before then stays.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        _write(path, data)
    except OSError as err:
        raise DataError(
            f"{path} cannot be written ({err.strerror}): free the disk, or choose a folder that"
            " can be written"
        ) from err


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
