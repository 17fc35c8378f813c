"""The errors that FCR raises, each saying what is wrong and what to do next.

FcrError
├── ImageError, FilmError          unreadable or oversized file; not a usable radiograph of a skull
├── BundleError, GalleryError      changed file, unknown schema; another embedder, damaged file
├── ConfigError, DataError         unknown key, value out of range; a dataset with pictures missing
└── DeviceError                    the asked-for device, or its extra, is missing

The library raises; only the command lines print and exit:

    try:
        result = identifier.identify([film])
    except FcrError as error:
        sys.exit(f"error: {error}")
"""

from __future__ import annotations


class FcrError(Exception):
    """Something the user can mend; the message says how."""


class ImageError(FcrError):
    """A picture file is missing, unreadable, too large or cannot be written."""


class FilmError(FcrError):
    """A picture was read but is not a usable radiograph of a skull."""


class BundleError(FcrError):
    """A bundle is missing, changed or of an unknown schema."""


class GalleryError(FcrError):
    """A gallery is missing, damaged, locked or made with another embedder."""


class ConfigError(FcrError):
    """A setting is unknown or out of range."""


class DataError(FcrError):
    """A dataset or checkpoint is missing, incomplete or of another kind."""


class DeviceError(FcrError):
    """The device asked for, or the extra that it needs, cannot be had."""
