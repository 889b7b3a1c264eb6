"""The faster spectral norm: torch's own parametrisation is the yardstick."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gansharing.networks.spectral_norm import spectral_norm

LAYERS = {
    "convolution": (lambda: nn.Conv2d(4, 5, 3), (2, 4, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 5, 4), (2, 4, 6, 6)),
    "linear": (lambda: nn.Linear(4, 5), (2, 4)),
    "embedding": (lambda: nn.Embedding(4, 5), (2,)),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_step_is_torchs(layer: str, autocast: bool, channels_last: bool) -> None:
    build, shape = LAYERS[layer]
    torch.manual_seed(0)
    ours = build()
    theirs = copy.deepcopy(ours)
    torch.manual_seed(1)
    spectral_norm(ours)
    torch.manual_seed(1)
    parametrizations.spectral_norm(theirs)
    if channels_last:
        ours, theirs = (module.to(memory_format=torch.channels_last) for module in (ours, theirs))
    x = torch.randint(4, shape) if layer == "embedding" else torch.randn(shape)
    for module in (ours, theirs):
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                weight = module.weight
                out = module(x)
            out.float().square().sum().backward()
        module.kept = weight.detach()
    # The division is in full precision under autocast, too; products with it are not.
    torch.testing.assert_close(ours.kept, theirs.kept, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()), rtol=1e-5, atol=1e-6)
    tolerance = 2e-2 if autocast else 1e-4
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=tolerance, atol=tolerance)
