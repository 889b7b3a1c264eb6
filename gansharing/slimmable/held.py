"""Spectral norm that is computed once for many forwards with the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm


@contextmanager
def held_norms(network: nn.Module) -> Iterator[None]:
    """Divide every spectrally normalised weight once inside of the block, however often the network computes.

    A discriminator judges every width in one step, by weights that do not change in it. Inside there is one
    power iteration, as Miyato et al. (2018, algorithm 1) have it for an update, and one division. Gradients
    gather at the divided weights; on leaving they go through the division, once, to the trained ones: the
    sum that separate backward passes would give. Until then the trained weights have none.

    Args:
        network: In train mode it iterates; frozen weights get no gradients.
    """
    held = [_Held(norm, weight) for norm, weight in _norms(network)]
    try:
        yield
    finally:
        for one in held:
            one.release()
    for one in held:
        one.backward()


def _norms(network: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    for module in network.modules():
        if parametrize.is_parametrized(module):
            chains: Any = module.parametrizations
            for chain in chains.values():
                if isinstance(chain[0], _SpectralNorm):
                    yield chain[0], chain.original


class _Held:
    def __init__(self, norm: nn.Module, weight: Tensor) -> None:
        # In full precision: the norm is a number by which all of a layer is divided.
        with torch.autocast(weight.device.type, enabled=False):
            self.divided: Tensor = norm(weight)
        self.norm = norm
        self.leaf = self.divided.detach().requires_grad_(self.divided.requires_grad)
        norm.forward = lambda _: self.leaf

    def release(self) -> None:
        del self.norm.forward  # the class's own comes back

    def backward(self) -> None:
        if self.leaf.grad is not None:
            self.divided.backward(self.leaf.grad)
        del self.leaf, self.divided
