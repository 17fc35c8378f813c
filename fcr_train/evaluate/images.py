"""How generated faces look beside photographs: SSIM, FID, KID, Inception score, LPIPS."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import nn
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import poly_mmd

from fcr_edge.errors import DataError
from fcr_train.evaluate.intervals import BOOTSTRAP, estimate_mean
from fcr_train.evaluate.record import Bootstrap, Estimate, Images, Measure, Views
from fcr_train.evaluate.retrieval import SEED
from fcr_train.weights import read_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float32, Float64, Int64, UInt8
    from torch import Tensor

SSIM_SETTINGS = (
    "RGB, range 0 to 1, 11 x 11 Gaussian of sigma 1.5, K .01 and .03, whole standard face"
)
"""Of Wang et al. 2004, the mean of the three channels, without the edge of 5 pixels where the
window would reach out."""
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the published weights of the 2015 network that FID is defined on."""
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
"""Pictures in a subset; half of them where there are fewer than twice as many."""
SPLITS = 10
"""Of the Inception score (Salimans et al. 2016); fewer where they would hold less than 2."""

_BATCH = 16
"""Pictures at once: bounds memory to some hundred MB at 256 x 256."""
_NO_INCEPTION = Measure(None, None, "not computed: no Inception weights were given")
_NO_LPIPS = Measure(None, None, "not computed: no AlexNet weights were given")


class Inception(Protocol):
    """Inception-v3 in its 2015 FID variant, or whatever stands for it in a test."""

    fc: nn.Linear
    """From features to classes; its bias is not used."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the pooled features (n, d) of uint8 pictures (n, 3, h, w)."""


@dataclass(frozen=True)
class Networks:
    """The networks with weights from outside, each None where the user gave none."""

    inception: Inception | None = None
    lpips: nn.Module | None = None


class Embeddings(NamedTuple):
    """Unit vectors of generated faces and of their photographs, by one embedder."""

    generated: Float32[np.ndarray, "n d"]
    photographs: Float32[np.ndarray, "n d"]


@dataclass(frozen=True)
class Faces:
    """Generated faces of one view, each beside a photograph of the same person."""

    generated: UInt8[np.ndarray, "n h w 3"]
    photographs: UInt8[np.ndarray, "n h w 3"]
    people: tuple[str, ...]
    mean_faces: UInt8[np.ndarray, "n h w 3"]
    """The mean of the training photographs of the view, once for each face."""
    embeddings: tuple[Embeddings, ...]
    """By the project's embedder; of several folds, each with one of its own, one after another."""

    def __post_init__(self) -> None:
        if self.generated.shape != self.photographs.shape:
            raise DataError(
                f"generated faces have shape {self.generated.shape} and photographs"
                f" {self.photographs.shape}: give each face its photograph, of one size"
            )
        if len({*self.people}) < 2:
            raise DataError(
                f"pictures of {len({*self.people})} people cannot be set beside those of others:"
                " give 2 or more"
            )

    @classmethod
    def join(cls, folds: Sequence[Faces]) -> Faces:
        """Put the faces of several folds together."""
        generated, photographs, mean_faces = (
            np.concatenate([getattr(fold, name) for fold in folds])
            for name in ("generated", "photographs", "mean_faces")
        )
        people = tuple(name for fold in folds for name in fold.people)
        embeddings = tuple(pair for fold in folds for pair in fold.embeddings)
        return cls(generated, photographs, people, mean_faces, embeddings)


def load_inception(
    weights: Path | Literal["download"] | None, sha256: str = INCEPTION_SHA256
) -> NoTrainInceptionV3 | None:
    """Load Inception-v3 with the weights of the 2015 FID network.

    Args:
        weights: torch-fidelity's file `weights-inception-2015-12-05-6726825d.pth`; or "download",
            on which that library fetches it; or None, which gives None.
        sha256: Of the file. Features of any other network give another number than FID.

    Raises DataError where the file cannot be read, or is another.
    """
    if weights is None:
        return None
    if weights == "download":
        return _download_inception()
    state = read_weights(weights, "inception_v3", sha256).tensors
    with tempfile.TemporaryDirectory() as folder:
        # The library would unpickle the user's file without restriction; this copy is harmless.
        copy = Path(folder) / "weights.pth"
        torch.save(state, copy)
        try:
            return _build_inception(copy)
        except (RuntimeError, TypeError) as err:
            raise DataError(
                f"{weights} does not hold the Inception network of FID: pass torch-fidelity's"
                " weights-inception-2015-12-05-6726825d.pth"
            ) from err


def _download_inception() -> NoTrainInceptionV3:
    try:
        return _build_inception(None)
    except (OSError, RuntimeError) as err:
        raise DataError(
            f"cannot download the Inception network of FID ({err}): fetch torch-fidelity's"
            " weights-inception-2015-12-05-6726825d.pth on another machine and pass the file"
        ) from err


def _build_inception(path: Path | None) -> NoTrainInceptionV3:
    # Without antialiasing pictures are resized as by the original of 2017.
    return NoTrainInceptionV3(
        "inception-v3-compat", ["2048"], None if path is None else str(path), antialias=False
    )


def load_lpips(weights: Path | None, sha256: str | None = None) -> nn.Module | None:
    """Load LPIPS (Zhang et al. 2018) on torchvision's AlexNet; its heads come with torchmetrics.

    `weights` is one that torchvision publishes, or has the hash given; None gives None. Raises
    DataError where the file cannot be read, or is another.
    """
    if weights is None:
        return None
    tensors = read_weights(weights, "alexnet", sha256).tensors
    network = _NoTrainLpips(net="alex", pnet_rand=True)
    # torchmetrics cuts AlexNet's features into slices, each layer keeping its number.
    names = [name for name, _ in network.net.named_parameters()]
    try:
        network.net.load_state_dict(
            {name: tensors[f"features.{name.partition('.')[2]}"] for name in names}
        )
    except (KeyError, RuntimeError) as err:
        raise DataError(f"{weights} does not hold torchvision's AlexNet: pass that") from err
    return network.eval()


def measure_images(
    faces: Faces,
    views: Views,
    networks: Networks,
    bootstrap: Bootstrap = BOOTSTRAP,
    progress: Callable[[int, int], None] | None = None,
) -> Images:
    """Measure generated faces of one view; what lacks its network says so.

    `progress` counts pictures: three times each face for SSIM, and both sets for Inception.
    """
    number = len(faces.generated)
    step = _count(progress, 3 * number + (0 if networks.inception is None else 2 * number))
    others = faces.photographs[_pick_others(faces.people)]

    def compare(
        pictures: UInt8[np.ndarray, "n h w 3"], targets: UInt8[np.ndarray, "n h w 3"]
    ) -> Estimate:
        return _average_by_person(compute_ssim(pictures, targets, step), faces.people, bootstrap)

    fid, fid_floor, kid, inception_score = _measure_with_inception(faces, networks.inception, step)
    return Images(
        views=views,
        n=number,
        ssim_settings=SSIM_SETTINGS,
        ssim=compare(faces.generated, faces.photographs),
        ssim_mean_face=compare(faces.mean_faces, faces.photographs),
        ssim_other_person=compare(faces.generated, others),
        fid=fid,
        fid_floor=fid_floor,
        kid=kid,
        inception_score=inception_score,
        lpips=_measure_lpips(faces, networks.lpips),
        embedder_distance=_average_measures(
            [_measure_with_embedder(it) for it in faces.embeddings]
        ),
    )


def _measure_with_embedder(embeddings: Embeddings) -> Measure:
    return measure_kid(
        embeddings.photographs.astype(np.float64),
        embeddings.generated.astype(np.float64),
        gamma=1.0,  # Of unit vectors: the kernel then is (cosine + 1)^3.
    )


def _average_measures(folds: Sequence[Measure]) -> Measure:
    """Average what folds measured each with an embedder of its own; one fold's stays as it is."""
    if len(folds) == 1:
        return folds[0]
    values = [fold.value for fold in folds if fold.value is not None]
    if len(values) < len(folds):
        return Measure(None, None, "not computed: a fold has too few pictures")
    spread = float(np.std(values))
    return Measure(float(np.mean(values)), spread, f"mean of {len(folds)} folds' embedders")


def _count(progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None]:
    """Return a function that adds to the pictures done and tells how many of all they are."""
    done = 0

    def step(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, total)

    return step


def _pick_others(people: Sequence[str], seed: int = SEED) -> Int64[np.ndarray, " n"]:
    """Choose for each picture the first picture of another person, drawn at random."""
    first = {name: people.index(name) for name in people}
    ring = np.random.default_rng(seed).permutation(sorted(first)).tolist()
    following = dict(zip(ring, ring[1:] + ring[:1], strict=True))
    return np.array([first[following[name]] for name in people])


def _average_by_person(
    values: Float64[np.ndarray, " n"], people: Sequence[str], bootstrap: Bootstrap
) -> Estimate:
    names, owners = np.unique(people, return_inverse=True)
    sums = np.bincount(owners, values, minlength=len(names))
    return estimate_mean(sums / np.bincount(owners), bootstrap)


def compute_ssim(
    pictures: UInt8[np.ndarray, "n h w 3"],
    targets: UInt8[np.ndarray, "n h w 3"],
    step: Callable[[int], None] = lambda number: None,
) -> Float64[np.ndarray, " n"]:
    """Compute the structural similarity of each picture to its target, as SSIM_SETTINGS say."""
    values = []
    for picture, target in zip(pictures, targets, strict=True):
        value = structural_similarity(
            picture / 255,
            target / 255,
            data_range=1.0,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            # As the original: covariances over n, not n - 1.
            use_sample_covariance=False,
        )
        values.append(value)
        step(1)
    return np.array(values, np.float64)


def _to_tensor(pixels: UInt8[np.ndarray, "n h w 3"]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def _measure_with_inception(
    faces: Faces, inception: Inception | None, step: Callable[[int], None]
) -> tuple[Measure, Measure, Measure, Measure]:
    """Return FID, its floor, KID and the Inception score."""
    if inception is None:
        return (_NO_INCEPTION,) * 4
    number = len(faces.generated)
    both = np.concatenate([faces.photographs, faces.generated])
    features = extract_features(both, inception, step)
    real, fake = features[:number], features[number:]
    with torch.no_grad():
        weight = inception.fc.weight.detach().cpu().double().numpy()
    return (
        Measure(compute_fid(real, fake), None, f"biased upwards, most of all by n = {number}"),
        measure_fid_floor(real, faces.people),
        measure_kid(real, fake),
        measure_inception_score(fake @ weight.T),
    )


def extract_features(
    pixels: UInt8[np.ndarray, "n h w 3"],
    inception: Inception,
    step: Callable[[int], None] = lambda number: None,
) -> Float64[np.ndarray, "n d"]:
    """Run pictures through Inception in batches, on the device where it is."""
    device = inception.fc.weight.device
    features = []
    with torch.no_grad():
        for start in range(0, len(pixels), _BATCH):
            batch = _to_tensor(pixels[start : start + _BATCH]).to(device)
            features.append(inception(batch).cpu().double().numpy())
            step(len(batch))
    return np.concatenate(features)


class _Given(nn.Module):
    """Stands where torchmetrics runs a network: the features are computed already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def compute_fid(real: Float64[np.ndarray, "n d"], fake: Float64[np.ndarray, "m d"]) -> float:
    """Compute the Frechet distance of two sets of features (Heusel et al. 2017), by torchmetrics.

    Raises DataError for sets of fewer than 2.
    """
    if min(len(real), len(fake)) < 2:
        raise DataError(f"FID of {len(real)} and {len(fake)} pictures: give 2 or more of each")
    real, fake = _turn(real, fake)
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return float(metric.compute())


def _turn(
    real: Float64[np.ndarray, "n d"], fake: Float64[np.ndarray, "m d"]
) -> tuple[Float64[np.ndarray, "n r"], Float64[np.ndarray, "m r"]]:
    """Turn features so that n + m axes hold them: the distance stays, its roots come quickly."""
    both = np.concatenate([real, fake])
    if len(both) >= both.shape[1]:
        return real, fake
    turned = both @ np.linalg.qr(both.T).Q
    return turned[: len(real)], turned[len(real) :]


def measure_fid_floor(
    real: Float64[np.ndarray, "n d"], people: Sequence[str], seed: int = SEED
) -> Measure:
    """Compute FID between two halves of the photographs that share no person.

    Equal quality reads as this number: a FID near it cannot be told from it. With half as many
    pictures the floor is, if anything, too high.
    """
    names = np.random.default_rng(seed).permutation(sorted({*people}))
    first = np.isin(people, names[: len(names) // 2])
    if min(first.sum(), (~first).sum()) < 2:
        return Measure(None, None, f"not computed: {len(real)} photographs are too few to halve")
    value = compute_fid(real[first], real[~first])
    return Measure(value, None, f"halves of {first.sum()} and {(~first).sum()} photographs")


def measure_kid(
    real: Float64[np.ndarray, "n d"],
    fake: Float64[np.ndarray, "n d"],
    gamma: float | None = None,
    seed: int = SEED,
) -> Measure:
    """Compute the kernel distance, mean and spread over random subsets (Binkowski et al. 2018).

    The kernel is (gamma x.y + 1)^3, gamma 1/d unless given. Unbiased, so it may be below 0; it
    is the one to use for fewer than 2,000 pictures.
    """
    number = min(len(real), len(fake))
    size = min(KID_SUBSET_SIZE, number // 2)
    if size < 2:
        return Measure(None, None, f"not computed: {number} pictures, 4 or more are needed")
    rng = np.random.default_rng(seed)
    values = [
        float(
            poly_mmd(
                torch.from_numpy(real[rng.permutation(len(real))[:size]]),
                torch.from_numpy(fake[rng.permutation(len(fake))[:size]]),
                gamma=gamma,
            )
        )
        for _ in range(KID_SUBSETS)
    ]
    return Measure(
        float(np.mean(values)), float(np.std(values)), f"{KID_SUBSETS} subsets of {size}"
    )


def measure_inception_score(logits: Float64[np.ndarray, "n classes"], seed: int = SEED) -> Measure:
    """Compute the Inception score, mean and spread over splits, by torchmetrics.

    ImageNet has no classes of faces, and a score cannot exceed the pictures in a split.
    """
    splits = max(1, min(SPLITS, len(logits) // 2))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # torchmetrics shuffles by the global stream; it warns that it keeps the features, and
        # that one split has no spread.
        torch.manual_seed(seed)
        warnings.simplefilter("ignore", UserWarning)
        metric = InceptionScore(feature=_Given(logits.shape[1]), splits=splits)
        metric.update(torch.from_numpy(logits))
        mean, spread = metric.compute()
    return Measure(
        float(mean),
        float(spread) if splits > 1 else None,
        f"{splits} splits of about {len(logits) // splits}; ImageNet has no classes of faces",
    )


def _measure_lpips(faces: Faces, network: nn.Module | None) -> Measure:
    if network is None:
        return _NO_LPIPS
    device = next(network.parameters()).device
    values = []
    with torch.no_grad():
        for start in range(0, len(faces.generated), _BATCH):
            pair = (
                _to_tensor(part[start : start + _BATCH]).to(device) / 127.5 - 1
                for part in (faces.generated, faces.photographs)
            )
            values.append(network(*pair).flatten().cpu().double().numpy())
    return Measure(float(np.concatenate(values).mean()), None, "AlexNet")
