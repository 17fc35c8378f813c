"""The report of a study: one page, its tables and pictures as files, and the record of it all."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np

import fcr_edge
from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_train.evaluate.card import list_limits, render_card
from fcr_train.evaluate.figures import build_figures
from fcr_train.evaluate.record import LEAD
from fcr_train.evaluate.results import build_tables
from fcr_train.evaluate.results.summary import measure_headline, summarise
from fcr_train.evaluate.sheets import build_sheets
from fcr_train.evaluate.study import SCHEMA, Illustration, write_name
from fcr_train.evaluate.tables import Table, render_csv, render_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fcr_train.evaluate.record import Network
    from fcr_train.evaluate.study import Study

PAGE, RECORD, CARD = "index.html", "report.json", "MODEL_CARD.md"
SECTIONS = (
    (
        "images",
        "Image quality",
        "How the generated faces look. A face may look real and be of nobody: whether it finds "
        "the right person is measured further down.",
        ("table1-images", "sheet-frontal", "sheet-lateral"),
    ),
    (
        "retrieval",
        "Retrieval",
        "Every test person is in the gallery. The generated face is searched for, and the rank of "
        "the person's own photograph counts.",
        ("figure-cmc-probes", "table2a-", "table2b-", "figure-cmc-runs", "table3-", "table4-"),
    ),
    (
        "candidates",
        "Candidate lists",
        f"{LEAD} Similarity is a cosine, no probability.",
        ("sheet-candidates-",),
    ),
    (
        "leakage",
        "What a split by pairs would add",
        "The seed paper divides pictures, not people, so that most people tested were trained on.",
        ("table5-",),
    ),
    (
        "open-set",
        "Open set",
        "In casework the person may not be in the gallery. Everybody is searched for twice, with "
        "and without their mate.",
        ("figure-det", "table6-"),
    ),
    (
        "calibration",
        "Likelihood ratios",
        "A similarity becomes a likelihood ratio only after calibration on other people, never "
        "beyond the cap. It is no probability of identity.",
        ("figure-tippett", "table7-"),
    ),
    (
        "groups",
        "By group",
        "Whether some people fare worse than others. Groups of fewer than 20 are shown with their "
        "intervals and not divided by.",
        ("figure-groups", "table8a-", "table8b-"),
    ),
    (
        "failures",
        "Failures",
        "Where the best run does worst, by rank and by resemblance.",
        ("sheet-worst-",),
    ),
    (
        "claims",
        "What may be claimed",
        "In a fixed order, on people never seen, with jitter on.",
        ("table9-",),
    ),
    (
        "training",
        "Chance of training",
        "Two trainings of one method differ. A difference between methods that is no larger than "
        "that says nothing.",
        ("table10-",),
    ),
)
"""Name, title, what to mind, and the parts by the beginnings of their names, in order."""


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    name: str
    title: str
    says: str
    parts: tuple[Table | Illustration, ...]

    @property
    def is_wide(self) -> bool:
        """Whether it begins with a table that needs a page on its side when printed."""
        return isinstance(self.parts[0], Table) and self.parts[0].is_wide


def write_report(
    study: Study, out: Path, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the report into the folder `out` and return the path of its page.

    The folder appears whole, or stays as it was. Raises DataError where it holds something that
    is no report, or cannot be written. `progress` is told (steps done, steps in all).
    """
    _check_replaceable(out)
    done = progress or (lambda _done, _total: None)
    tables = build_tables(study)
    done(1, 4)
    pictures = build_figures(study)
    done(2, 4)
    pictures += build_sheets(study)
    done(3, 4)
    _replace_folder(out, _collect_files(study, tables, pictures))
    done(4, 4)
    return out / PAGE


def _collect_files(
    study: Study, tables: Sequence[Table], pictures: Sequence[Illustration]
) -> dict[str, bytes]:
    texts = {
        PAGE: render_page(study, tables, pictures),
        RECORD: render_record(study),
        CARD: render_card(study, tables, summarise(study)),
        **{f"{table.name}.csv": render_csv(table) for table in tables},
        **{f"{table.name}.md": render_markdown(table) for table in tables},
    }
    return {
        **{name: text.encode() for name, text in texts.items()},
        **{f"{picture.name}.{picture.format}": picture.data for picture in pictures},
    }


def render_page(study: Study, tables: Sequence[Table], pictures: Sequence[Illustration]) -> str:
    """Write the page: one HTML file that needs no other."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters.update(data_uri=_embed, network=_write_network, number=_write_whole)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    source = files("fcr_train.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        study=study,
        best=study.best_run,
        names={
            "translator": write_name(study.best.translator),
            "embedder": write_name(study.best.embedder),
        },
        written=f"{study.created[:16].replace('T', ' ')} UTC",
        notice=study.best_run.notice,
        lead=LEAD,
        simulated=study.is_simulated,
        summary=summarise(study),
        bars=measure_headline(study),
        sections=_build_sections(tables, pictures),
        protocol=_describe_protocol(study),
        limits=list_limits(study.best_run.level),
    )
    return page + "\n"


def _embed(picture: Illustration) -> str:
    """Write a picture into the page; sheets as JPEG, a third of the PNG beside the page."""
    if picture.format == "svg":
        return _write_uri("svg+xml", picture.data)
    sheet = imaging.decode_picture(picture.data, picture.name)
    return _write_uri("jpeg", imaging.encode_jpeg(sheet.astype(np.uint8)))


def _write_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _write_network(network: Network | None) -> str:
    if network is None:
        return "none"
    return (
        f"{write_name(network.model)}, {network.preset}, {network.steps:,} steps, "
        f"{network.checkpoint_sha256[:12]}"
    )


def _write_whole(value: float) -> str:
    return f"{value:,.0f}"


def _build_sections(tables: Sequence[Table], pictures: Sequence[Illustration]) -> list[Section]:
    """Put every part where its name belongs; a section without parts is left out."""
    parts: list[Table | Illustration] = [*tables, *pictures]
    sections = [
        Section(name, title, says, tuple(
            part for start in starts for part in parts if part.name.startswith(start)
        ))
        for name, title, says, starts in SECTIONS
    ]  # fmt: skip
    return [section for section in sections if section.parts]


def _describe_protocol(study: Study) -> list[tuple[str, str]]:
    run = study.best_run
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    jittered = "films and photographs scaled by up to 5 % and shifted by up to 6 of 256 pixels"
    return [
        ("Evidence", f"level {run.level}. {run.notice}"),
        ("Split", f"by person and by pair; every claim by person, seed {run.split.seed}"),
        ("People", f"{run.people.train:,} trained on, {run.people.test:,} tested, none in both"),
        ("Jitter", f"where on, {jittered}, at random"),
        ("Ties", "broken at random, never in the mate's favour"),
        (
            "Intervals",
            f"95 %, bootstrap by person, {run.bootstrap.draws:,} draws, seed "
            f"{run.bootstrap.seed}, the gallery held fixed",
        ),
        ("Dataset", f"SHA-256 {run.dataset_sha256}"),
        ("Software", f"FCR {run.fcr}"),
        ("Machine", machine),
        ("Time", f"{sum(each.seconds for each in study.evaluations):,.0f} s to evaluate all runs"),
    ]


def render_record(study: Study) -> str:
    """Write the study as JSON: every evaluation, the best run, and how to repeat it."""
    record = {
        "schema": SCHEMA,
        "notice": study.best_run.notice,
        "created": study.created,
        "fcr": fcr_edge.__version__,
        "command": study.command,
        "best": asdict(study.best),
        "evaluations": [run.to_table() for run in study.evaluations],
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _check_replaceable(out: Path) -> None:
    """Refuse a folder that holds something other than a report."""
    if out.is_dir() and (not any(out.iterdir()) or (out / RECORD).is_file()):
        return
    if out.exists():
        raise DataError(f"{out} exists and is no report: choose another folder, or remove it")


def _replace_folder(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder that takes the place of `out` only when it is complete."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            made, old = Path(scratch) / "new", Path(scratch) / "old"
            made.mkdir()
            for name, data in contents.items():
                (made / name).write_bytes(data)
            if out.exists():
                out.rename(old)
            try:
                made.rename(out)
            except BaseException:
                if old.exists():
                    old.rename(out)
                raise
            shutil.rmtree(old, ignore_errors=True)
    except OSError as err:
        raise DataError(
            f"cannot write {out}: {err.strerror}: choose a folder with room that can be written"
        ) from err
