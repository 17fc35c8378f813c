from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fcr_train.config import Architecture, Generator
from fcr_train.networks import (
    BlurPool,
    BlurUpsample,
    PatchDiscriminator,
    PatchProjection,
    PictureNorm,
    ResnetGenerator,
    UnetGenerator,
    build_generator,
    initialise_gaussian,
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


def count_weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        pytest.param(Generator(ngf=64), 11.38, id="CUT's ResNet-9"),
        pytest.param(Generator(ngf=64, antialias=False), 11.38, id="CycleGAN's ResNet-9"),
        pytest.param(Generator(ngf=64, architecture="unet", dropout=0.5), 54.41, id="U-Net 256"),
    ],
)
def test_paper_generators_have_the_published_size_and_shape(
    config: Generator, millions: float
) -> None:
    with torch.device("meta"):  # shapes alone: no memory, no arithmetic
        generator = build_generator(config, in_channels=3)
        face = generator(torch.empty(2, 3, 256, 256))

    assert round(count_weights(generator) / 1e6, 2) == millions
    assert face.shape == (2, 3, 256, 256)


@pytest.mark.parametrize(
    ("in_channels", "weights"),
    [pytest.param(3, 2_764_737, id="face"), pytest.param(6, 2_767_809, id="picture and face")],
)
@pytest.mark.parametrize("antialias", [True, False])
def test_paper_discriminator_has_the_published_size_and_shape(
    in_channels: int, weights: int, antialias: bool
) -> None:
    with torch.device("meta"):
        discriminator = PatchDiscriminator(64, 3, in_channels, antialias)
        judgement = discriminator(torch.empty(2, in_channels, 256, 256))

    assert count_weights(discriminator) == weights
    assert judgement.shape == (2, 1, 30, 30)


@pytest.mark.parametrize(("halvings", "patch"), [(1, 16), (2, 34), (3, 70)])
@pytest.mark.parametrize("antialias", [True, False])
def test_discriminator_judges_patches(halvings: int, patch: int, antialias: bool) -> None:
    discriminator = PatchDiscriminator(ndf=4, halvings=halvings, antialias=antialias)
    for number, layer in enumerate(discriminator.layers):
        if isinstance(layer, torch.nn.InstanceNorm2d):
            discriminator.layers[number] = torch.nn.Identity()  # it mixes all places
    face = torch.zeros(1, 3, 128, 128, requires_grad=True)

    judgement = discriminator(face)
    judgement[0, 0, 7, 7].backward()

    seen = face.grad.abs().sum(dim=1)[0].nonzero()
    extent = seen.max(dim=0).values - seen.min(dim=0).values + 1
    # By the convolutions; each [1, 2, 1] filter sees 2 pixels more of its level.
    margin = sum(2 * 2**level for level in range(halvings)) if antialias else 0
    assert extent.tolist() == [patch + margin, patch + margin]


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


def test_dropout_adds_noise_while_training_only_and_renames_no_weight() -> None:
    torch.manual_seed(0)
    plain, noisy = (ResnetGenerator(ngf=4, blocks=2, dropout=share) for share in (0.0, 0.5))
    skull = torch.randn(1, 1, 32, 32)

    noisy.load_state_dict(plain.state_dict())

    assert not torch.equal(noisy(skull), noisy(skull))
    torch.testing.assert_close(noisy.eval()(skull), plain(skull))


def test_weights_keep_the_names_that_checkpoints_hold() -> None:
    names = ResnetGenerator(ngf=4, blocks=1).state_dict().keys()

    assert [name.removesuffix(".weight") for name in names if name.endswith(".weight")] == [
        "layers.1",
        "layers.4",
        "layers.8",
        "layers.12.layers.1",
        "layers.12.layers.5",
        "layers.14",
        "layers.18",
        "layers.22",
    ]


def test_without_antialiasing_strided_convolutions_resample() -> None:
    generator = ResnetGenerator(ngf=4, blocks=1, antialias=False)

    kinds = [type(layer) for layer in generator.modules()]

    assert BlurPool not in kinds
    assert BlurUpsample not in kinds
    assert kinds.count(torch.nn.ConvTranspose2d) == 2
    assert generator(torch.randn(1, 1, 32, 48)).shape == (1, 3, 32, 48)
    shapes = [
        tuple(feature.shape[1:])
        for feature in generator.encode(torch.zeros(1, 1, 32, 32), (4, 7, 10))
    ]
    assert shapes == [(8, 16, 16), (16, 8, 8), (16, 8, 8)]


@pytest.mark.parametrize(
    "generator",
    [
        ResnetGenerator(ngf=4, blocks=2),
        ResnetGenerator(ngf=4, blocks=2, antialias=False),
        UnetGenerator(ngf=4, halvings=3),
    ],
    ids=["resnet", "strided", "unet"],
)
def test_the_encoder_is_the_half_that_reads_the_skull(generator: torch.nn.Module) -> None:
    inner = [name for name, _ in generator.encoder.named_parameters()]

    assert 0 < len(inner) < len([*generator.parameters()])
    first = next(iter(generator.parameters()))
    assert next(iter(generator.encoder.parameters())) is first, "shared, not copied"
    assert {weight.data_ptr() for weight in generator.encoder.parameters()} < {
        weight.data_ptr() for weight in generator.parameters()
    }


def test_unet_joins_what_it_saw_on_the_way_down() -> None:
    torch.manual_seed(0)
    unet = UnetGenerator(ngf=4, halvings=4)
    skull = torch.randn(2, 1, 32, 32, requires_grad=True)

    unet.decoder[0].register_forward_hook(lambda *_: torch.zeros(2, 16, 4, 4))
    face = unet(skull)
    face.square().sum().backward()

    assert face.shape == (2, 3, 32, 32)
    assert skull.grad.abs().min() > 0, "the skips reach every pixel without the innermost block"


def test_unet_is_wired_as_published() -> None:
    unet = UnetGenerator(ngf=64, halvings=8, dropout=0.5)

    down = [
        layer.out_channels for block in unet.encoder for layer in block if hasattr(layer, "stride")
    ]
    up = [
        (layer.in_channels, layer.out_channels)
        for block in unet.decoder
        for layer in block
        if isinstance(layer, torch.nn.ConvTranspose2d)
    ]
    noise = [
        layer.p for block in unet.decoder for layer in block if isinstance(layer, torch.nn.Dropout)
    ]

    # C64-C128-C256-C512-C512-C512-C512-C512, then
    # CD512-CD1024-CD1024-C1024-C1024-C512-C256-C128 (Isola et al. 2017, section 6.1.1: there a
    # block's number counts the skip that is joined to it).
    assert down == [64, 128, 256, 512, 512, 512, 512, 512]
    assert [into for into, _ in up] == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    assert [out for _, out in up] == [512, 512, 512, 512, 256, 128, 64, 3]
    assert noise == [0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]


def test_unet_translates_each_picture_by_itself_and_down_to_one_pixel() -> None:
    torch.manual_seed(0)
    unet = UnetGenerator(ngf=4, halvings=5)
    skulls = torch.randn(3, 1, 32, 32)

    alone = unet(skulls[1:2])

    torch.testing.assert_close(unet(skulls)[1:2], alone, atol=1e-5, rtol=0)
    assert "running_mean" not in "".join(unet.state_dict())


def test_gaussian_initialisation_spreads_by_0_02() -> None:
    torch.manual_seed(0)
    unet = UnetGenerator(ngf=16, halvings=4)

    initialise_gaussian(unet)

    weights = torch.cat([w.flatten() for name, w in unet.named_parameters() if "weight" in name])
    biases = torch.cat([w.flatten() for name, w in unet.named_parameters() if "bias" in name])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert weights.mean().item() == pytest.approx(0, abs=1e-3)
    assert not biases.any()


@pytest.mark.parametrize("architecture", ["resnet", "unet"])
def test_constant_planes_reach_the_face(architecture: Architecture) -> None:
    torch.manual_seed(0)
    config = Generator(ngf=4, blocks=1, halvings=3, architecture=architecture)
    generator = build_generator(config, in_channels=3)
    skull = torch.randn(1, 3, 32, 32)
    woman, man = skull.clone(), skull.clone()
    woman[:, 1:] = 1.0
    man[:, 1], man[:, 2] = -1.0, 1.0

    difference = generator(woman) - generator(man)

    assert difference[:, :, 8:-8, 8:-8].std() > 0.01 * generator(woman).std()


def test_picture_norm_keeps_one_channel_above_another() -> None:
    picture = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)

    torch.testing.assert_close(PictureNorm()(picture)[0, :, 0, 0], torch.tensor([-1.0, 1.0]))
    assert PictureNorm()(torch.zeros(2, 2, 4, 4)).eq(0).all()


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
