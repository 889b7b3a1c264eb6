"""Layers that compute faster than they are written, against the same layers as they are written."""

import copy
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrizations import spectral_norm as torchs

from gansharing.networks import FastGANDiscriminator, FastGANGenerator, norm_gate, up_conv
from gansharing.networks.fastgan_layers import GatedConv
from gansharing.networks.spectral_norm import SpectralNorm, spectral_norm

Layer = Callable[..., Tensor]


def written_up(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)


def written_gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    x = (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]
    value, gate = x.chunk(2, 1)
    return value * gate.sigmoid()


def gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return norm_gate.norm_gate(x, weight, bias, None, 0.1, 1e-5)


def first_and_second(layer: Layer, inputs: Sequence[Tensor], slope: Tensor) -> list[Tensor]:
    """Output, gradients, and gradients of the gradients' squares."""
    given = [x.detach().clone().requires_grad_(True) for x in inputs]
    out = layer(*given)
    first = torch.autograd.grad(out, given, slope.to(out.dtype), retain_graph=True)
    again = torch.autograd.grad(layer(*given), given, slope.to(out.dtype), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in again), given)  # type: ignore[arg-type]
    return [out, *first, *again, *second]


def assert_same(ours: Layer, written: Layer, inputs: Sequence[Tensor], slope: Tensor) -> None:
    expected = first_and_second(written, inputs, slope)
    for actual, exact in zip(first_and_second(ours, inputs, slope), expected, strict=True):
        torch.testing.assert_close(actual, exact, rtol=1e-9, atol=1e-9)
    low = [x.float() for x in inputs]
    for actual, exact in zip(first_and_second(ours, low, slope)[: 1 + len(inputs)], expected, strict=False):
        assert (actual - exact).abs().max() < 1e-4 * exact.abs().max()


@pytest.mark.parametrize("block", [1, 9 * 33 * 5 * 3, 1 << 20])  # a row at a time, some rows, all samples
@pytest.mark.parametrize("size", [(1, 1), (7, 5)])
def test_upsampling_convolution(block: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up_conv, "_BLOCK", block)
    torch.manual_seed(0)
    x, weight = torch.randn(3, 32, *size).double(), torch.randn(33, 32, 3, 3).double()
    assert up_conv.worthwhile(x, weight)
    slope = torch.randn(3, 33, 2 * size[0], 2 * size[1])
    assert_same(up_conv.up_conv3x3, written_up, (x, weight), slope)
    last = [t.to(memory_format=torch.channels_last) for t in (x, weight)]
    assert_same(up_conv.up_conv3x3, written_up, last, slope)


def test_upsampling_convolution_of_one_input_alone() -> None:
    x, weight = torch.randn(2, 32, 4, 4).double(), torch.randn(32, 32, 3, 3).double()
    for index in (0, 1):
        inputs = [x.clone(), weight.clone()]
        wanted = inputs[index].requires_grad_(True)
        (ours,) = torch.autograd.grad(up_conv.up_conv3x3(*inputs).sin().sum(), wanted)
        (exact,) = torch.autograd.grad(written_up(*inputs).sin().sum(), wanted)
        torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)


def test_upsampling_convolution_as_written_where_that_is_faster_or_needed() -> None:
    x, weight = torch.randn(2, 32, 4, 4), torch.randn(32, 32, 3, 3)
    assert not up_conv.worthwhile(x[:, :16], weight[:, :16])
    assert not up_conv.worthwhile(x.bfloat16(), weight.bfloat16())
    assert torch.equal(up_conv.up_conv3x3(x[:, :16], weight[:, :16]), written_up(x[:, :16], weight[:, :16]))
    each = torch.func.vmap(lambda x: up_conv.up_conv3x3(x[None], weight)[0])(x)
    torch.testing.assert_close(each, written_up(x, weight), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert up_conv.up_conv3x3(x, weight).dtype == torch.bfloat16


def test_norm_and_gate() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 6, 4, 5).double() + 1, torch.rand(6).double(), torch.randn(6).double()
    slope = torch.randn(3, 3, 4, 5)
    assert_same(gate, written_gate, (x, weight, bias), slope)
    assert_same(gate, written_gate, (x.to(memory_format=torch.channels_last), weight, bias), slope)
    running = torch.full((6,), 0.5).double(), torch.full((6,), 2.0).double()
    norm_gate.norm_gate(x.requires_grad_(True), weight, bias, running, 0.25, 1e-5)
    torch.testing.assert_close(running[0], 0.375 + 0.25 * x.mean((0, 2, 3)))
    torch.testing.assert_close(running[1], 1.5 + 0.25 * x.var((0, 2, 3)))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_spectral_norm_is_torchs(kind: Any, last: bool) -> None:
    torch.manual_seed(0)
    exact = kind(5, 7, 3, bias=False).double()
    ours = copy.deepcopy(exact)
    for layer, make in ((exact, torchs), (ours, spectral_norm)):
        torch.manual_seed(1)
        make(layer)
    if last:
        ours.to(memory_format=torch.channels_last)
    for _ in range(2):
        for key, value in exact.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-9, atol=1e-9)
        slope = torch.randn_like(exact.parametrizations.weight.original)
        found = []
        for layer in (exact, ours):
            raw = layer.parametrizations.weight.original
            (once,) = torch.autograd.grad(layer.weight, raw, slope)
            out = layer.weight
            (again,) = torch.autograd.grad(out, raw, slope, create_graph=True)
            (second,) = torch.autograd.grad(again.square().sum(), raw)
            found.append([out, once, again, second])
        for expected, actual in zip(*found, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.eval().weight, exact.eval().weight, rtol=1e-12, atol=1e-12)


def written_conv(layer: GatedConv, x: Tensor, noise: Any = "none", statistics: Any = "running") -> Tensor:
    if layer.up:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    x = layer.conv(x)
    if layer.noise is not None:
        x = x + layer.noise.strength * noise
    return written_gate(x, layer.norm.weight, layer.norm.bias)


def as_written(network: nn.Module) -> nn.Module:
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, GatedConv):
            module.forward = MethodType(written_conv, module)  # type: ignore[method-assign]
        if isinstance(module, SpectralNorm):
            module.__class__ = _SpectralNorm  # type: ignore[assignment]
        if isinstance(module, nn.LeakyReLU):
            module.inplace = False
    return plain


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_networks_in_train_mode_are_their_equations(dtype: torch.dtype, bar: float) -> None:
    torch.manual_seed(0)
    g, d = FastGANGenerator(32, 6, 32).to(dtype), FastGANDiscriminator(32, 32).to(dtype)
    with torch.no_grad():
        for name, parameter in g.named_parameters():
            if name.endswith("strength"):
                parameter.fill_(0.3)
    noise = [torch.randn(3, 1, size, size, dtype=dtype) for size in (8, 8, 32, 32)]
    z = torch.randn(3, 6, dtype=dtype)
    found = []
    for networks in ((as_written(g), as_written(d)), (g, d)):
        made = networks[0].heads(z, noise)  # type: ignore[operator]
        scores, rebuilt = networks[1].score_and_reconstruct(made.image, 2)  # type: ignore[operator]
        loss = scores.sin().mean() + sum(x.square().mean() for x in rebuilt) + made.small.square().mean()
        parameters = [p for network in networks for p in network.parameters()]
        found.append([made.image, scores, *rebuilt, *torch.autograd.grad(loss, parameters)])
    for expected, actual in zip(*found, strict=True):
        assert (actual - expected).abs().max() <= bar * max(1.0, expected.abs().max().item())
