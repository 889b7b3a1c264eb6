"""Spectral norm that is computed once for many forwards with the same weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm


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
    """W / (uᵀ W v) of one weight, with the derivative written out (Miyato et al. 2018, equation 12).

    The matrix is a view whatever the weight's memory format; torch's own copies channels-last ones, for every
    product with it, forth and back.
    """

    def __init__(self, norm: Any, weight: Tensor) -> None:
        self.norm, self.weight = norm, weight
        first = weight.movedim(norm.dim, 0)
        self.order = sorted(range(1, first.ndim), key=lambda axis: -first.stride()[axis])
        self.places = [0, *(self.order.index(axis) + 1 for axis in range(1, first.ndim))]
        self.sizes = [first.shape[axis] for axis in (0, *self.order)]
        # In full precision also under autocast: a number by which all of a layer is divided.
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            matrix = self._matrix(weight)
            self.v = self._matrix(norm._v.view(1, *first.shape[1:]).movedim(0, norm.dim))[0]
            if norm.training:
                for _ in range(norm.n_power_iterations):
                    norm._u.copy_(normalize(matrix @ self.v, dim=0, eps=norm.eps))
                    self.v = normalize(norm._u @ matrix, dim=0, eps=norm.eps)
                norm._v.copy_(self.v.view(1, *self.sizes[1:]).permute(self.places).flatten())
            self.u = norm._u.clone()
            self.sigma = self.u @ (matrix @ self.v)
            self.leaf = (weight / self.sigma).requires_grad_(weight.requires_grad)
        norm.forward = lambda _: self.leaf

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.norm.dim, 0).permute(0, *self.order).flatten(1)

    def release(self) -> None:
        del self.norm.forward  # the class's own comes back

    @torch.no_grad()
    def backward(self) -> None:
        gradient = self.leaf.grad
        if gradient is not None:
            along = (gradient * self.leaf).sum()
            matrix = self._matrix(gradient).addr_(self.u * -along, self.v).div_(self.sigma)
            gradient = matrix.view(self.sizes).permute(self.places).movedim(0, self.norm.dim)
            self.weight.grad = gradient if self.weight.grad is None else self.weight.grad + gradient
        del self.leaf
