from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchvision.models import alexnet

from fcr_edge.errors import DataError
from fcr_train.evaluate import images
from fcr_train.evaluate.images import Embeddings, Faces, Networks
from fcr_train.evaluate.record import Bootstrap

QUICK = Bootstrap(200, 1)


class TinyInception(nn.Module):
    """Random features of uint8 pictures, in the place of Inception's."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, width, 3, stride=2)
        self.fc = nn.Linear(width, 9)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.dtype == torch.uint8
        features: torch.Tensor = self.conv(pictures.float() / 255).relu().mean(dim=(2, 3))
        return features


def draw_faces(number: int, seed: int, side: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(number, side, side, 3)), (0, 2, 2, 0))
    return (128 + 400 * smooth).clip(0, 255).astype(np.uint8)


def embed(number: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(number, 5)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_faces(number: int = 20, people: int = 10) -> Faces:
    photographs = draw_faces(number, 1)
    generated = (photographs * 0.6 + draw_faces(number, 2) * 0.4).astype(np.uint8)
    return Faces(
        generated,
        photographs,
        tuple(f"p{i % people}" for i in range(number)),
        np.broadcast_to(photographs.mean(axis=0).astype(np.uint8), photographs.shape),
        (Embeddings(embed(number, 3), embed(number, 4)),),
    )


def test_folds_are_put_together_and_each_embedder_measures_its_own() -> None:
    first, second = make_faces(8, people=4), make_faces(12, people=6)
    others = tuple(f"other {name}" for name in second.people)
    second = replace(
        second, people=others, embeddings=(Embeddings(*np.eye(24).reshape(2, 12, 24)),)
    )

    joined = Faces.join([first, second])
    got = images.measure_images(joined, "frontal", Networks(), QUICK)

    assert got.n == 20
    parts = [images.measure_images(it, "frontal", Networks(), QUICK) for it in (first, second)]
    distances = [part.embedder_distance.value for part in parts]
    assert got.embedder_distance.value == pytest.approx(np.mean(distances))  # type: ignore[arg-type]
    assert "2 folds" in got.embedder_distance.reason
    assert got.ssim.value == pytest.approx(
        (4 * parts[0].ssim.value + 6 * parts[1].ssim.value) / 10
    )


def test_ssim_is_that_of_torchmetrics_within_the_edge() -> None:
    first, second = draw_faces(18, 1, side=33), draw_faces(18, 2, side=33)
    second[:9] = (0.7 * first[:9] + 0.3 * second[:9]).astype(np.uint8)

    got = images.compute_ssim(first, second)

    tensors = [torch.from_numpy(part.transpose(0, 3, 1, 2) / 255) for part in (first, second)]
    _, maps = structural_similarity_index_measure(
        tensors[0], tensors[1], reduction="none", data_range=1.0, return_full_image=True
    )
    assert got == pytest.approx(maps[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy(), abs=1e-6)
    assert images.compute_ssim(first[:2], first[:2]) == pytest.approx(np.ones(2))


def test_ssim_is_averaged_by_person_beside_the_mean_face_and_another_person() -> None:
    faces = make_faces()

    got = images.measure_images(faces, "frontal", Networks(), QUICK)

    each = images.compute_ssim(faces.generated, faces.photographs)
    assert got.ssim.value == pytest.approx(each.mean())
    assert got.ssim.value > got.ssim_mean_face.value
    assert got.ssim.value > got.ssim_other_person.value
    assert got.ssim.low is not None
    assert got.ssim.high is not None
    assert got.ssim.low < got.ssim.value < got.ssim.high
    for word in ("RGB", "range 0 to 1", "11 x 11", "1.5"):
        assert word in got.ssim_settings


def test_a_person_with_many_pictures_counts_once() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])

    got = images._average_by_person(values, ("a", "a", "a", "b"), QUICK)

    assert got.value == 0.5


def test_another_person_is_never_the_same_one() -> None:
    people = tuple(f"p{i % 7}" for i in range(21))

    others = images._pick_others(people)

    assert all(people[other] != name for other, name in zip(others, people, strict=True))
    assert len({people[other] for other in others}) == 7


def test_without_weights_there_is_no_figure_but_a_reason() -> None:
    got = images.measure_images(make_faces(), "lateral", Networks(), QUICK)

    for measure in (got.fid, got.fid_floor, got.kid, got.inception_score):
        assert measure.value is None
        assert measure.reason == "not computed: no Inception weights were given"
    assert got.lpips.value is None
    assert got.lpips.reason == "not computed: no AlexNet weights were given"
    assert got.embedder_distance.value is not None
    assert images.load_inception(None) is None
    assert images.load_lpips(None) is None


def test_all_measures_are_there_with_networks() -> None:
    calls: list[tuple[int, int]] = []

    got = images.measure_images(
        make_faces(),
        "frontal",
        Networks(TinyInception()),
        QUICK,
        lambda *call: calls.append(call),
    )

    for measure in (got.fid, got.fid_floor, got.kid, got.inception_score):
        assert measure.value is not None
    assert got.fid.reason == "biased upwards, most of all by n = 20"
    assert [done for done, _ in calls] == [16, 32, 40, *range(41, 101)]
    assert {total for _, total in calls} == {100}


@pytest.mark.parametrize("pictures", [200, pytest.param(8, id="fewer than features")])
def test_fid_is_the_frechet_distance_by_a_matrix_square_root(pictures: int) -> None:
    rng = np.random.default_rng(5)
    mixed = rng.normal(size=(2, 25, 25))
    real = rng.normal(size=(pictures, 25)) @ mixed[0]
    fake = rng.normal(size=(pictures - 1, 25)) @ mixed[1] + 0.5

    covariances = [np.cov(part, rowvar=False) for part in (real, fake)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((real.mean(axis=0) - fake.mean(axis=0)) ** 2).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * root
    )
    assert images.compute_fid(real, fake) == pytest.approx(expected, rel=1e-5)
    assert images.compute_fid(real, real) == pytest.approx(0, abs=1e-5)
    with pytest.raises(DataError, match=f"FID of 1 and {pictures} pictures"):
        images.compute_fid(real[:1], real)


@pytest.mark.parametrize(("number", "bias"), [(20, 1.33), (102, 0.86)])
def test_fid_of_equals_is_biased_by_their_number(number: int, bias: float) -> None:
    # 2048 components, j of variance 1/j; in units of the total variance, where the truth is 0.
    scale = 1 / np.sqrt(np.arange(1, 2049))
    features = np.random.default_rng(1).normal(size=(2, number, 2048)) * scale

    assert images.compute_fid(*features) / (scale**2).sum() == pytest.approx(bias, abs=0.02)


def test_the_floor_halves_the_people_and_not_their_pictures() -> None:
    # Two pictures a person, equal: if a person were in both halves the floor would be too low.
    features = np.repeat(np.random.default_rng(1).normal(size=(10, 3)), 2, axis=0)
    people = tuple(f"p{i // 2}" for i in range(20))

    got = images.measure_fid_floor(features, people)

    assert got.value is not None
    assert got.value > 0.1
    assert got.reason == "halves of 10 and 10 photographs"
    assert images.measure_fid_floor(features[:3], people[:3]).value is None


@pytest.mark.parametrize("gamma", [None, 1.0])
def test_kid_is_the_unbiased_discrepancy_of_plain_loops(gamma: float | None) -> None:
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(2, 8, 4))
    fake += 0.3

    got = images.measure_kid(real, fake, gamma)

    def compare(x: np.ndarray, y: np.ndarray) -> float:
        return float(((gamma or 1 / 4) * x @ y + 1) ** 3)

    draws = np.random.default_rng(1)
    values = []
    for _ in range(images.KID_SUBSETS):
        a, b = real[draws.permutation(8)[:4]], fake[draws.permutation(8)[:4]]
        own = sum(
            compare(part[i], part[j])
            for part in (a, b)
            for i in range(4)
            for j in range(4)
            if i != j
        )
        cross = sum(compare(x, y) for x in a for y in b)
        values.append(own / 12 - 2 * cross / 16)
    assert got.value == pytest.approx(np.mean(values), abs=1e-9)
    assert got.spread == pytest.approx(np.std(values), abs=1e-9)
    assert got.reason == "100 subsets of 4"
    assert images.measure_kid(real[:3], fake).value is None


def test_inception_score_is_the_mean_divergence_of_the_splits() -> None:
    logits = np.random.default_rng(3).normal(size=(12, 5)) * 2

    got = images.measure_inception_score(logits)

    # Six splits of two, in the order that torch shuffles them.
    torch.manual_seed(1)
    shares = torch.from_numpy(logits[torch.randperm(12).numpy()]).softmax(dim=1).numpy()
    scores = []
    for pair in shares.reshape(6, 2, 5):
        divergence = (pair * (np.log(pair) - np.log(pair.mean(axis=0)))).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    assert got.value == pytest.approx(np.mean(scores))
    assert got.spread == pytest.approx(np.std(scores, ddof=1))
    assert 1 <= got.value <= 2
    assert images.measure_inception_score(logits[:2]).spread is None


def test_measuring_leaves_the_random_stream_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()

    images.measure_inception_score(np.eye(4))

    assert torch.equal(torch.random.get_rng_state(), before)


def test_faces_and_photographs_must_belong_together() -> None:
    faces = make_faces()

    with pytest.raises(DataError, match="give each face its photograph"):
        Faces(
            faces.generated[:3],
            faces.photographs,
            faces.people,
            faces.mean_faces,
            faces.embeddings,
        )
    with pytest.raises(DataError, match="pictures of 1 people"):
        make_faces(4, people=1)


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("load", [images.load_inception, images.load_lpips])
def test_wrong_weights_are_refused_and_run_no_code(load: Any, tmp_path: Path) -> None:
    torch.save(RunsCode(), tmp_path / "evil.pth")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")

    with pytest.raises(DataError, match="has SHA-256"):
        load(tmp_path / "other.pth")
    for name, words in {"evil.pth": "cannot read weights", "other.pth": "does not hold"}.items():
        with pytest.raises(DataError, match=words):
            load(tmp_path / name, hash_file(tmp_path / name))


def test_inception_is_built_from_a_file_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = images.NoTrainInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
            lambda *_, **__: {},
        )
        patch.setattr(base, "load_state_dict", lambda self, state: None)
        torch.save(base("inception-v3-compat", ["2048"]).state_dict(), tmp_path / "weights.pth")

    path = tmp_path / "weights.pth"
    network = images.load_inception(path, hash_file(path))

    assert network is not None
    features = images.extract_features(draw_faces(2, 1), network)
    assert features.shape == (2, 2048)
    assert network.fc.weight.shape == (1008, 2048)


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", fail
    )
    with pytest.raises(DataError, match=r"no network.*pass the file"):
        images.load_inception("download")


def test_lpips_is_built_from_alexnets_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = alexnet(weights=None)
    torch.save(reference.state_dict(), tmp_path / "alexnet.pth")

    path = tmp_path / "alexnet.pth"
    network = images.load_lpips(path, hash_file(path))

    assert network is not None
    first = network.net.slice1[0].weight  # type: ignore[union-attr, index]
    assert torch.equal(first, reference.features[0].weight)
    faces = make_faces(4, people=4)
    big = [np.repeat(np.repeat(part, 3, 1), 3, 2) for part in (faces.generated, faces.photographs)]
    faces = Faces(
        big[0],
        big[1],
        faces.people,
        big[1],
        faces.embeddings,
    )
    got = images._measure_lpips(faces, network)
    assert got.value is not None
    assert got.value > 0
    same = Faces(
        big[1],
        big[1],
        faces.people,
        big[1],
        faces.embeddings,
    )
    assert images._measure_lpips(same, network).value == pytest.approx(0, abs=1e-6)
