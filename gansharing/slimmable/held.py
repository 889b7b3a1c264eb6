"""Spectral norm that is computed once for many forwards with the same weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from gansharing.networks.spectral_norm import singular, slope


@contextmanager
def held_norms(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Divide every spectrally normalised weight once inside of the block, however often it is used.

    A discriminator judges every width in one step, by weights that do not change in it. Inside there is one
    power iteration, as Miyato et al. (2018, algorithm 1) have it for an update, and one division. Gradients
    gather at the divided weights; on leaving they go through the division, once, to the trained ones: the
    sum that separate backward passes would give. Until then the trained weights have none.

    Args:
        modules: Whose weights, ``network.modules()`` for all of a network; those inside of a module are not
            among them by themselves. In train mode they iterate; frozen weights get no gradients.
    """
    held = [_Held(norm, weight) for norm, weight in _norms(modules)]
    try:
        yield
    finally:
        for one in held:
            one.release()
    for one in held:
        one.backward()


def _norms(modules: Iterable[nn.Module]) -> Iterator[tuple[Any, Tensor]]:
    for module in modules:
        if parametrize.is_parametrized(module):
            chains: Any = module.parametrizations
            for chain in chains.values():
                if isinstance(chain[0], _SpectralNorm) and chain.original.ndim > 1:
                    yield chain[0], chain.original


class _Held:
    """One weight, divided."""

    def __init__(self, norm: Any, weight: Tensor) -> None:
        self.norm, self.weight = norm, weight
        with torch.no_grad():
            self.parts = singular(norm, weight)
            self.leaf = (weight / self.parts[-1]).requires_grad_(weight.requires_grad)
        norm.forward = lambda _: self.leaf

    def release(self) -> None:
        del self.norm.forward  # the class's own comes back

    @torch.no_grad()
    def backward(self) -> None:
        if self.leaf.grad is not None:
            gradient = slope(self.leaf.grad, self.weight, *self.parts, self.norm.dim)
            self.weight.grad = gradient if self.weight.grad is None else self.weight.grad + gradient
        del self.leaf
