"""The random operations of DiffAugment that kornia does not ship, as kornia augmentations.

kornia's own saturation (in HSV), contrast (no mean) and erasing (always inside) follow other formulas and
clamp to [0, 1]; these follow Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN
Training", and take images of any range. Every draw is per sample and comes from torch's global generator
on the CPU, so a seed gives the same draws on every device.
"""

import math
from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from kornia.augmentation.random_generator import PlainUniformGenerator
from torch import Tensor


def rounded_share(length: int, share: float) -> int:
    """Length in pixels of a share of a side, halves rounded up as the original does."""
    return math.floor(length * share + 0.5)


class _RandomScaleAboutMean(IntensityAugmentationBase2D):
    """Scale the distance of each value from a mean by a factor drawn for each sample."""

    mean_dims: tuple[int, ...]

    def __init__(self, low: float, high: float) -> None:
        super().__init__(p=1.0)
        self._param_generator = PlainUniformGenerator(((low, high), "factor", None, None))

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Scale by the drawn ``factor`` (B,): (B, C, H, W) to (B, C, H, W)."""
        factor = params["factor"].to(input.device, input.dtype).view(-1, 1, 1, 1)
        mean = input.mean(self.mean_dims, keepdim=True)
        return input * factor + mean * (1 - factor)


class RandomSaturation(_RandomScaleAboutMean):
    """(x - m) f + m with m the mean over a pixel's channels, f uniform on [0, 2).

    Shape:
        input and output: (B, C, H, W), any range.
    """

    mean_dims = (1,)

    def __init__(self) -> None:
        super().__init__(0.0, 2.0)


class RandomContrast(_RandomScaleAboutMean):
    """(x - m) f + m with m the mean over a sample's channels and pixels, f uniform on [0.5, 1.5).

    Shape:
        input and output: (B, C, H, W), any range.
    """

    mean_dims = (1, 2, 3)

    def __init__(self) -> None:
        super().__init__(0.5, 1.5)


class RandomCutout(IntensityAugmentationBase2D):
    """Fill a box of half the image's height and width with 0.

    The box's centre is uniform over the image, so it may hang over the border: what is cut out covers
    1/16 to 1/4 of the image, never nothing.

    Shape:
        input and output: (B, C, H, W), any range.
    """

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw ``centre``: (B, 2) int64, row and column of each box's centre."""
        # A box of even size has one more place to stand: its centre lies between pixels.
        ends = [side + 1 - rounded_share(side, 0.5) % 2 for side in batch_shape[-2:]]
        return {"centre": torch.stack([torch.randint(end, (batch_shape[0],)) for end in ends], dim=1)}

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Fill the boxes about the drawn ``centre``: (B, C, H, W) to (B, C, H, W)."""
        centre = params["centre"].to(input.device)
        in_rows = _in_box(centre[:, :1], input.shape[2])[:, None, :, None]
        in_columns = _in_box(centre[:, 1:], input.shape[3])[:, None, None, :]
        return input * ~(in_rows & in_columns)


def _in_box(centre: Tensor, side: int) -> Tensor:
    """Which of a side's positions lie in a half-side box about each centre: (B, 1) to (B, side) bool."""
    size = rounded_share(side, 0.5)
    offset = torch.arange(side, device=centre.device) - (centre - size // 2)
    return (offset >= 0) & (offset < size)
