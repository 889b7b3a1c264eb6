"""Weight initialisations that reach the weights also where a parametrisation holds them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


@torch.no_grad()
def dcgan_init(network: nn.Module) -> None:
    """DCGAN's initialisation (Radford et al. 2016, section 4): weights N(0, 0.02), norm gains N(1, 0.02).

    Under spectral norm ``module.weight`` is a computed tensor and writing to it is silently lost, so the
    underlying parameter is drawn instead.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            raw_weight(module).normal_(0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1.0, 0.02)
            module.bias.zero_()


@torch.no_grad()
def orthogonal_init(network: nn.Module) -> None:
    """Draw weights as orthogonal matrices (Saxe et al. 2014), as BigGAN's are."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.orthogonal_(raw_weight(module))
            # Under spectral norm a look moves its vectors to the new weight's, whose values are all one.
            module.weight  # noqa: B018


def raw_weight(module: nn.Module) -> Tensor:
    """The trained tensor behind ``module.weight``: itself, or what a parametrisation computes it from."""
    if parametrize.is_parametrized(module, "weight"):
        parametrizations: Any = module.parametrizations
        return parametrizations.weight.original
    weight: Any = module.weight
    return weight
