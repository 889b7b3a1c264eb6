"""Where part of a weight is frozen, all derivatives are right and none of the frozen part is computed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gansharing.networks import StyleGAN2Generator
from gansharing.networks.winograd import conv3x3
from gansharing.sharing import WidthWise, split_of
from gansharing.sharing.lean import Halves
from tests.sharing.test_sharing import NETWORKS, build, output

Layer = Callable[..., Tensor]
BIASED: dict[str, tuple[Layer, list[int], list[int], int]] = {
    "linear": (F.linear, [3, 5], [4, 5], 1),
    "conv": (lambda x, w, b: F.conv2d(x, w, b, padding=1), [2, 5, 4, 4], [3, 5, 3, 3], 1),
    "strided": (
        lambda x, w, b: F.conv2d(x, w, b, stride=(2, 1), padding=1, dilation=2),
        [2, 5, 7, 6],
        [3, 5, 3, 3],
        1,
    ),
    "up": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1),
        [2, 5, 3, 3],
        [5, 3, 4, 4],
        0,
    ),
    "up_seen_from_the_side": (
        lambda x, w, b: F.conv_transpose2d(x, w.transpose(0, 1), b, stride=2),
        [2, 5, 3, 3],
        [3, 5, 3, 3],
        1,
    ),
    "demodulation": (
        lambda x, w, b: F.linear(x.square(), w.square().sum((2, 3)), b),
        [3, 5],
        [4, 5, 3, 3],
        1,
    ),
    "scaled": (lambda x, w, b: F.conv2d(x, w * 0.3, b), [2, 5, 3, 3], [3, 5, 1, 1], 1),
    "3x3": (lambda x, w, b: conv3x3(x, w) + b[:, None, None], [2, 5, 4, 4], [3, 5, 3, 3], 1),
    "softmax": (lambda x, w, b: x @ w.softmax(1).T + b, [3, 5], [4, 5], 1),  # no rule: the ordinary tensor
    "vector": (lambda x, w, b: F.linear(x, w, b), [5], [4, 5], 1),
}


@pytest.mark.parametrize("name", BIASED)
def test_outputs_are_equal_bit_for_bit_and_two_derivatives_right(name: str) -> None:
    layer, x_shape, w_shape, axis = BIASED[name]
    torch.manual_seed(0)
    x, w = torch.randn(x_shape).double(), torch.randn(w_shape).double()
    outputs = 3 if name in ("conv", "strided", "up", "up_seen_from_the_side", "scaled", "3x3") else 4
    bias = torch.randn(outputs).double().requires_grad_(True)
    domain, shared = w.narrow(axis, 0, 2).contiguous(), w.narrow(axis, 2, 3).contiguous()
    domain.requires_grad_(True)
    x.requires_grad_(True)

    def lean(x: Tensor, domain: Tensor, bias: Tensor) -> Tensor:
        return layer(x, Halves(domain, shared, axis), bias)

    assert torch.equal(lean(x, domain, bias), layer(x, torch.cat([domain, shared], axis), bias))
    assert gradcheck(lean, (x, domain, bias))
    assert gradgradcheck(lean, (x, domain, bias))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_whole_weight(name: str) -> None:
    def gradients(frozen: bool) -> tuple[Tensor, dict[str, Tensor]]:
        net = build(name).double()
        split = WidthWise(0.3).apply(net)
        if frozen:
            split.freeze_shared()
        value = output_in_double(net)
        # The gradient's norm, as in R1 and path length: two derivatives.
        loss = value.mean() + value.square().mean()
        slopes = torch.autograd.grad(loss, list(split.domain.values()), create_graph=True)
        sum(slope.square().sum() for slope in slopes).backward()  # type: ignore[union-attr]
        return value, {n: p.grad for n, p in split.domain.items() if p.grad is not None}

    (ours, lean), (theirs, full) = gradients(True), gradients(False)
    assert torch.equal(ours, theirs)
    assert lean.keys() == full.keys() and lean
    for key in lean:
        assert torch.allclose(lean[key], full[key], rtol=1e-8, atol=1e-14), key


def output_in_double(net: Any) -> Tensor:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the latents and images that are drawn
    try:
        return output(net)
    finally:
        torch.set_default_dtype(before)


class Gradients(TorchDispatchMode):
    """Numbers of the weights whose gradients convolutions compute."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default and args[10][1] and args[9] == 1:
            self.numbers += args[2].numel()
        return func(*args, **(kwargs or {}))


def test_no_gradient_of_a_frozen_column_is_computed() -> None:
    net = StyleGAN2Generator(16, 12, 12, mapping_layers=2, channel_base=256, channel_max=16)
    split = WidthWise(0.25).apply(net)
    split.freeze_shared()
    with Gradients() as seen:
        output(net).mean().backward()
    own = sum(p.numel() for n, p in split.domain.items() if p.ndim == 4)
    assert seen.numbers == own and own < 0.3 * sum(p.numel() for p in net.parameters() if p.ndim == 4)
    assert all(p.grad is None for p in split_of(net).shared.values())


def test_mixed_precision_gives_what_the_whole_weight_gives() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(2, 8, 6, 6), torch.randn(4, 8, 3, 3)
    domain, shared = w[:, :3].clone().requires_grad_(True), w[:, 3:].clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lean = F.conv2d(x, Halves(domain, shared, 1))
        full = F.conv2d(x, torch.cat([domain, shared], 1))
    assert lean.dtype == full.dtype == torch.bfloat16 and torch.equal(lean, full)
    (ours,) = torch.autograd.grad(lean.float().square().mean(), domain)
    (theirs,) = torch.autograd.grad(full.float().square().mean(), domain)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, theirs, rtol=0.02, atol=0.02 * theirs.abs().max().item())


def test_what_no_layer_reads_is_an_ordinary_tensor() -> None:
    net: Any = build("dcgan")
    WidthWise(0.5).apply(net)
    split_of(net).freeze_shared()
    weight = net.to_rgb.weight
    assert isinstance(weight, Halves) and weight.shape == (4, 3, 4, 4) and weight.dtype == torch.float32
    assert type(weight + 0.0 * torch.ones(())) is Tensor
    with torch.no_grad():
        assert type(net.to_rgb.weight) is Tensor and torch.equal(net.to_rgb.weight, weight)
