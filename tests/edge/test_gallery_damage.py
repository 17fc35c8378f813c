"""Whatever happens to its bytes, a gallery gives an error or the right answer."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from some_galleries import KEY, make_gallery, read_all

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Key, store

PAGE = 4096


def flip_bits(whole: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(whole)
    for _ in range(rng.choice([1, 1, 3, 30])):
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def write_rubbish(whole: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(whole))
    length = min(rng.choice([1, 16, 512, PAGE]), len(whole) - start)
    rubbish = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])
    return whole[:start] + rubbish + whole[start + length :]


def cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole))]


def lengthen(whole: bytes, rng: random.Random) -> bytes:
    return whole + rng.randbytes(rng.choice([1, PAGE]))


def swap_pages(whole: bytes, rng: random.Random) -> bytes:
    pages = [whole[at : at + PAGE] for at in range(0, len(whole), PAGE)]
    one, other = rng.sample(range(len(pages)), 2)
    pages[one], pages[other] = pages[other], pages[one]
    return b"".join(pages)


def repeat_page(whole: bytes, rng: random.Random) -> bytes:
    pages = [whole[at : at + PAGE] for at in range(0, len(whole), PAGE)]
    one, other = rng.sample(range(len(pages)), 2)
    pages[one] = pages[other]
    return b"".join(pages)


HARMS = (flip_bits, flip_bits, write_rubbish, cut, lengthen, swap_pages, repeat_page)


@pytest.mark.parametrize("key", [pytest.param(None, id="clear"), pytest.param(KEY, id="sealed")])
@pytest.mark.parametrize(
    "copies",
    [pytest.param(1000, id="1000"), pytest.param(10_000, id="10000", marks=pytest.mark.slow)],
)
def test_damage_gives_an_error_or_the_right_answer(
    tmp_path: Path,
    key: Key | None,
    copies: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "PACKED_FROM", 1)
    path, rng = tmp_path / "db.bin", random.Random(copies)
    with make_gallery(path, key, people=7) as gallery:
        gallery.remove("q00003")  # leaves room that nothing uses
        gallery.pack()
    truth, whole = read_all(path, key), path.read_bytes()
    came: Counter[str] = Counter()

    for _ in range(copies):
        harm = rng.choice(HARMS)
        damaged = harm(whole, rng)
        path.write_bytes(damaged)
        try:
            answer = read_all(path, key)
        except GalleryError:
            came["refused"] += 1
        else:
            assert answer == truth, harm.__name__
            came["answered rightly"] += 1
        assert path.read_bytes() == damaged, "reading repairs nothing and loses nothing"

    with capsys.disabled():
        print(f"\n{copies} damaged copies, {dict(came)}, 0 wrong answers")  # noqa: T201
    assert came["refused"] > copies / 2
