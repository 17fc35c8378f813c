"""Film to candidates: soft tissue, translation, embedding and search, timed and repeatable."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import film, imaging, reading, sandbox, soft_tissue, understanding
from fcr_edge.bundle import MANIFEST_NAME, Bundle, read_manifest
from fcr_edge.conditions import Conditions, describe_told
from fcr_edge.errors import BundleError, ConfigError
from fcr_edge.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaxtyping import Float32, UInt8

    from fcr_edge.bundle import Role
    from fcr_edge.film_record import FilmRecord
    from fcr_edge.gallery import Gallery, SearchResult
    from fcr_edge.gallery.records import Mode
    from fcr_edge.reading import Xray
    from fcr_edge.sessions import Device, Session, SessionInfo
    from fcr_edge.understanding import Understanding

logger = logging.getLogger(__name__)

UNKNOWN = Conditions()
"""Nothing is known beside the film."""
STAGES = ("film", "soft_tissue", "translator", "embedder", "search")
"""The steps from an X-ray file to candidates, in order; timings bear these names."""


@dataclass(frozen=True)
class Reconstruction:
    """A face made from an X-ray, and the pictures on the way to it."""

    xray: Path
    xray_sha256: str
    """SHA-256 of the file as given, 64 hexadecimal digits."""
    record: FilmRecord
    """What was done to the file on the way to its pixels."""
    understood: Understanding | None
    """What the film shows and how it was put right, where the bundle can tell."""
    film: UInt8[np.ndarray, "s s 1"]
    """The standard film."""
    skull: UInt8[np.ndarray, "s s 1"]
    """The film after the bundle's soft-tissue recipe."""
    face: UInt8[np.ndarray, "h w 3"]
    """The generated face: the very pixels that are embedded."""
    conditions: Conditions
    """What the translator was told beside the film, by the examiner."""
    timings_ms: dict[str, float] = field(compare=False)
    """Stage -> milliseconds, in the order of STAGES, for the stages that ran."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to look at: of the file, then of what the film shows."""
        return (*self.record.warnings, *(self.understood.warnings if self.understood else ()))


@dataclass(frozen=True)
class IdentifyResult:
    """Ranked candidates for one X-ray: a lead for an examiner, never an identification."""

    reconstruction: Reconstruction
    search: SearchResult
    """The candidates, best first, and how they were found."""
    gallery_digest: str
    bundle_name: str
    bundle_sha256: str
    device: SessionInfo
    refusals: tuple[str, ...]
    """Why "auto" could not have the devices it would have preferred."""
    warnings: tuple[str, ...]

    @property
    def timings_ms(self) -> dict[str, float]:
        """Stage -> milliseconds, in the order of STAGES."""
        return self.reconstruction.timings_ms


class Identifier:
    """A bundle made ready on a device: a context manager that takes films and photographs.

        with Identifier(Bundle.load(folder)) as identifier, Gallery.open(path) as gallery:
            result = identifier.identify(xray, gallery)

    Args:
        bundle: The verified bundle.
        device: What shall run its networks; "auto" takes the first of trt, cuda and cpu.

    Raises DeviceError where the device cannot be had.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto") -> None:
        self.bundle = bundle
        sandbox.start()  # it gets ready while the networks load
        with ExitStack() as stack:
            self._translator = stack.enter_context(_open(bundle, "translator", device))
            self._embedder = stack.enter_context(_open(bundle, "embedder", device))
            self._film: Session | None = None
            if bundle.manifest.film is not None:
                self._film = stack.enter_context(_open(bundle, "film", device))
            self._open_sessions = stack.pop_all()

    def __enter__(self) -> Identifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the device; closing twice is harmless."""
        self._open_sessions.close()

    @property
    def device(self) -> SessionInfo:
        """What runs the networks."""
        return self._translator.describe()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why "auto" could not have the devices it would have preferred, a sentence for each."""
        return self._translator.refusals

    def identify(
        self,
        xray: Path,
        gallery: Gallery,
        k: int = 10,
        mode: Mode = "auto",
        conditions: Conditions = UNKNOWN,
        force: bool = False,
    ) -> IdentifyResult:
        """Rank the people of the gallery by similarity to the face made from the X-ray.

        Args:
            xray: A film of one skull; where the bundle has no film model, bright bone on black,
                facing the front or the right.
            gallery: People enrolled with this bundle's embedder.
            k: Candidates wanted, 1 or more; a smaller gallery gives fewer.
            mode: How to search; "auto" is exact up to a measured size.
            conditions: What the examiner knows of the person, for a translator that takes it.
            force: Take a film that the film model refuses, with a warning.

        Raises ImageError, FilmError, ConfigError for a condition that the translator does not
        take, and GalleryError for another embedder or an empty gallery.
        """
        gallery.require(self.bundle.fingerprint)
        made = self.reconstruct(xray, conditions, force)
        with _timed(made.timings_ms, "embedder"):
            probe = self.embed([made.face])[0]
        with _timed(made.timings_ms, "search"):
            found = gallery.search(probe, k, mode)
        return IdentifyResult(
            reconstruction=made,
            search=found,
            gallery_digest=gallery.digest,
            bundle_name=self.bundle.manifest.name,
            bundle_sha256=self.bundle.sha256,
            device=self.device,
            refusals=self.refusals,
            warnings=(*made.warnings, *self._warnings(gallery, conditions)),
        )

    def reconstruct(
        self, xray: Path, conditions: Conditions = UNKNOWN, force: bool = False
    ) -> Reconstruction:
        """Turn an X-ray into a face. Raises ImageError, FilmError, and ConfigError as identify."""
        self._refuse_untaken(conditions)
        timings: dict[str, float] = {}
        with _timed(timings, "film"):
            read = reading.read_film(xray)
            understood = self.understand(read, force)
            standard = understood.film if understood else film.standardise_xray(read)
        with _timed(timings, "soft_tissue"):
            skull = soft_tissue.remove(standard, self.bundle.manifest.soft_tissue)
        with _timed(timings, "translator"):
            face = self.translate(skull, conditions)
        return Reconstruction(
            xray, read.sha256, read.record, understood, standard, skull, face, conditions, timings
        )

    def understand(self, xray: Xray, force: bool = False) -> Understanding | None:
        """Find out what a film shows and put it right; None where the bundle has no film model.

        Raises FilmError for a film to be refused, unless `force` is given.
        """
        entry = self.bundle.manifest.film
        if self._film is None or entry is None:
            return None
        return understanding.understand(xray, self._film, entry, force)

    def translate(
        self, skull: UInt8[np.ndarray, "s s 1"], conditions: Conditions = UNKNOWN
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Translate a skull into a face of the size that the bundle makes.

        Raises ConfigError for a condition that the translator does not take.
        """
        self._refuse_untaken(conditions)
        entry = self.bundle.manifest.translator
        planes = conditions.planes(entry.conditions, entry.input.height, entry.input.width)
        picture = imaging.to_tensor(skull, entry.skull)
        tensor = self._translator.run(np.concatenate([picture, planes[None]], axis=1))
        return imaging.to_picture(tensor[0], entry.output)

    def embed(self, faces: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float32[np.ndarray, "n d"]:
        """Embed faces, photographed or generated, as unit vectors, one row a face."""
        entry = self.bundle.manifest.embedder
        # One at a time: a batch of another size may round differently, and the same photo must
        # give the same bytes whoever is enrolled beside it.
        rows = [self._embedder.run(imaging.to_tensor(face, entry.input)) for face in faces]
        return np.concatenate(rows)

    def _refuse_untaken(self, conditions: Conditions) -> None:
        taken = self.bundle.manifest.translator.conditions
        refused = [name for name in conditions.known if name not in taken]
        if refused:
            raise ConfigError(
                f"the bundle {self.bundle.manifest.name} takes a film"
                f" {'with ' + ', '.join(taken) if taken else 'alone'}, not"
                f" {', '.join(refused)}: leave out what it does not take, or name another bundle"
            )

    def _warnings(self, gallery: Gallery, conditions: Conditions) -> Iterator[str]:
        if conditions.known:
            yield describe_told(conditions)
        if not gallery.encrypted:
            yield "the gallery is not encrypted: its faces and names can be read by anyone"
        if self.bundle.manifest.name == DEMO_NAME:
            yield (
                "the demo bundle has seen only simulated people:"
                " its candidates for a real film mean nothing"
            )


DEMO_NAME = "demo"
"""The name of the bundle that comes with the package."""


def demo_folder() -> Path:
    """Find what comes with the package: bundle/, people.csv, photos/ and xrays/."""
    return Path(__file__).parent / "demo"


def find_bundle(fingerprint: str, gallery: Path) -> Bundle:
    """Find the bundle that a gallery was enrolled with, by its embedder's fingerprint.

    Looks at the folders beside the gallery, then in the user's data folder, then at the packaged
    demo bundle. One whose manifest cannot be read is passed over with a warning.

    Raises BundleError where none of them fits, and where the one that fits is not whole.
    """
    for folder in _bundle_folders(gallery):
        try:
            fits = read_manifest(folder).fingerprint == fingerprint
        except BundleError as err:
            logger.warning("not a bundle, passed over: %s", err)
        else:
            if fits:
                return Bundle.load(folder)
    raise BundleError(
        f"no bundle with the embedder {fingerprint[:12]}, which {gallery} was enrolled with, lies"
        f" beside it or in {user_bundles()}: name one with --bundle"
    )


def user_bundles() -> Path:
    """Name the user's folder of bundles."""
    import platformdirs

    return platformdirs.user_data_path("fcr") / "bundles"


def _bundle_folders(gallery: Path) -> Iterator[Path]:
    for parent in (gallery.resolve().parent, user_bundles()):
        if parent.is_dir():
            yield from sorted(path.parent for path in parent.glob(f"*/{MANIFEST_NAME}"))
    yield demo_folder() / "bundle"


def _open(bundle: Bundle, role: Role, device: Device) -> Session:
    return open_session(bundle.model_bytes(role), device)


@contextmanager
def _timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings_ms[stage] = (time.perf_counter() - start) * 1000
