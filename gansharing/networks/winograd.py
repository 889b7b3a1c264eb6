"""3x3 convolution on the CPU by Winograd's minimal filtering, F(4x4, 3x3): a quarter of the products.

An output tile of 4x4 pixels is ``A^T [(G w G^T) * (B^T d B)] A`` of its 6x6 input tile d (Lavin and Gray
2016, section 4.3). Summed over channels the product in the middle is 36 matrix products. In fp32 the error
is about 1e-6 of the output's standard deviation, five times that of a direct convolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from gansharing.networks.derivatives import with_slopes, worked_out_here

# Toom-Cook's matrices on these points and infinity. Balanced ones err five times less than 0, 1, -1, 2, -2.
_POINTS = torch.tensor([0, 0.75, -0.75, 1.5, -1.5], dtype=torch.float64)


def _powers(count: int) -> Tensor:
    infinity = F.one_hot(torch.tensor([count - 1]), count).double()
    return torch.cat([_POINTS[:, None] ** torch.arange(count), infinity])


def _both_directions(matrix: Tensor) -> Tensor:
    """Rows, then columns, as one matrix on flattened tiles."""
    return torch.kron(matrix, matrix).float()


_FROM_INPUT = _both_directions(torch.linalg.inv(_powers(6)).T)
_FROM_KERNEL = _both_directions(_powers(3))
_TO_OUTPUT = _both_directions(_powers(4).T)

# What is worked on at a time: enough for full speed, little enough for the caches.
_TILES, _KERNELS = 256, 128


def conv3x3(x: Tensor, weight: Tensor, whole: int | None = None) -> Tensor:
    """``conv2d(x, weight, padding=1)``, by the faster way; differentiable any number of times.

    Args:
        x: ``(N, I, H, W)``.
        weight: ``(O, I, 3, 3)``.
        whole: Input channels of the convolution of which this is a part, which then is computed as it.
    """
    if has_torch_function((x, weight)):  # a weight may split the batch over domains, or itself
        return handle_torch_function(conv3x3, (x, weight), x, weight, whole)
    if worthwhile(x, weight, whole):
        return _convolution(x, weight)
    return F.conv2d(x, weight, padding=1)


def worthwhile(x: Tensor, weight: Tensor, whole: int | None = None) -> bool:
    """Many channels and tiles in fp32 on the CPU; elsewhere the libraries' convolutions are faster."""
    return (
        worked_out_here(x)
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and min(len(weight), whole or weight.shape[1]) >= 256
        and min(x.shape[2:]) >= 16
        and x.shape[2] % 4 == x.shape[3] % 4 == 0
    )


def _samples(x: Tensor) -> int:
    return max(1, _TILES * 16 // (x.shape[2] * x.shape[3]))


def _input_tiles(x: Tensor) -> Tensor:
    """Overlapping 6x6 tiles of ``(N, C, H, W)``, transformed: ``(36, C, tiles)``."""
    tiles = F.pad(x.transpose(0, 1), (1, 1, 1, 1)).unfold(2, 6, 4).unfold(3, 6, 4)
    return (_FROM_INPUT @ tiles.permute(4, 5, 0, 1, 2, 3).reshape(36, -1)).view(36, x.shape[1], -1)


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    n, _, h, w = x.shape
    inputs = [_input_tiles(part) for part in x.split(_samples(x))]
    out = x.new_empty(n, len(weight), h // 4, 4, w // 4, 4)
    for first, kernels in enumerate(weight.split(_KERNELS)):
        o, i = kernels.shape[:2]
        transformed = (_FROM_KERNEL @ kernels.reshape(o * i, 9).T).view(36, o, i)
        place = out[:, first * _KERNELS :][:, :o].split(_samples(x))
        for tiles, part in zip(inputs, place, strict=True):
            products = torch.bmm(transformed, tiles)
            pixels = (_TO_OUTPUT @ products.view(36, -1)).view(4, 4, o, -1, h // 4, w // 4)
            part.copy_(pixels.permute(3, 2, 4, 0, 5, 1))
    return out.view(n, -1, h, w)


def _correlate(x: Tensor, gradient: Tensor) -> Tensor:
    (_, i, h, w), o = x.shape, gradient.shape[1]
    products = x.new_zeros(36, o, i)
    for part, slope in zip(x.split(_samples(x)), gradient.split(_samples(x)), strict=True):
        tiles = slope.reshape(-1, o, h // 4, 4, w // 4, 4).permute(3, 5, 1, 0, 2, 4).reshape(16, -1)
        spread = (_TO_OUTPUT.T @ tiles).view(36, o, -1)
        products.baddbmm_(spread, _input_tiles(part).transpose(1, 2))
    return (_FROM_KERNEL.T @ products.view(36, -1)).T.reshape(o, i, 3, 3)


def _mirrored(weight: Tensor) -> Tensor:
    """The kernel by which the gradient goes back to the input."""
    return weight.flip(2, 3).transpose(0, 1)


def _convolution(x: Tensor, weight: Tensor) -> Tensor:
    return with_slopes(_convolve, _convolution_slopes, x, weight)


def _convolution_slopes(
    inputs: Sequence[Tensor], gradient: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    x, weight = inputs
    return (
        _convolution(gradient, _mirrored(weight)) if needed[0] else None,
        with_slopes(_correlate, _correlation_slopes, x, gradient) if needed[1] else None,
    )


def _correlation_slopes(
    inputs: Sequence[Tensor], weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Of the gradient in a kernel: ``weight`` is the gradient in it."""
    x, gradient = inputs
    return (
        _convolution(gradient, _mirrored(weight)) if needed[0] else None,
        _convolution(x, weight) if needed[1] else None,
    )
