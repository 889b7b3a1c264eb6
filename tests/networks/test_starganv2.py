"""StarGAN v2's networks: recorded outputs of the original, counts, blocks against formulas, refusals."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks import (
    Network,
    StarGANv2Discriminator,
    StarGANv2Generator,
    StarGANv2Mapping,
    StarGANv2StyleEncoder,
    build_network,
)
from gansharing.networks.piecewise import scores_and_slopes
from gansharing.networks.starganv2_layers import AdaptiveInstanceNorm, ResidualBlock, StyledBlock
from gansharing.objectives import R1
from gansharing.sharing import LowRank, WidthWise, merged
from tests.golden.fill import recorded
from tests.golden.starganv2 import ENTRIES, original, seen

GOLDEN = recorded("starganv2")
MADE: dict[str, Network] = {
    "generator": StarGANv2Generator(64, 16, channel_max=64),
    "high_pass": StarGANv2Generator(64, 16, channel_max=64, high_pass=1.0),
    "mapping": StarGANv2Mapping(16, 16, 3),
    "style_encoder": StarGANv2StyleEncoder(64, 16, 3, channel_max=64),
    "discriminator": StarGANv2Discriminator(64, 3, channel_max=64),
}


def filled(part: str) -> Network:
    network = build_network(MADE[part].config)
    network.load_state_dict(original(part))
    return network.eval().requires_grad_(False)


def close(found: Tensor, name: str) -> None:
    torch.testing.assert_close(found, GOLDEN[name], rtol=1e-4, atol=1e-4)


def test_the_generator_is_the_originals() -> None:
    images, style = GOLDEN["generator:images"], GOLDEN["generator:style"]
    close(seen(filled("generator")(images, style)), "generator:out")
    network = filled("high_pass")
    close(seen(network(images, style)), "high_pass:out")
    masks = [GOLDEN["high_pass:mask0"], GOLDEN["high_pass:mask1"]]
    close(seen(network(images, style, masks)), "high_pass:masked")


def test_the_divisor_divides_what_passes() -> None:
    whole, half = (StarGANv2Generator(32, 4, 256, 8, high_pass=divisor) for divisor in (1.0, 2.0))
    half.load_state_dict(whole.state_dict())
    images, style, masks = torch.randn(2, 3, 32, 32), torch.randn(2, 4), [torch.rand(2, 1, 16, 16)] * 2
    found = half(images, style, masks)
    torch.testing.assert_close(found, whole(images, style, [mask / 2 for mask in masks]))
    assert not torch.allclose(found, whole(images, style, masks))


def test_styles_are_the_originals() -> None:
    labels = GOLDEN["labels"]
    close(filled("mapping")(GOLDEN["mapping:latent"], labels), "mapping:out")
    close(filled("style_encoder")(GOLDEN["judged:images"], labels), "style_encoder:out")


def test_the_discriminator_is_the_originals_in_one_pass_too() -> None:
    network, images, labels = filled("discriminator"), GOLDEN["judged:images"], GOLDEN["labels"]
    assert isinstance(network, StarGANv2Discriminator)
    close(network(images, labels), "discriminator:out")
    scores, slopes = scores_and_slopes(network.requires_grad_(True), images, labels)
    close(scores.detach(), "discriminator:out")
    penalty = R1(1.0, every=1)
    torch.testing.assert_close(penalty.of(slopes).detach()[None], GOLDEN["discriminator:r1"])
    plain = penalty(lambda x: network(x, labels), images, images)
    torch.testing.assert_close(plain.detach()[None], GOLDEN["discriminator:r1"])


@pytest.mark.parametrize("part", MADE)
def test_names_are_the_originals(part: str) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in MADE[part].state_dict().items()}
    assert shapes == {name: tuple(shape) for name, shape in ENTRIES[part] if name != "hpf.filter"}


@pytest.mark.parametrize("part", MADE)
def test_stages_hold_every_parameter_once(part: str) -> None:
    network = MADE[part]
    staged = [id(p) for stage in network.stages().values() for p in stage.parameters()]
    assert sorted(staged) == sorted(id(p) for p in network.parameters())
    assert network.trained_buffers() == []


@pytest.mark.parametrize(
    ("domains", "mapping", "encoder", "judge"),
    [  # E: trunk of 20,851,264 and 32,832 a domain; D: the trunk and 513 a domain
        (2, 2_438_272, 20_916_928, 20_852_290),
        (3, 3_259_072, 20_949_760, 20_852_803),
        (4, 4_079_872, 20_982_592, 20_853_316),
    ],
)
def test_counts_at_256_px(domains: int, mapping: int, encoder: int, judge: int) -> None:
    with torch.device("meta"):
        networks = (
            StarGANv2Generator(),
            StarGANv2Generator(high_pass=1.0),
            StarGANv2Mapping(num_domains=domains),
            StarGANv2StyleEncoder(num_domains=domains),
            StarGANv2Discriminator(num_domains=domains),
        )
    found = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert found == [33_892_995, 43_467_395, mapping, encoder, judge]


@pytest.mark.parametrize("resolution", [32, 128])
@pytest.mark.parametrize("high_pass", [0.0, 1.0])
def test_other_sizes(resolution: int, high_pass: float) -> None:
    generator = StarGANv2Generator(resolution, 5, 2 * resolution, 4, high_pass)
    narrow = [3.0]  # height and width of the narrowest map
    generator.encode[-1].register_forward_hook(lambda _, given, out: narrow.append(out.shape[-1]))
    images = torch.randn(2, 3, resolution, resolution)
    masks = [torch.rand(2, 1, 8, 8)] * 2 if high_pass else None
    assert generator(images, torch.randn(2, 5), masks).shape == images.shape
    assert narrow[-1] == (8 if high_pass else 16)
    labels = torch.tensor([1, 0])
    encoder = StarGANv2StyleEncoder(resolution, 5, 2, 2 * resolution, 4)
    judge = StarGANv2Discriminator(resolution, 2, 2 * resolution, 4)
    assert encoder(images, labels).shape == (2, 5) and judge(images, labels).shape == (2,)


def naive_norm(x: Tensor) -> Tensor:
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def rectified(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def convolved(conv: nn.Module, x: Tensor) -> Tensor:
    weight, bias = conv.weight, conv.bias
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
    return F.conv2d(x, weight, bias, padding=1)


@torch.no_grad()
def test_a_block_halves_behind_its_first_convolution() -> None:
    block, x = ResidualBlock(3, 5, normalise=True, down=True).double(), torch.randn(2, 3, 8, 8).double()
    for parameter in block.parameters():
        parameter.normal_()

    def mean(y: Tensor) -> Tensor:
        return y.reshape(*y.shape[:2], 4, 2, 4, 2).mean((3, 5))

    def normed(norm: nn.Module, y: Tensor) -> Tensor:
        gain, shift = (p[:, None, None] for p in norm.parameters())
        return naive_norm(y) * gain + shift

    branch = mean(convolved(block.conv1, rectified(normed(block.norm1, x))))
    branch = convolved(block.conv2, rectified(normed(block.norm2, branch)))
    expected = (mean(F.conv2d(x, block.conv1x1.weight)) + branch) / math.sqrt(2)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("straight", [False, True])
def test_a_styled_block_doubles_first(straight: bool) -> None:
    block = StyledBlock(5, 3, 4, up=True, straight=straight).double()
    x, style = torch.randn(2, 5, 4, 4).double(), torch.randn(2, 4).double()

    def normed(norm: AdaptiveInstanceNorm, y: Tensor) -> Tensor:
        gamma, beta = (style @ norm.fc.weight.T + norm.fc.bias)[..., None, None].split(y.shape[1], 1)
        return (1 + gamma) * naive_norm(y) + beta

    up = rectified(normed(block.norm1, x)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    branch = convolved(block.conv2, rectified(normed(block.norm2, convolved(block.conv1, up))))
    wide = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    whole = (F.conv2d(wide, block.conv1x1.weight) + branch) / math.sqrt(2)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x, style), branch if straight else whole)


def test_a_domain_absent_from_a_batch_has_a_gradient_of_zero() -> None:
    mapping = StarGANv2Mapping(4, 3, 3, hidden=8)
    mapping(torch.randn(2, 4), torch.tensor([2, 0])).sum().backward()
    heads = [head[0].weight.grad for head in mapping.unshared]  # type: ignore[index]
    assert [bool(grad.any()) for grad in heads] == [True, False, True]


def test_weights_begin_as_he_et_al_have_them() -> None:
    torch.manual_seed(0)
    network = StarGANv2StyleEncoder(32, 64, 2, 2048, 64)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and parameter.numel() > 4000:
            expected = math.sqrt(2 / parameter[0].numel())
            assert parameter.std().item() == pytest.approx(expected, rel=0.06), name
        elif parameter.ndim == 1:
            assert not parameter.any()


def test_a_sharing_divides_the_generator_and_computes_the_same() -> None:
    images, style = torch.randn(2, 3, 32, 32), torch.randn(2, 6)
    for sharing in (WidthWise(0.25), LowRank(2)):
        plain = StarGANv2Generator(32, 6, 256, 16).eval()
        expected = plain(images, style)
        split = sharing.apply(plain)
        assert 0 < split.learn_ratio < 1
        torch.testing.assert_close(split.network(images, style), expected)
        torch.testing.assert_close(merged(split.network)(images, style), expected)


def test_wrong_arguments() -> None:
    images, style = torch.randn(1, 3, 32, 32), torch.randn(1, 4)
    with pytest.raises(UserError, match="high_pass: 1.0"):
        StarGANv2Generator(32, 4, 64, 4)(images, style, [images[:, :1]] * 2)
    with pytest.raises(UserError, match="high_pass is -1"):
        StarGANv2Generator(high_pass=-1.0)
    with pytest.raises(UserError, match="resolution 48"):
        StarGANv2Discriminator(48)
    with pytest.raises(UserError, match="channel_base 16 leaves no channel"):
        StarGANv2StyleEncoder(32, channel_base=16)
    with pytest.raises(UserError, match="num_domains is 0"):
        StarGANv2Mapping(num_domains=0)
    with pytest.raises(UserError, match="give it labels"):
        StarGANv2Mapping()(torch.randn(1, 16))
