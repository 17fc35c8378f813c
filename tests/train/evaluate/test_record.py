from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from fcr_edge.errors import DataError
from fcr_edge.manifest import Fusion, Scale
from fcr_train.evaluate import record
from fcr_train.evaluate.record import Estimate, Evaluation


def make_evaluation() -> Evaluation:
    half = Estimate(0.5, 0.25, 0.75)
    none = record.Measure(None, None, "not computed: no Inception weights were given")
    network = record.Network("fastcut", "tiny", "a" * 64, 20, 1)
    return Evaluation(
        schema="fcr-evaluation/1",
        notice=record.NOTICES["S"],
        created="2026-11-22T05:00:00Z",
        fcr="0.1",
        level="S",
        split=record.SplitUsed("person", None, 1),
        people=record.People(80, 20),
        dataset_sha256="b" * 64,
        translator=network,
        embedder=network,
        matcher=None,
        bootstrap=record.Bootstrap(2000, 1),
        retrieval=(
            record.Retrieval(
                probe="generated",
                views="both",
                jitter=True,
                gallery=20,
                origin="all test people",
                probes=20,
                cmc={str(rank): half for rank in record.RANKS},
                recall={"10": half, "20": half},
                mean_average_precision={"10": half, "20": half},
                mean_reciprocal_rank=half,
                median_rank=Estimate(4.0, 2.0, 7.5),
            ),
        ),
        comparisons=(
            record.Comparison("generated", "mean face", "both", True, 20, 10, half, 0.04),
        ),
        open_set=(
            record.OpenSet(
                "both",
                20,
                20,
                20,
                (
                    record.Fnir(0.1, half, ""),
                    record.Fnir(0.003, None, "not measurable with 20 searches"),
                ),
                ((0.05, 0.9), (0.5, 0.25)),
            ),
        ),
        calibration=(
            record.Calibration(
                "both",
                20,
                half,
                0.4,
                1.2,
                "logistic",
                record.Tippett(((-1.0, 1.0),), ((-1.0, 0.5),)),
                record.Misleading(0.1, 0.2),
                record.CalibrationFit(-2.0, 8.0, 1.3, 20, "simulated people"),
            ),
        ),
        fusion=Fusion(Scale(0.1, 0.2), Scale(0.3, 0.1), people=40, simulated=True),
        groups=(record.Group("sex", "female", 9, half, {"10": half, "50": half}, half, None),),
        gaps=(record.Gap("sex", "cmc 10", "", "", None, "female has 9 people"),),
        images=(
            record.Images(
                "frontal", 20, "RGB", half, half, half, none, none, none, none, none, none
            ),
        ),
        claims=record.Claims(("better than chance",), "better than the mean face"),
        seconds=12.5,
        machine={"cpu": "one", "cores": 2, "gpu": None, "memory_gb": 7.5},
    )


def test_a_record_is_read_as_it_was_written() -> None:
    evaluation = make_evaluation()

    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert Evaluation.from_table(evaluation.to_table()) == evaluation


def test_whole_numbers_of_json_become_floats() -> None:
    table = make_evaluation().to_table()
    table["seconds"] = 12

    assert Evaluation.from_table(table).seconds == 12.0


def _set(table: dict[str, Any], path: str, value: object) -> None:
    *folders, last = path.split("/")
    for key in folders:
        table = table[int(key)] if isinstance(table, list) else table[key]
    table[last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        pytest.param("schema", "fcr-evaluation/9", "has schema 'fcr-evaluation/9'", id="schema"),
        pytest.param("level", "R", "level = 'R'", id="literal"),
        pytest.param("people/test", "20", "people.test = '20', not int", id="text"),
        pytest.param("people/test", True, "people.test = 'True', not int", id="bool"),
        pytest.param("retrieval/0/cmc/1", 0.5, r"retrieval\[0\].cmc.1 = '0.5'", id="record"),
        pytest.param("retrieval/0/cmc/1/value", None, "value = 'None', not float", id="none"),
        pytest.param("groups/0/ratio", 2.0, r"unknown key 'groups\[0\].ratio'", id="unknown"),
        pytest.param("seconds", math.inf, "seconds = 'inf', not float", id="infinite"),
        pytest.param("claims", [], "claims = ", id="list"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(path: str, value: object, words: str) -> None:
    table = make_evaluation().to_table()
    _set(table, path, value)

    with pytest.raises(DataError, match=words):
        Evaluation.from_table(table)


def test_a_missing_key_and_broken_json_are_refused() -> None:
    table = make_evaluation().to_table()
    del table["claims"]["failed"]

    with pytest.raises(DataError, match=r"lacks the key 'claims\.failed'"):
        Evaluation.from_json(json.dumps(table))
    with pytest.raises(DataError, match="not JSON"):
        Evaluation.from_json("{")


def test_nothing_that_is_not_a_number_is_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(make_evaluation(), seconds=math.nan).to_json()


def test_every_level_has_its_sentence() -> None:
    assert "never forensic accuracy" in record.NOTICES["S"]
    assert set(record.NOTICES) == {"S", "P"}
