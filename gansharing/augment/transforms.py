"""The transforms of adaptive augmentation as matrices and index maps, one for each image of a batch.

From Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix B. Positions
are pixels from the image's centre, x to the right and y down; colours are (r, g, b, 1).
"""

import math

import torch
from torch import Tensor

from gansharing.augment.warp import fold

_GREY = 1 / math.sqrt(3)  # each component of the unit vector along which r = g = b


def blit(images: Tensor, flip: Tensor, turns: Tensor, shift: Tensor) -> Tensor:
    """Mirror, turn by right angles and shift by whole pixels, in this order, copying pixels exactly.

    Args:
        images: (B, C, H, W); square where ``turns`` is not 0. Outside, images are reflected.
        flip: (B,) bool, mirror left and right.
        turns: (B,) int64, quarter turns counter-clockwise as seen on the screen.
        shift: (B, 2) int64, pixels to the right and down.

    Returns:
        (B, C, H, W).
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device).view(1, -1, 1) - shift[:, 1].view(-1, 1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1) - shift[:, 0].view(-1, 1, 1)
    # Doubled distances from the centre are whole numbers.
    y = 2 * fold(rows, height) - (height - 1)
    x = 2 * fold(columns, width) - (width - 1)
    quarter = turns.remainder(4).view(-1, 1, 1)
    cosine, sine = (
        (quarter == 0).long() - (quarter == 2).long(),
        (quarter == 1).long() - (quarter == 3).long(),
    )
    x, y = cosine * x - sine * y, sine * x + cosine * y
    x = torch.where(flip.view(-1, 1, 1), -x, x)
    row, column = (y + height - 1) // 2, (x + width - 1) // 2
    index = (row * width + column).flatten(1)
    return images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def identity(count: int, size: int, like: Tensor) -> Tensor:
    """(count, size, size) identity matrices with the device and dtype of ``like``."""
    return torch.eye(size, dtype=like.dtype, device=like.device).repeat(count, 1, 1)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Scale positions by factors (B,): (B, 3, 3)."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def rotation(angle: Tensor) -> Tensor:
    """Rotate positions by angles (B,) in radians, clockwise as seen on the screen: (B, 3, 3)."""
    matrix = identity(len(angle), 3, angle)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


def translation(x: Tensor, y: Tensor) -> Tensor:
    """Move positions by (B,) pixels to the right and down: (B, 3, 3)."""
    matrix = identity(len(x), 3, x)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def brightness(shift: Tensor) -> Tensor:
    """Add ``shift`` (B,) to every channel: (B, 4, 4)."""
    matrix = identity(len(shift), 4, shift)
    matrix[:, :3, 3] = shift[:, None]
    return matrix


def contrast(factor: Tensor) -> Tensor:
    """Multiply every channel by ``factor`` (B,), about mid-grey 0: (B, 4, 4)."""
    return _embed(factor.view(-1, 1, 1) * identity(len(factor), 3, factor))


def luma_flip(flip: Tensor, like: Tensor) -> Tensor:
    """Mirror colours at the plane of no brightness where ``flip`` (B,) is true: (B, 4, 4)."""
    grey = _grey(like)
    return _embed(identity(len(flip), 3, like) - 2 * flip.to(like).view(-1, 1, 1) * grey)


def hue(angle: Tensor) -> Tensor:
    """Rotate colours about the grey axis by angles (B,) in radians (Rodrigues' formula): (B, 4, 4)."""
    grey = _grey(angle)
    cross = angle.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * _GREY
    sine, cosine = angle.sin().view(-1, 1, 1), angle.cos().view(-1, 1, 1)
    return _embed(cosine * identity(len(angle), 3, angle) + sine * cross + (1 - cosine) * grey)


def saturation(factor: Tensor) -> Tensor:
    """Multiply the distance from the grey axis by ``factor`` (B,): (B, 4, 4)."""
    grey = _grey(factor)
    return _embed(grey + factor.view(-1, 1, 1) * (identity(len(factor), 3, factor) - grey))


def recolour(images: Tensor, matrix: Tensor) -> Tensor:
    """Apply colour matrices (B, 4, 4) to images (B, 3, H, W)."""
    mixed = matrix[:, :3, :3] @ images.flatten(2) + matrix[:, :3, 3:]
    return mixed.view(images.shape)


def _grey(like: Tensor) -> Tensor:
    return torch.full((3, 3), 1 / 3, dtype=like.dtype, device=like.device)


def _embed(linear: Tensor) -> Tensor:
    matrix = identity(len(linear), 4, linear)
    matrix[:, :3, :3] = linear
    return matrix
