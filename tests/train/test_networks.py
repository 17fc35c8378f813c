from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fcr_train.networks import (
    BlurPool,
    BlurUpsample,
    PatchDiscriminator,
    PatchProjection,
    ResnetGenerator,
    luminance,
)

NCE_LAYERS = (0, 4, 8, 12, 16)
FLOAT32 = 1e-6
"""Rounding of a few sums of numbers near 1."""


@pytest.mark.parametrize("layer", [BlurPool(3), BlurUpsample()], ids=["down", "up"])
def test_resampling_preserves_a_constant(layer: torch.nn.Module) -> None:
    resampled = layer(torch.full((1, 3, 8, 8), 0.7))

    torch.testing.assert_close(resampled, torch.full_like(resampled, 0.7), atol=FLOAT32, rtol=0)


def test_blur_pool_weighs_neighbours_1_2_1() -> None:
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[0, 0, 4, 4] = 16.0

    pooled = BlurPool(1)(impulse)

    assert pooled[0, 0, 2, 2] == 4.0
    assert pooled.sum() == 4.0
    assert BlurPool(1)(impulse.roll(1, dims=3))[0, 0, 2, 2:4].tolist() == [2.0, 2.0]


def test_blur_upsample_equals_the_transposed_convolution_of_the_original() -> None:
    picture = torch.randn(1, 2, 5, 7)
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (4 * torch.outer(row, row) / 64).expand(2, 1, 4, 4)

    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    expected = functional.conv_transpose2d(padded, kernel, stride=2, padding=2, groups=2)

    torch.testing.assert_close(
        BlurUpsample()(picture), expected[:, :, 1:-1, 1:-1], atol=FLOAT32, rtol=0
    )


def test_paper_generator_has_the_published_number_of_parameters() -> None:
    generator = ResnetGenerator(ngf=64, blocks=9, in_channels=3)

    assert sum(weight.numel() for weight in generator.parameters()) == 11_378_179


def test_paper_discriminator_has_the_published_number_of_parameters() -> None:
    discriminator = PatchDiscriminator(ndf=64)

    assert sum(weight.numel() for weight in discriminator.parameters()) == 2_764_737


@pytest.mark.parametrize(
    ("halvings", "patch"), [(1, 16 + 2), (2, 34 + 2 + 4), (3, 70 + 2 + 4 + 8)]
)
def test_discriminator_judges_patches(halvings: int, patch: int) -> None:
    discriminator = PatchDiscriminator(ndf=4, halvings=halvings)
    for number, layer in enumerate(discriminator.layers):
        if isinstance(layer, torch.nn.InstanceNorm2d):
            discriminator.layers[number] = torch.nn.Identity()  # it mixes all places
    face = torch.zeros(1, 3, 128, 128, requires_grad=True)

    judgement = discriminator(face)
    judgement[0, 0, 7, 7].backward()

    seen = face.grad.abs().sum(dim=1)[0].nonzero()
    extent = seen.max(dim=0).values - seen.min(dim=0).values + 1
    # By the convolutions, and each [1, 2, 1] filter sees 2 pixels more of its level.
    assert extent.tolist() == [patch, patch]


def test_generator_returns_a_face_of_the_skulls_size_in_range() -> None:
    face = ResnetGenerator(ngf=4, blocks=1)(torch.randn(3, 1, 32, 48))

    assert face.shape == (3, 3, 32, 48)
    assert face.abs().max() <= 1


def test_generator_normalises_each_picture_by_itself() -> None:
    generator = ResnetGenerator(ngf=4, blocks=1)
    skulls = torch.randn(3, 1, 32, 32)

    alone = generator(skulls[1:2])

    torch.testing.assert_close(generator(skulls)[1:2], alone, atol=1e-5, rtol=0)
    assert "running_mean" not in "".join(generator.state_dict())


def test_encode_returns_the_numbered_layers() -> None:
    generator = ResnetGenerator(ngf=4, blocks=5)
    skull = torch.randn(2, 1, 32, 32)

    features = generator.encode(skull, NCE_LAYERS)

    shapes = [tuple(feature.shape[1:]) for feature in features]
    assert shapes == [(1, 38, 38), (8, 32, 32), (16, 16, 16), (16, 8, 8), (16, 8, 8)]
    torch.testing.assert_close(features[0], functional.pad(skull, (3, 3, 3, 3), mode="reflect"))
    assert generator.feature_widths(NCE_LAYERS) == [1, 8, 16, 16, 16]


def test_encode_ends_where_the_face_begins() -> None:
    generator = ResnetGenerator(ngf=4, blocks=5)
    skull = torch.randn(1, 1, 32, 32)
    last = len(generator.layers) - 1

    torch.testing.assert_close(generator.encode(skull, [last])[0], generator(skull))


def test_projection_returns_unit_vectors_of_the_places() -> None:
    features = [torch.randn(2, 5, 4, 4), torch.randn(2, 7, 2, 2)]
    places = [torch.tensor([0, 6, 15]), torch.tensor([3, 1])]
    projection = PatchProjection([5, 7], width=8)
    for head in projection.heads:
        torch.nn.init.normal_(head[0].bias)  # else a small draw may give a zero vector

    projected = projection(features, places)

    assert [tuple(vectors.shape) for vectors in projected] == [(2, 3, 8), (2, 2, 8)]
    for vectors in projected:
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:2]))
    place_6 = projection.heads[0](features[0][1, :, 1, 2])
    torch.testing.assert_close(projected[0][1, 1], functional.normalize(place_6, dim=0))


def test_luminance_weighs_green_most_and_keeps_white() -> None:
    white, green = torch.ones(1, 3, 1, 1), torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)

    assert luminance(white).item() == pytest.approx(1.0)
    assert luminance(green).item() == pytest.approx(0.587)
