"""Layouts: which person, view and kind each file of a folder shows, by its name or by a table."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from fcr_edge import dicom
from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Layout = Literal["s2f", "folders", "csv"]

VIEWS = {
    "frontal": ("frontal", "front", "pa", "ap", "f"),
    "lateral": ("lateral", "lat", "side", "l"),
}
KINDS = {
    "xray": ("xray", "film", "radiograph"),
    "skull": ("skull",),
    "bone": ("bone",),
    "face": ("face", "photo", "portrait"),
}
"""The words that name a view or a kind, the first being ours."""
SUFFIXES = (".bmp", ".dcm", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")
PERSON = re.compile(r"\w[\w.-]*")
"""What may name a person: it becomes a folder. Letters of any script, digits, `_`, `.`, `-`."""
SEXES = {"female": ("female", "f", "woman", "w"), "male": ("male", "m", "man")}


@dataclass(frozen=True)
class Source:
    """A file of the folder, and what it shows."""

    path: Path
    name: str
    """Path inside the folder, with `/`: how reports name it."""
    person: str
    view: str
    kind: str


@dataclass(frozen=True)
class Unused:
    """A file that is not used, and why."""

    name: str
    reason: str
    is_error: bool
    """Whether it looks like a picture whose place is not understood."""


@dataclass(frozen=True)
class Attributes:
    """What a table says of a person; empty where it is not known."""

    sex: str = ""
    age: str = ""
    """[years]"""
    birth_year: str = ""
    bmi: str = ""
    """[kg/m2]"""


class NameFault(Exception):
    """A name that the layout does not understand; the message goes on after the name."""


def list_sources(
    folder: Path, layout: Layout, table: Sequence[Mapping[str, str]] | None
) -> tuple[list[Source], list[Unused]]:
    """Sort every file of a folder into those that show somebody and those that are not used.

    Raises DataError for a folder that does not exist, and for a table with a wrong row.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give one with films and photographs")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = _locate_rows(folder, table or []) if layout == "csv" else {}
    readers: dict[Layout, Callable[[PurePosixPath], tuple[str, str, str]]] = {
        "s2f": read_s2f_name,
        "folders": read_folders_name,
        "csv": lambda name: _look_up(named, name),
    }
    sources, unused = [], []
    for path in files:
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if any(part.startswith(".") for part in name.parts):
            unused.append(Unused(str(name), "a hidden file", False))
        elif not _may_be_picture(path) and str(name) not in named:
            unused.append(Unused(str(name), "not a picture, by its ending", False))
        else:
            try:
                sources.append(Source(path, str(name), *readers[layout](name)))
            except NameFault as fault:
                unused.append(Unused(str(name), str(fault), layout != "csv"))
    absent = sorted({*named} - {source.name for source in sources})
    unused += [
        Unused(name, "named in the table, but there is no such file", True) for name in absent
    ]
    return sources, unused


def _may_be_picture(path: Path) -> bool:
    """Tell by the ending; a file without any is a picture where it begins as DICOM does."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if re.fullmatch(r"\.[A-Za-z]\w*", path.suffix):
        return False
    with path.open("rb") as file:
        return dicom.is_dicom(file.read(dicom.MAGIC_OFFSET + 4))


def read_s2f_name(name: PurePosixPath) -> tuple[str, str, str]:
    """Read person, view and kind from a number and words anywhere in a path.

    The path is cut into words at `_`, `-`, `.`, spaces and folders, and between letters and
    digits; case does not matter, a plural is as good, "x-ray" is one word, "S2F" none. The number
    of the person is the only number of the path. View and kind each stand in the file's name, or
    else in the nearest folder that names one; a single `f` or `l` counts where no longer word
    names a view. Other words are passed over. Raises NameFault where something is missing, or is
    said in two ways.

    >>> read_s2f_name(PurePosixPath("Skull/012-Front.PNG"))
    ('p00012', 'frontal', 'skull')
    >>> read_s2f_name(PurePosixPath("S2F/Person 7/x-ray_lat.dcm"))
    ('p00007', 'lateral', 'xray')
    """
    levels = [_cut(part) for part in (name.stem, *reversed(name.parent.parts))]
    numbers = {int(word) for words in levels for word in words if word.isdecimal()}
    if len(numbers) != 1:
        found = ", ".join(map(str, sorted(numbers))) or "none"
        raise NameFault(f"needs exactly one number, that of the person (found: {found})")
    view, kind = _nearest(levels, VIEWS, "view"), _nearest(levels, KINDS, "kind")
    return f"p{numbers.pop():05d}", view, kind


def _cut(part: str) -> list[str]:
    joined = re.sub(r"x[\s_-]*ray", "xray", part.lower())
    without_set = re.sub(r"(?<![a-z])(s2f|skull2face)(?![a-z])", " ", joined)
    return re.findall(r"[^\W\d_]+|[0-9]+", without_set)


def _nearest(
    levels: Sequence[Sequence[str]], known: Mapping[str, Sequence[str]], what: str
) -> str:
    """Return what the words nearest to the file mean; single letters only where no word does."""
    for is_word in (True, False):
        for words in levels:
            meanings = _find_meanings(
                [word for word in words if (len(word) > 1) is is_word], known
            )
            if len(meanings) > 1:
                raise NameFault(f"names two {what}s ({', '.join(meanings)})")
            if meanings:
                return meanings[0]
    choices = ", ".join(word for words in known.values() for word in words)
    raise NameFault(f"names no {what} (one of {choices})")


def _find_meanings(words: Sequence[str], known: Mapping[str, Sequence[str]]) -> list[str]:
    singular = {word.removesuffix("s") for word in words}
    return [meaning for meaning, spellings in known.items() if singular & {*spellings}]


def read_folders_name(name: PurePosixPath) -> tuple[str, str, str]:
    """Read <kind>/<view>/<person>.<ext> or <person>/<view>_<kind>[_<number>].<ext>.

    Case does not matter in kinds and views; a person is named exactly. Raises NameFault.

    >>> read_folders_name(PurePosixPath("xray/frontal/anna.png"))
    ('anna', 'frontal', 'xray')
    >>> read_folders_name(PurePosixPath("anna/lateral_face_2.jpg"))
    ('anna', 'lateral', 'face')
    """
    parts = [*name.parent.parts, name.stem]
    if len(parts) == 3:
        kind, view, person = parts[0].lower(), parts[1].lower(), parts[2]
    elif len(parts) == 2:
        person, words = parts[0], parts[1].lower().split("_")
        view, kind = [*words, ""][:2]
        if len(words) > 3 or (len(words) == 3 and not words[2].isdigit()):
            view = ""
    else:
        view = ""
    if view not in VIEWS or kind not in KINDS:
        raise NameFault(
            "is neither <kind>/<view>/<person> nor <person>/<view>_<kind>"
            f" (kinds: {', '.join(KINDS)}; views: {', '.join(VIEWS)})"
        )
    return _check_person(person), view, kind


def _check_person(person: str) -> str:
    if not PERSON.fullmatch(person):
        raise NameFault(f"names a person {person!r}: use letters, digits, '_', '.' and '-'")
    return person


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV table of people or of files. Raises DataError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                {key: value for key, value in row.items() if key} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error) as err:
        raise DataError(f"cannot read {path}: {err}: give a CSV file in UTF-8") from err
    if not rows or "person" not in rows[0]:
        raise DataError(f"{path} has no column person, or no row: add it")
    return [{key: (value or "").strip() for key, value in row.items()} for row in rows]


def _locate_rows(
    folder: Path, table: Sequence[Mapping[str, str]]
) -> dict[str, tuple[str, str, str]]:
    """Return what each file of the table shows, by its name inside the folder."""
    if not table or not {"view", "kind", "file"} <= {*table[0]}:
        raise DataError(
            "--layout csv takes a --table with the columns person, view, kind and file, the latter"
            f" relative to {folder}"
        )
    located: dict[str, tuple[str, str, str]] = {}
    for number, row in enumerate(table, start=2):
        try:
            shown = _check_person(row["person"]), *_read_words(row)
        except NameFault as fault:
            raise DataError(f"row {number} of the table {fault}: correct it") from fault
        name = PurePosixPath(row["file"].replace("\\", "/")).as_posix()
        if located.setdefault(name, shown) != shown:
            raise DataError(f"row {number} of the table names {name} a second time: keep one row")
    return located


def _read_words(row: Mapping[str, str]) -> tuple[str, str]:
    view, kind = [_cut(row["view"])], [_cut(row["kind"])]
    return _nearest(view, VIEWS, "view"), _nearest(kind, KINDS, "kind")


def _look_up(
    named: Mapping[str, tuple[str, str, str]], name: PurePosixPath
) -> tuple[str, str, str]:
    if str(name) not in named:
        raise NameFault("not in the table")
    return named[str(name)]


def read_attributes(table: Sequence[Mapping[str, str]], layout: Layout) -> dict[str, Attributes]:
    """Read sex, age, birth year and body mass index of people, as rows of a table agree on them.

    The age is that on the day of the film. Where it is not given but `birth_year` and `film_year`
    are, it is their difference. Under `s2f` a person is named by the number. Raises DataError.
    """
    people: dict[str, Attributes] = {}
    for number, row in enumerate(table, start=2):
        person = row["person"]
        if layout == "s2f":
            digits = re.findall("[0-9]+", person)
            if len(digits) != 1:
                raise DataError(f"row {number} of the table: person {person!r} has no one number")
            person = f"p{int(digits[0]):05d}"
        try:
            attributes = _read_person(row)
        except ValueError as err:
            raise DataError(f"row {number} of the table: {err}") from err
        if people.setdefault(person, attributes) != attributes:
            raise DataError(
                f"row {number} of the table says of {person} what another row does not"
            )
    return people


def _read_person(row: Mapping[str, str]) -> Attributes:
    sex = row.get("sex", "").lower()
    meaning = [ours for ours, words in SEXES.items() if sex in words]
    if sex and not meaning:
        raise ValueError(f"sex is {sex!r}: write female, male or leave it empty")
    years = {key: row.get(key, "") for key in ("age", "birth_year", "film_year")}
    for key, value in years.items():
        if value and not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", value):
            raise ValueError(f"{key} is {value!r}: write a number of years or leave it empty")
    age = years["age"]
    if not age and years["birth_year"] and years["film_year"]:
        age = str(int(float(years["film_year"])) - int(float(years["birth_year"])))
    if age and not 0 <= float(age) <= 120:
        raise ValueError(f"the age is {age}: give 0 to 120 years")
    bmi = row.get("bmi", "")
    if bmi and not (re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", bmi) and 5 <= float(bmi) <= 100):
        raise ValueError(f"bmi is {bmi!r}: write 5 to 100 kg/m2 or leave it empty")
    return Attributes("".join(meaning), age, years["birth_year"], bmi)
