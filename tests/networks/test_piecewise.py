"""Scores and slopes of a piecewise linear network out of one pass, against automatic differentiation."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from gansharing.networks import GPGANDiscriminator
from gansharing.networks.piecewise import leaky_relu, scores_and_slopes
from gansharing.sharing import AdaFM, FreezeLower, Sharing, WidthWise

VARIANTS = [("resnet2", 32), ("resnet", 16), ("resnet4", 64)]


def penalised(scores: Tensor, slopes: Tensor) -> Tensor:
    """A loss of both that treats every image in its own way."""
    weights = torch.arange(1.0, len(scores) + 1, dtype=scores.dtype)
    return (weights * torch.nn.functional.softplus(-scores)).sum() + (
        weights.flip(0) * slopes.square().flatten(1).sum(1)
    ).mean()


def plain(network: Any, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    x = images.detach().requires_grad_(True)
    scores = network(x, labels)
    (slopes,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return scores, slopes


def gradients(loss: Tensor, network: Any) -> dict[str, Tensor]:
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()))
    return dict(zip(trained, found, strict=True))


@pytest.mark.parametrize(("variant", "resolution"), VARIANTS)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(
    "sharing", [None, FreezeLower(2), FreezeLower(6), AdaFM(), WidthWise(0.4)], ids=lambda s: type(s).__name__
)
def test_scores_slopes_and_gradients_are_those_of_two_derivatives(
    variant: Any, resolution: int, classes: int, sharing: Sharing | None
) -> None:
    torch.manual_seed(0)
    net = GPGANDiscriminator(resolution, classes, base_channels=2, channel_max=4, variant=variant).double()
    if sharing is not None:
        if isinstance(sharing, FreezeLower):
            sharing = FreezeLower(min(sharing.stages, len(net.stages()) - 1))
        sharing.apply(net).freeze_shared()
    images = torch.randn(3, 3, resolution, resolution, dtype=torch.float64)
    labels = torch.tensor([2, 0, 1]) if classes else None
    ours, theirs = scores_and_slopes(net, images, labels), plain(net, images, labels)
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-12, atol=1e-14)
    mine, plainly = gradients(penalised(*ours), net), gradients(penalised(*theirs), net)
    assert mine.keys() == plainly.keys() and mine
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, plainly[name], rtol=1e-9, atol=1e-12, msg=name)


def test_single_precision_is_as_exact_as_the_plain_way() -> None:
    torch.manual_seed(1)
    net, images = GPGANDiscriminator(32, base_channels=8), torch.randn(2, 3, 32, 32)
    ours, theirs = (gradients(penalised(*way(net, images, None)), net) for way in (scores_and_slopes, plain))
    net.double()
    exact = gradients(penalised(*plain(net, images.double(), None)), net)
    for name, truth in exact.items():
        error = (ours[name] - truth).norm() / truth.norm()
        assert error < max(1e-6, 3 * (theirs[name] - truth).norm() / truth.norm()), name


class Products(TorchDispatchMode):
    """Counts products of convolutions: one a forward, one a gradient that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.count += 1
        if func is torch.ops.aten.convolution_backward.default:
            self.count += sum(args[10][:2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("frozen", [0, 2])
def test_a_layer_costs_four_products_and_a_frozen_one_three(frozen: int) -> None:
    net = GPGANDiscriminator(32, base_channels=2)
    split = FreezeLower(frozen).apply(net)
    split.freeze_shared()
    convolutions = {name: p for name, p in net.named_parameters() if p.ndim == 4}
    with Products() as counted:
        penalised(*scores_and_slopes(net, torch.randn(2, 3, 32, 32))).backward()
    trained = sum(p.requires_grad for p in convolutions.values())
    assert counted.count == 3 * len(convolutions) + trained
    assert all((p.grad is None) != p.requires_grad for p in net.parameters())


def test_leaky_relu_keeps_nothing_that_the_layer_behind_it_does_not_keep() -> None:
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    out = leaky_relu(x, 0.2)
    assert torch.equal(out, torch.nn.functional.leaky_relu(x, 0.2))
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        behind = leaky_relu(x, 0.2).square()
    assert len(set(kept)) == 1 and len(kept) == 2
    behind.sum().backward()
    assert gradcheck(lambda x: leaky_relu(x, 0.2), x) and gradgradcheck(lambda x: leaky_relu(x, 0.2), x)
