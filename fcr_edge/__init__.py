"""FCR at the edge: an X-ray of a skull goes in, ranked candidates come out, offline and without PyTorch."""

from __future__ import annotations

__version__ = "0.1.0"
