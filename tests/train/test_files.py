from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fcr_edge.errors import DataError
from fcr_train.files import write_whole


def test_text_and_bytes_arrive_in_folders_that_are_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b" / "text", "Schädel\n")
    write_whole(tmp_path / "bytes", b"\x00\xff")

    assert (tmp_path / "a" / "b" / "text").read_bytes() == "Schädel\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    target = tmp_path / "checkpoint"
    write_whole(target, "old")

    def fail(handle: int) -> None:
        raise fault

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((DataError, KeyboardInterrupt)) as caught:
        write_whole(target, "new")

    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    if isinstance(fault, OSError):
        assert "No space left on device): free the disk" in str(caught.value)
