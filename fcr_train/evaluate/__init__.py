"""What a trained study is worth: measures, baselines, and the record they are kept in."""

from __future__ import annotations
