"""Affine warps of images: twice differentiable, and without aliasing.

A gradient penalty behind a warp differentiates it twice. torch's ``grid_sample`` allows that in 2.13, not in
2.10, where the project begins. Bilinear sampling is linear in the image, so its derivative is its transpose,
and the transpose's derivative is the sampling again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

_BILINEAR, _REFLECTION = 0, 2

# The least asymmetric wavelet of Daubechies with six vanishing moments (symlet 6), low-pass: orthonormal to
# itself shifted by two, so that upsampling and downsampling by it change nothing.
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
_BEFORE = 5  # taps before the one on a pixel's first half
_MARGIN = 3  # pixels that a border pixel's upsampled halves need from outside
# How far, in half pixels, the filter's centre of mass lies before its middle.
_LEAD = 5.5 - sum(k * tap for k, tap in enumerate(SYM6)) / sum(SYM6)


class _Sample(Function):
    """Bilinear sampling of images at a grid."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape
        return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradients[0], grid, ctx.size), None


class _Spread(Function):
    """The transpose of :class:`_Sample`: adds each value to the four pixels that it was mixed of."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(
            values.contiguous(), values.new_empty(size), grid, _BILINEAR, _REFLECTION, False, (True, False)
        )
        return spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradients[0], grid), None, None


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """``grid_sample``, bilinear, reflecting at the border, differentiable in the images any number of times.

    Args:
        images: (B, C, H, W) floating point.
        grid: (B, H', W', 2), x and y in [-1, 1] from edge to edge; no gradient flows to it.

    Returns:
        (B, C, H', W').
    """
    return _Sample.apply(images, grid.detach())


def fold(index: Tensor, size: int) -> Tensor:
    """Reflect indices about the edges 0 and ``size`` (a border pixel comes twice) into ``[0, size)``."""
    index = index.remainder(2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def upsample(images: Tensor) -> Tensor:
    """Twice the resolution by symlet 6, reflecting at the border: (B, C, H, W) to (B, C, 2H, 2W)."""
    for dim in (2, 3):
        side = images.shape[dim]
        index = torch.arange(-_MARGIN, side + _MARGIN, device=images.device)
        images = images.index_select(dim, fold(index, side))
        taps = _taps(images, dim) * 2**0.5
        stride = (2, 1) if dim == 2 else (1, 2)
        images = F.conv_transpose2d(images, taps, stride=stride, groups=images.shape[1])
        images = images.narrow(dim, 2 * _MARGIN + _BEFORE, 2 * side)
    return images


def downsample(images: Tensor) -> Tensor:
    """Half the resolution by symlet 6: (B, C, 2H + 10, 2W + 10) to (B, C, H, W).

    The five pixels around are the filter's reach beyond the border.
    """
    for dim in (2, 3):
        stride = (2, 1) if dim == 2 else (1, 2)
        images = F.conv2d(images, _taps(images, dim) / 2**0.5, stride=stride, groups=images.shape[1])
    return images


def _taps(images: Tensor, dim: int) -> Tensor:
    shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
    return images.new_tensor(SYM6).view(shape).repeat(images.shape[1], 1, 1, 1)


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Move the content of images by affine maps, at twice the resolution, and bring it back.

    Supersampling as in Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data",
    appendix B.2; outside, images are reflected.

    Args:
        images: (B, C, H, W) floating point, at least 3 px.
        inverse: (B, 3, 3), from where content shall be to where it is: pixels, x to the right and y
            down, from the image's centre.

    Returns:
        (B, C, H, W).
    """
    height, width = images.shape[2:]
    positions = []
    for side in (height, width):
        half_pixels = torch.arange(-_BEFORE, 2 * side + _BEFORE, device=images.device, dtype=images.dtype)
        positions.append((half_pixels + 0.5 + _LEAD) / 2 - side / 2)
    y, x = torch.meshgrid(*positions, indexing="ij")
    target = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(1, -1, 3)
    source = (target @ inverse.mT.to(images.dtype))[..., :2].view(len(images), *x.shape, 2)
    # From positions of content to those of the samples that carry it, in halves of the image.
    scale = images.new_tensor([2 / width, 2 / height])
    grid = (source - _LEAD / 2) * scale
    return downsample(sample(upsample(images), grid))
