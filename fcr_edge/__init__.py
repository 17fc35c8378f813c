"""FCR in the field: an X-ray of a skull goes in, ranked candidates come out, offline.

from fcr_edge import Bundle, Gallery, Identifier

with Identifier(Bundle.load(folder)) as identifier, Gallery.open(path) as gallery:
    result = identifier.identify([xray], gallery)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fcr_edge.bundle import Bundle as Bundle
    from fcr_edge.gallery import Gallery as Gallery
    from fcr_edge.identify import Identifier as Identifier

__version__ = "0.1.0"

__all__ = ["Bundle", "Gallery", "Identifier", "__version__"]

_HOMES = {"Bundle": "bundle", "Gallery": "gallery", "Identifier": "identify"}


def __getattr__(name: str) -> object:
    # OpenCV and the rest load with the first name used, so that `import fcr_edge` costs nothing.
    if name in _HOMES:
        return getattr(import_module(f"fcr_edge.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fcr_edge' has no attribute {name!r}")
