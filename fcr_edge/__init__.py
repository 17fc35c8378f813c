"""FCR in the field: an X-ray of a skull goes in, ranked candidates come out, offline."""

from __future__ import annotations

__version__ = "0.1.0"
