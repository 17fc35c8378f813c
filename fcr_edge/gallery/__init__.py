"""The gallery of missing people: db.bin, its encryption and its search."""

from __future__ import annotations

from fcr_edge.gallery.among import Among
from fcr_edge.gallery.copies import back_up, restore
from fcr_edge.gallery.locks import (
    HeadquartersKey,
    Key,
    make_headquarters_keys,
    read_headquarters_public_key,
    read_key_file,
)
from fcr_edge.gallery.merging import MergeReport, merge
from fcr_edge.gallery.records import (
    Candidate,
    Event,
    Health,
    Match,
    Mode,
    Person,
    Photo,
    Probe,
    SearchResult,
    Sex,
    Undone,
    View,
)
from fcr_edge.gallery.store import Gallery

__all__ = [
    "Among",
    "Candidate",
    "Event",
    "Gallery",
    "HeadquartersKey",
    "Health",
    "Key",
    "Match",
    "MergeReport",
    "Mode",
    "Person",
    "Photo",
    "Probe",
    "SearchResult",
    "Sex",
    "Undone",
    "View",
    "back_up",
    "make_headquarters_keys",
    "merge",
    "read_headquarters_public_key",
    "read_key_file",
    "restore",
]
