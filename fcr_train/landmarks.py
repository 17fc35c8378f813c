"""Where the bony landmarks lie on the films of a simulated dataset, from its landmarks.csv."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import DataError
from fcr_edge.pose import LANDMARKS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fcr_edge.pose import Places
    from fcr_train.dataset import Pair

LANDMARKS_FILE = "landmarks.csv"
COLUMNS = ("person", "view", "landmark", "side", "bone_column", "bone_row")


def read_landmarks(folder: Path) -> Mapping[Pair, Places]:
    """Read the places of LANDMARKS on each person's films of each view.

    Counted in pixels from the film's upper left corner, NaN where the simulated skull has no bone.
    On a lateral film, where left and right cover each other, both are the middle between them.
    Raises DataError where the file is missing or damaged.
    """
    path = folder / LANDMARKS_FILE
    places: dict[Pair, Places] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                side = "" if row["side"] == "midline" else f" {row['side']}"
                name = row["landmark"] + side
                if name in LANDMARKS and row["bone_column"]:
                    found = places.setdefault((row["person"], row["view"]), _nowhere())
                    place = float(row["bone_column"]), float(row["bone_row"])
                    found[LANDMARKS.index(name)] = np.add(place, 0.5)
    except (OSError, ValueError, KeyError, csv.Error) as err:
        raise DataError(
            f"cannot read {path} with the columns {', '.join(COLUMNS)} ({err}): take a dataset of"
            " `fcr-train simulate`"
        ) from err
    return {
        pair: merge_sides(found) if pair[1] == "lateral" else found
        for pair, found in places.items()
    }


def merge_sides(places: Places) -> Places:
    """Put the left and the right landmark of a pair into the middle between them."""
    merged = places.copy()
    for number, name in enumerate(LANDMARKS):
        if name.endswith(" left"):
            merged[[number, number + 1]] = places[[number, number + 1]].mean(axis=0)
    return merged


def _nowhere() -> Places:
    return np.full((len(LANDMARKS), 2), np.nan)
