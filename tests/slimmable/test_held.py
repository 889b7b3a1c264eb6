"""Spectral norms held over many forwards: torch's own parametrisation, asked once, is the yardstick."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gansharing.slimmable import held_norms

LAYERS = {
    "convolution": (lambda: nn.Conv2d(3, 5, 3), (2, 3, 6, 6)),
    "pointwise": (lambda: nn.Conv2d(3, 5, 1), (2, 3, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 5, 4), (2, 3, 6, 6)),
    "linear": (lambda: nn.Linear(3, 5), (2, 3)),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_values_gradients_and_vectors_are_torchs(layer: str, train: bool, channels_last: bool) -> None:
    build, shape = LAYERS[layer]
    torch.manual_seed(0)
    ours = spectral_norm(build(), n_power_iterations=2).double().train(train)
    if channels_last:
        ours = ours.to(memory_format=torch.channels_last)
    twin = copy.deepcopy(ours)
    x, y = torch.randn(2, *shape, dtype=torch.float64).unbind()

    def loss(network: nn.Module) -> Tensor:
        return network(x).square().sum() + network(y).pow(3).sum()

    with held_norms(ours.modules()):
        found = loss(ours)
        found.backward()
        with torch.no_grad():
            ours(x)  # neither iterates again nor has a gradient
    with nn.utils.parametrize.cached():
        expected = loss(twin)
        expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.state_dict(), twin.state_dict(), rtol=1e-12, atol=1e-12)
    for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)
    if not train:
        with held_norms(ours.modules()):  # adds to what is there
            loss(ours).backward()
        loss(twin).backward()
        for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


def test_frozen_weights_get_no_gradients() -> None:
    layer = spectral_norm(nn.Linear(3, 2)).requires_grad_(False)
    x = torch.ones(1, 3, requires_grad=True)
    with held_norms(layer.modules()):
        layer(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in layer.parameters())
