"""Noise maps as free variables: kept from carrying the image (Karras et al. 2020, section 5)."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gansharing.networks.base import Generator

_SMALLEST = 8
_NAME = "noise_const"


def noise_maps(synthesis: object) -> dict[str, Tensor]:
    """The constant noise ``(H, W)`` of each layer, by buffer name; empty where a network has none."""
    if not isinstance(synthesis, nn.Module):
        return {}
    return {name: plane for name, plane in synthesis.named_buffers() if name.rpartition(".")[2] == _NAME}


def still(generator: Generator) -> dict[str, Any]:
    """Options of a generator's forward by which an image is a function of its latent.

    Returns:
        ``noise: const`` and ``batch_norm: running`` in place of the network's own choice, where it has one.
    """
    return {
        key: value
        for key, value in {"noise": "const", "batch_norm": "running"}.items()
        if key in generator.options()
    }


def render(synthesis: nn.Module, ws: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
    """Images of styles with other noise maps in the place of the network's own.

    Args:
        synthesis: A generator's synthesis network.
        ws: ``(N, num_ws, w_dim)``.
        noise: Maps ``(H, W)`` by the names of ``noise_maps``; a map that is missing is the network's own.

    Returns:
        ``(N, 3, H, W)``, differentiable in styles and noise.
    """
    images: Tensor = torch.func.functional_call(synthesis, dict(noise), (ws,), {"noise": "const"})
    return images


def noise_regularisation(maps: Iterable[Tensor]) -> Tensor:
    """Sum over maps and scales of squared autocorrelation at a shift of one pixel.

    ``L_ij = (mean n(x, y) n(x - 1, y))^2 + (mean n(x, y) n(x, y - 1))^2``, cyclic, for each map i at its own
    size and, where it is larger than 8 px, at every half down to 8 px: means of 2 x 2 pixels, times 2 to keep
    the variance.

    Args:
        maps: ``(H, W)`` each, square powers of two.

    Returns:
        A scalar; 0 for no maps.
    """
    total = torch.zeros(())
    for plane in maps:
        level = plane[None, None]
        total = total.to(level)
        while True:
            for axis in (-1, -2):
                total = total + (level * level.roll(1, axis)).mean().square()
            if level.shape[-1] <= _SMALLEST:
                break
            level = 2 * F.avg_pool2d(level, 2)
    return total


@torch.no_grad()
def normalise_noise(maps: Iterable[Tensor]) -> None:
    """Give each map zero mean and unit variance, in place."""
    for plane in maps:
        plane.sub_(plane.mean())
        plane.mul_(plane.square().mean().rsqrt())
