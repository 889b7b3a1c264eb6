"""StyleGAN2's layers against the equations written out, sample by sample."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from gansharing.networks.stylegan2_discriminator import minibatch_std
from gansharing.networks.stylegan2_layers import (
    EqualizedConv,
    EqualizedLinear,
    Mapping,
    Resample,
    StyledConv,
    ToRGB,
)
from gansharing.networks.winograd import conv3x3, worthwhile


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def filtered(x: Tensor, padding: tuple[int, int], up: int = 1, gain: float = 1) -> Tensor:
    """Zeros between the pixels, then sixteen shifted copies weighed by [1, 3, 3, 1] in each direction."""
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, h * up, w * up)
    spread[:, :, ::up, ::up] = x
    spread = F.pad(spread, (*padding, *padding))
    rows, columns = spread.shape[2] - 3, spread.shape[3] - 3
    taps = (1, 3, 3, 1)
    shifted = (
        taps[i] * taps[j] / 64 * spread[:, :, i : i + rows, j : j + columns]
        for i in range(4)
        for j in range(4)
    )
    return gain * sum(shifted)  # type: ignore[return-value]


def small_generator(**options: object) -> StyleGAN2Generator:
    sizes = {"resolution": 16, "latent_dim": 6, "w_dim": 5, "channel_base": 64, "channel_max": 6}
    return StyleGAN2Generator(**(sizes | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("up", [False, True])
def test_styled_convolution_is_equations_1_and_3(up: bool) -> None:
    layer = StyledConv(3, 4, 5, 8, up=up, clamp=None)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x, w = torch.randn(2, 3, 4 if up else 8, 4 if up else 8), torch.randn(2, 5)
    expected = []
    for n in range(2):
        style = layer.affine.weight @ w[n] / math.sqrt(5) + layer.affine.bias
        kernel = layer.weight * style[None, :, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            y = F.conv_transpose2d(x[n : n + 1], kernel.transpose(0, 1), stride=2)
            y = filtered(y, (1, 1), gain=4)
        else:
            y = F.conv2d(x[n : n + 1], kernel, padding=1)
        expected.append(lrelu(y + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]))
    torch.testing.assert_close(layer(x, w, "const"), torch.cat(expected), atol=2e-5, rtol=1e-4)


def test_to_rgb_is_modulated_without_demodulation() -> None:
    layer = ToRGB(4, 5, clamp=None)
    torch.nn.init.normal_(layer.bias)
    x, w = torch.randn(2, 4, 3, 3), torch.randn(2, 5)
    for n, image in enumerate(layer(x, w)):
        style = (layer.affine.weight @ w[n] / math.sqrt(5) + layer.affine.bias) / 2  # sqrt(4) inputs
        expected = torch.einsum("oi,i,ihw->ohw", layer.weight[:, :, 0, 0], style, x[n])
        torch.testing.assert_close(image, expected + layer.bias[:, None, None])


def test_resampling_is_zeros_between_then_the_filter() -> None:
    x = torch.randn(2, 3, 6, 4)
    torch.testing.assert_close(Resample().blur(x, 2), filtered(x, (2, 2)))
    torch.testing.assert_close(Resample().down(x), filtered(x, (1, 1))[:, :, ::2, ::2])
    half = x.bfloat16()
    coarse = filtered(half.float(), (1, 1))[:, :, ::2, ::2].bfloat16()
    torch.testing.assert_close(Resample().down(half), coarse)
    torch.testing.assert_close(Resample(4.0).up(x), filtered(x, (2, 1), up=2, gain=4))


@pytest.mark.parametrize("size", [1, 3])
def test_downsampling_convolution(size: int) -> None:
    layer = EqualizedConv(3, 4, size, down=True, gain=math.sqrt(0.5))
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 8)
    padding = (2, 2) if size == 3 else (1, 1)
    y = F.conv2d(filtered(x, padding), layer.weight / math.sqrt(3 * size**2), layer.bias, stride=2)
    torch.testing.assert_close(layer(x), lrelu(y) * math.sqrt(0.5), atol=1e-5, rtol=1e-4)


def test_equalised_linear_scales_at_run_time() -> None:
    layer = EqualizedLinear(6, 4, activate=True, lr_multiplier=0.01, bias=3.0)
    assert abs(EqualizedLinear(300, 300, lr_multiplier=0.01).weight.std().item() - 100) < 1
    x = torch.randn(2, 6)
    expected = lrelu(x @ (layer.weight * 0.01 / math.sqrt(6)).T + layer.bias * 0.01)
    torch.testing.assert_close(layer(x), expected)


def test_mapping_ignores_the_latents_length_and_normalises_labels() -> None:
    mapping = Mapping(6, 5, 3, 2)
    latent = torch.randn(4, 6)
    labels = torch.tensor([0, 2, 1, 0])
    y = mapping.embed.weight[:, labels].T / math.sqrt(3) + mapping.embed.bias
    x = torch.cat([v / (v.square().mean(1, keepdim=True) + 1e-8).sqrt() for v in (latent, y)], 1)
    for layer in (mapping.get_submodule("fc0"), mapping.get_submodule("fc1")):
        x = lrelu(x @ (layer.weight * 0.01 / math.sqrt(x.shape[1])).T + layer.bias * 0.01)
    torch.testing.assert_close(mapping(latent, labels), x)
    torch.testing.assert_close(mapping(7 * latent, F.one_hot(labels, 3).float()), x)


@given(st.integers(1, 12), st.integers(1, 6))
def test_minibatch_std_by_loops(count: int, group_size: int) -> None:
    x = torch.randn(count, 2, 3, 3)
    size = max(k for k in range(1, min(count, group_size) + 1) if count % k == 0)
    groups = count // size
    out = minibatch_std(x, group_size)
    assert torch.equal(out[:, :2], x)
    for group in range(groups):
        members = x[group::groups]
        expected = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(out[group::groups, 2], expected.expand(size, 3, 3))


def test_clamp_limits_every_convolution() -> None:
    layer = StyledConv(3, 4, 5, 8, up=False, clamp=0.5)
    assert layer(100 * torch.randn(2, 3, 8, 8), torch.randn(2, 5), "none").abs().max() == 0.5
    g = small_generator(clamp=0.25)
    assert g(g.sample_latent(4)).abs().max() <= 0.25 * 3 * 1.01  # three ToRGB layers, filters of unit gain
    down = EqualizedConv(3, 4, 3, down=True, gain=math.sqrt(0.5), clamp=0.5)
    torch.testing.assert_close(down(100 * torch.randn(2, 3, 8, 8)).max().item(), 0.5 * math.sqrt(0.5))


def test_training_moves_the_mean_style_and_evaluation_does_not() -> None:
    g = small_generator()
    latent = g.sample_latent(5)
    g.mapping.w_avg.normal_()
    before = g.mapping.w_avg.clone()
    g.eval()(latent)
    assert torch.equal(g.mapping.w_avg, before)
    g.train()(latent)
    expected = 0.995 * before + 0.005 * g.mapping(latent).mean(0)
    torch.testing.assert_close(g.mapping.w_avg, expected.detach())


def test_truncation_reaches_the_mean() -> None:
    g = small_generator().eval()
    g.mapping.w_avg.normal_()
    latent = g.sample_latent(2)
    full = g.style(latent)
    torch.testing.assert_close(g.style(latent, truncation=0.0), g.mapping.w_avg.expand_as(full))
    part = g.style(latent, truncation=0.0, cutoff=2)
    assert torch.equal(part[:, 2:], full[:, 2:])
    torch.testing.assert_close(part[:, :2], g.mapping.w_avg.expand_as(part[:, :2]))


def test_style_mixing_has_one_cut_for_the_batch_at_the_asked_rate() -> None:
    g = small_generator(mixing=0.5).train()
    latent = g.sample_latent(3)
    cuts = []
    for _ in range(400):
        ws = g.style(latent)
        w = g.mapping(latent)
        own = (ws == w[:, None]).all(2)
        assert (own == own[0]).all()
        cut = int(own[0].sum())
        assert own[0, :cut].all() and (ws[:, cut:] == ws[:, -1:]).all()
        cuts.append(cut)
    mixed = [cut for cut in cuts if cut < g.num_ws]
    assert 160 < len(mixed) < 240
    assert set(mixed) == set(range(1, g.num_ws))
    assert torch.equal(g.eval().style(latent), g.mapping(latent)[:, None].expand(-1, g.num_ws, -1))


def test_noise_is_random_in_training_constant_in_evaluation() -> None:
    g = small_generator()
    for name, parameter in g.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(1.0)
    latent = g.sample_latent(2)
    g.eval()
    assert torch.equal(g(latent), g(latent))
    assert torch.equal(g(latent), g(latent, noise="const"))
    assert not torch.equal(g(latent), g(latent, noise="none"))
    assert not torch.equal(g(latent, noise="random"), g(latent, noise="random"))
    g.train()
    assert not torch.equal(g(latent), g(latent))
    torch.manual_seed(3)
    first = g(latent)
    torch.manual_seed(3)
    assert torch.equal(g(latent), first)


def test_channels_last_and_bf16_make_the_same_images() -> None:
    g, d = small_generator().eval(), StyleGAN2Discriminator(16, channel_base=64, channel_max=6)
    latent = g.sample_latent(4)
    images = g(latent).detach()
    scores = d(images).detach()
    g.to(memory_format=torch.channels_last)
    d.to(memory_format=torch.channels_last)
    torch.testing.assert_close(g(latent), images, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(d(images), scores, atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        fast = g(latent)
        fast_scores = d(images)
        w = g.mapping(latent)
    assert fast.dtype == fast_scores.dtype == w.dtype == torch.float32
    assert torch.equal(w, g.mapping(latent))
    assert (fast - images).square().mean().sqrt() < 0.03 * images.std()
    assert (fast_scores - scores).abs().max() < 0.03


def test_path_length_and_r1_can_be_differentiated_twice() -> None:
    g = small_generator(resolution=8).double().eval()
    d = StyleGAN2Discriminator(8, channel_base=64, channel_max=3).double()
    ws = g.style(g.sample_latent(2).double()).detach().clone(memory_format=torch.contiguous_format)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda ws: g.synthesis(ws).sum((1, 2, 3)), ws.requires_grad_(True), atol=1e-4
    )
    assert torch.autograd.gradgradcheck(d, images, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs", "size"), [(256, 256, 16), (256, 300, 16), (320, 256, 32)])
def test_winograd_is_the_convolution(inputs: int, outputs: int, size: int) -> None:
    x = torch.randn(3, inputs, size, size + 4, requires_grad=True)
    weight = torch.randn(outputs, inputs, 3, 3, requires_grad=True)
    assert worthwhile(x, weight)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    ours = conv3x3(x, weight)
    assert (ours - exact).square().mean().sqrt() < 4e-6 * exact.std()
    direction = torch.randn_like(ours)
    for actual, expected in zip(
        torch.autograd.grad(ours, (x, weight), direction),
        torch.autograd.grad(exact, (x, weight), direction.double()),
        strict=True,
    ):
        assert (actual - expected).square().mean().sqrt() < 4e-6 * expected.double().std()


def test_winograd_is_differentiable_twice() -> None:
    x, weight = torch.randn(2, 256, 16, 16), torch.randn(256, 256, 3, 3) / 48

    def second(convolve: object, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        x, weight = x.requires_grad_(True), weight.requires_grad_(True)
        y = convolve(x, weight).square().sum()  # type: ignore[operator]
        first = torch.autograd.grad(y, (x, weight), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight))

    ours = second(conv3x3, x, weight)
    exact = second(lambda x, w: F.conv2d(x, w, padding=1), x.detach().double(), weight.detach().double())
    for actual, expected in zip(ours, exact, strict=True):
        assert (actual - expected).square().mean().sqrt() < 1e-5 * expected.std()


def test_winograd_only_where_it_is_faster() -> None:
    weight = torch.randn(256, 256, 3, 3)
    assert not worthwhile(torch.randn(1, 256, 8, 8), weight)
    assert not worthwhile(torch.randn(1, 256, 18, 18), weight)
    assert not worthwhile(torch.randn(1, 256, 16, 16).double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not worthwhile(torch.randn(1, 256, 16, 16), weight)
