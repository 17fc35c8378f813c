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
from fcr_edge.bundle import Bundle, read_manifest
from fcr_edge.conditions import Conditions, describe_told
from fcr_edge.errors import BundleError, ConfigError, GalleryError
from fcr_edge.gallery.among import EVERYBODY
from fcr_edge.manifest import MANIFEST_NAME
from fcr_edge.sessions import open_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaxtyping import Float32, UInt8

    from fcr_edge.film_record import FilmRecord
    from fcr_edge.gallery import Among, Gallery, Probe, SearchResult, View
    from fcr_edge.gallery.records import Mode
    from fcr_edge.manifest import Fusion
    from fcr_edge.sessions import Device, SessionInfo, Tell
    from fcr_edge.soft_tissue import Separation
    from fcr_edge.understanding import Understanding

logger = logging.getLogger(__name__)

UNKNOWN = Conditions()
"""Nothing is known beside the film."""
MOST_FILMS = 2
"""Films of one skull in one search, at most."""
FACE_HEIGHT = {"frontal": 0.95, "lateral": 1.0}
"""Nasion to menton as a film of a view shows it, against a lateral film: mean of 1,900 simulated
people, in the plane of the head's centre, in front of which the face lies."""
SIZE_DOUBT = 1.12
"""Factor between the heads on two films from which on they are doubted to be one: no simulated
person's two films differ as much (each scaled by up to 5 %), one in five of two people's do."""
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
    face: UInt8[np.ndarray, "h w 3"]
    """The generated face: the very pixels that are embedded."""
    conditions: Conditions
    """What the translator was told beside the film, by the examiner."""
    view: View | None
    """Which view the film shows; None where nobody said."""
    separation: Separation
    """How the skull was made, and how sure of it the network is, where there is one."""
    timings_ms: dict[str, float] = field(compare=False)
    """Stage -> milliseconds, in the order of STAGES, for the stages that ran."""

    @property
    def skull(self) -> UInt8[np.ndarray, "s s 1"]:
        """The film after the bundle's soft-tissue recipe."""
        return self.separation.skull

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to look at: of the file, of what the film shows, of the skull."""
        told = self.understood.warnings if self.understood else ()
        return (*self.record.warnings, *told, *self.separation.warnings)


@dataclass(frozen=True)
class IdentifyResult:
    """Ranked candidates for a skull: a lead for an examiner, never an identification."""

    reconstructions: tuple[Reconstruction, ...]
    """One a film, in the order given."""
    search: SearchResult
    """The candidates, best first, and how they were found."""
    among: Among
    """Whom the search was confined to."""
    gallery_digest: str
    bundle_name: str
    bundle_sha256: str
    device: SessionInfo
    refusals: tuple[str, ...]
    """Why "auto" could not have the devices it would have preferred."""
    warnings: tuple[str, ...]
    fusion: Fusion | None
    """How the similarities of two films were put together; None for one film."""
    timings_ms: dict[str, float] = field(compare=False)
    """Stage -> milliseconds for all films, in the order of STAGES."""


class Identifier:
    """A bundle made ready on a device: a context manager that takes films and photographs.

        with Identifier(Bundle.load(folder)) as identifier, Gallery.open(path) as gallery:
            result = identifier.identify([xray], gallery)

    Args:
        bundle: The verified bundle.
        device: What shall run its networks; "auto" takes the first of trt, cuda and cpu.
        tell: Called with (phase, steps done, steps) while TensorRT builds engines.

    Raises DeviceError where the device cannot be had.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", tell: Tell | None = None) -> None:
        self.bundle = bundle
        sandbox.start()  # it gets ready while the networks load
        with ExitStack() as stack:
            self._translator = stack.enter_context(
                open_network(bundle, "translator", device, tell)
            )
            self._embedder = stack.enter_context(open_network(bundle, "embedder", device, tell))
            self._suppressor = soft_tissue.open_suppressor(bundle, device, stack, tell)
            self._film = understanding.open_film_model(bundle, device, stack, tell)
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
        xrays: Sequence[Path],
        gallery: Gallery,
        k: int = 10,
        mode: Mode = "auto",
        conditions: Conditions = UNKNOWN,
        views: Sequence[View] | None = None,
        force: bool = False,
        among: Among = EVERYBODY,
        log: bool = True,
    ) -> IdentifyResult:
        """Rank the people of the gallery by similarity to the face made from the X-rays.

        Args:
            xrays: One film, or two of one skull, which are put together by the bundle's rule;
                every face is compared. Where the bundle has no film model: bright bone on black,
                facing the front or the right.
            gallery: People enrolled with this bundle's embedder.
            k: Candidates wanted, 1 or more; a smaller gallery gives fewer.
            mode: How to search with one film; "auto" is exact up to a measured size.
            conditions: What the examiner knows of the person, for a translator that takes it.
            views: Which view each film shows; needed with two films where the bundle has no film
                model, and believed where it has one.
            force: Take a film that the film model refuses, with a warning.
            among: Whom the search is confined to.
            log: Whether the gallery's log gets an entry. Where it cannot be written, the result
                has a warning.

        Raises ImageError, FilmError, ConfigError for a condition that the translator does not
        take or films that cannot be put together, and GalleryError for another embedder or an
        empty gallery.
        """
        gallery.require(self.bundle.fingerprint)
        self._refuse_untaken(conditions)
        shown = _check_views(xrays, views, can_tell=self._film is not None)
        fusion = self._require_fusion() if len(xrays) > 1 else None
        made = [
            self.reconstruct(xray, conditions, view, force)
            for xray, view in zip(xrays, shown, strict=True)
        ]
        _refuse_twins(made)
        timings = _add_up([each.timings_ms for each in made])
        with _timed(timings, "embedder"):
            embeddings = self.embed([each.face for each in made])
        with _timed(timings, "search"):
            if fusion is None:
                found = gallery.search(embeddings[0], k, mode, among)
            else:
                found = gallery.search_together(_make_probes(made, embeddings, fusion), k, among)
        unlogged = _log(gallery, made, self.bundle.sha256, found) if log else ()
        return IdentifyResult(
            reconstructions=tuple(made),
            search=found,
            among=among,
            gallery_digest=gallery.digest,
            bundle_name=self.bundle.manifest.name,
            bundle_sha256=self.bundle.sha256,
            device=self.device,
            refusals=self.refusals,
            warnings=(
                *(warning for each in made for warning in each.warnings),
                *_warn_of_films(made, found),
                *unlogged,
                *self._warnings(gallery, conditions),
            ),
            fusion=fusion,
            timings_ms=timings,
        )

    def reconstruct(
        self,
        xray: Path,
        conditions: Conditions = UNKNOWN,
        view: View | None = None,
        force: bool = False,
    ) -> Reconstruction:
        """Turn an X-ray into a face. Raises ImageError, FilmError, and ConfigError as identify."""
        self._refuse_untaken(conditions)
        timings: dict[str, float] = {}
        with _timed(timings, "film"):
            read = reading.read_film(xray)
            understood = self._film.understand(read, force) if self._film else None
            standard = understood.film if understood else film.standardise_xray(read)
        with _timed(timings, "soft_tissue"):
            recipe = self.bundle.manifest.soft_tissue
            separation = soft_tissue.separate(standard, recipe, self._suppressor)
        with _timed(timings, "translator"):
            face = self.translate(separation.skull, conditions)
        return Reconstruction(
            xray,
            read.sha256,
            read.record,
            understood,
            standard,
            face,
            conditions,
            view or (understood.view if understood else None),
            separation,
            timings,
        )

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

    def _require_fusion(self) -> Fusion:
        manifest = self.bundle.manifest
        if manifest.fusion is None:
            raise ConfigError(
                f"the bundle {manifest.name} has no rule to put two films together: search with"
                " each film by itself, or name a bundle that was exported with an evaluation"
            )
        return manifest.fusion

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


def find_bundle(fingerprint: str, gallery: Path, allow_unsigned: bool = False) -> Bundle:
    """Find the bundle that a gallery was enrolled with, by its embedder's fingerprint.

    Looks at the folders beside the gallery, then in the user's data folder, then at the packaged
    demo bundle. One whose manifest cannot be read is passed over with a warning.

    Raises BundleError where none of them fits, and where the one that fits is not whole or, unless
    `allow_unsigned`, nobody trusted vouches for it.
    """
    for folder in _bundle_folders(gallery):
        try:
            fits = read_manifest(folder).fingerprint == fingerprint
        except BundleError as err:
            logger.warning("not a bundle, passed over: %s", err)
        else:
            if fits:
                return Bundle.load(folder, allow_unsigned)
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


def _check_views(
    xrays: Sequence[Path], views: Sequence[View] | None, can_tell: bool
) -> Sequence[View | None]:
    """Give what is said of each film's view; `can_tell` where the bundle has a film model.

    Raises ConfigError for films that cannot go together.
    """
    if not 1 <= len(xrays) <= MOST_FILMS:
        raise ConfigError(
            f"{len(xrays)} films were given: give one film, or two of the same skull"
        )
    if views is not None and len(views) != len(xrays):
        raise ConfigError(
            f"{len(xrays)} films and {len(views)} views were given: name one view for each film"
        )
    if views is None and len(xrays) > 1 and not can_tell:
        raise ConfigError(
            "nobody said which film is frontal and which is lateral: name the view of each film"
            " in their order (--view frontal --view lateral)"
        )
    return views or [None] * len(xrays)


def _make_probes(
    made: Sequence[Reconstruction], embeddings: Float32[np.ndarray, "n d"], fusion: Fusion
) -> list[Probe]:
    from fcr_edge.gallery import Probe

    probes = []
    for each, embedding in zip(made, embeddings, strict=True):
        assert each.view is not None, "said, or told by the film model"
        scale = fusion.frontal if each.view == "frontal" else fusion.lateral
        probes.append(Probe(embedding, each.view, scale.mean, scale.sd))
    return probes


def _refuse_twins(made: Sequence[Reconstruction]) -> None:
    """Raise ConfigError where one film was given twice: it would count twice."""
    if len({each.xray_sha256 for each in made}) < len(made):
        names = " and ".join(str(each.xray) for each in made)
        raise ConfigError(f"{names} are the same film: give another film of the skull, or one")


def _log(
    gallery: Gallery, made: Sequence[Reconstruction], bundle: str, found: SearchResult
) -> tuple[str, ...]:
    """Enter a search into the gallery's log; gives a warning where that fails."""
    films = [each.xray_sha256 for each in made]
    try:
        gallery.log_search(films, bundle, [one.person.id for one in found.candidates])
    except GalleryError as error:
        return (f"this search is not in the gallery's log: {error}",)
    return ()


def _warn_of_films(made: Sequence[Reconstruction], found: SearchResult) -> Iterator[str]:
    """Say where a film is not what was said, and what is odd about two films."""
    for each in made:
        if each.understood is not None and each.understood.view != each.view:
            yield (
                f"{each.xray.name} looks {each.understood.view} and was called {each.view}, which"
                " was believed: check the film and the order of --view"
            )
    if len(made) < MOST_FILMS:
        return
    first, second = made
    if first.view == second.view:
        yield (
            f"both films are {first.view}: they say less together than a frontal and a lateral"
            " film; check that neither is named wrongly"
        )
    ratio = _compare_sizes(first, second)
    if ratio is not None and max(ratio, 1 / ratio) > SIZE_DOUBT:
        yield (
            f"from nasion to menton the head on {first.xray.name} is {ratio:.2f} times as high as"
            f" on {second.xray.name}: check that both films show one person, and their spacing"
        )
    if found.passed_over:
        yield (
            f"{found.passed_over} people have no photograph of these views and are not among the"
            f" {found.people} compared: search with one film, too"
        )


def _compare_sizes(first: Reconstruction, second: Reconstruction) -> float | None:
    """Give how many times as large the first head is; None where a spacing is not known."""
    heights = []
    for made in (first, second):
        height = made.understood.face_height_mm if made.understood else None
        if height is None:
            return None
        heights.append(height / FACE_HEIGHT[made.view] if made.view else height)
    return heights[0] / heights[1]


def _add_up(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    return {stage: sum(part[stage] for part in parts) for stage in parts[0]}


@contextmanager
def _timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings_ms[stage] = (time.perf_counter() - start) * 1000
