"""Weight initialisations that reach the weights also where a parametrisation holds them."""

import torch
from torch import nn
from torch.nn.utils import parametrize


@torch.no_grad()
def dcgan_init(network: nn.Module) -> None:
    """DCGAN's initialisation (Radford et al. 2016, section 4): weights N(0, 0.02), norm gains N(1, 0.02).

    Under spectral norm ``module.weight`` is a computed tensor and writing to it is silently lost, so the
    underlying parameter is drawn instead.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            raw = module.parametrizations.weight.original if parametrize.is_parametrized(module) else module.weight
            raw.normal_(0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1.0, 0.02)
            module.bias.zero_()
