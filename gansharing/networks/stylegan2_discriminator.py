"""StyleGAN2's residual discriminator (Karras et al. 2020), with label projection."""

import math
from collections.abc import Mapping as MappingABC

import torch
from torch import Tensor, nn

from gansharing.networks.base import Discriminator, require_positive
from gansharing.networks.stylegan2 import stylegan2_channels
from gansharing.networks.stylegan2_layers import (
    EqualizedConv,
    EqualizedLinear,
    Mapping,
    at_least_float,
    full_precision,
)


class DownBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 skip; halves height and width. The first block reads the image."""

    def __init__(self, inputs: int, outputs: int, first: bool, clamp: float | None) -> None:
        super().__init__()
        self.fromrgb = EqualizedConv(3, inputs, 1, clamp=clamp) if first else None
        self.conv0 = EqualizedConv(inputs, inputs, 3, clamp=clamp)
        half = math.sqrt(0.5)  # keeps the variance of the sum of two branches
        self.conv1 = EqualizedConv(inputs, outputs, 3, down=True, gain=half, clamp=clamp)
        self.skip = EqualizedConv(inputs, outputs, 1, down=True, activate=False, gain=half)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H / 2, W / 2)``."""
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        return self.skip(x) + self.conv1(self.conv0(x))


def minibatch_std(x: Tensor, group_size: int) -> Tensor:
    """Append the mean standard deviation over groups of samples as a channel (Karras et al. 2018, section 3).

    Args:
        x: ``(N, C, H, W)``; sample i belongs to group ``i mod (N / size)``.
        group_size: Samples a group. Where it does not divide N, its largest divisor below is taken; the
            original refuses such batches and equals this one on all others.

    Returns:
        ``(N, C + 1, H, W)``.
    """
    size = next(size for size in range(min(group_size, len(x)), 0, -1) if len(x) % size == 0)
    with full_precision(x):
        groups = at_least_float(x).reshape(size, -1, *x.shape[1:])
        deviation = ((groups - groups.mean(0)).square().mean(0) + 1e-8).sqrt()
        statistic = deviation.mean((1, 2, 3)).repeat(size).to(x.dtype)
    return torch.cat([x, statistic[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)


class Epilogue(nn.Module):
    """Minibatch standard deviation, convolution, two linear layers."""

    def __init__(self, channels: int, outputs: int, group_size: int, clamp: float | None) -> None:
        super().__init__()
        self.group_size = group_size
        self.conv = EqualizedConv(channels + 1, channels, 3, clamp=clamp)
        self.fc = EqualizedLinear(channels * 16, channels, activate=True)
        self.out = EqualizedLinear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, 4, 4)`` to ``(N, outputs)``, in fp32."""
        x = self.conv(minibatch_std(x, self.group_size))
        with full_precision(x):
            return self.out(self.fc(at_least_float(x).flatten(1)))


class StyleGAN2Discriminator(Discriminator):
    """StyleGAN2's residual discriminator, configurations E (``channel_base=16384``) and F (32768).

    The state dict has the names of NVIDIA's PyTorch files, without the constant ``resample_filter``.

    Args:
        resolution: Power of two, 8 to 1024 px.
        num_classes: 0 for an unconditional discriminator; otherwise its output is projected on the mapped
            label (Miyato and Koyama 2018).
        channel_base: Channels times resolution at high resolutions.
        channel_max: Most channels of a layer.
        group_size: Samples over which the minibatch standard deviation is taken, see :func:`minibatch_std`.
        mapping_layers: Layers of the label's mapping network.
        clamp: Limit of the magnitude of every convolution's output; 256 in NVIDIA's mixed-precision files.

    Raises:
        UserError: A size leaves a layer empty.
    """

    def __init__(
        self,
        resolution: int = 256,
        num_classes: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
        group_size: int = 4,
        mapping_layers: int = 8,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        channels = stylegan2_channels(resolution, channel_base, channel_max)
        require_positive(group_size=group_size, mapping_layers=mapping_layers)
        self.resolution = resolution
        self.sizes = sorted(channels, reverse=True)[:-1]
        for size in self.sizes:
            block = DownBlock(channels[size], channels[size // 2], size == resolution, clamp)
            self.add_module(f"b{size}", block)
        self.b4 = Epilogue(channels[4], channels[4] if num_classes else 1, group_size, clamp)
        self.mapping = Mapping(0, channels[4], num_classes, mapping_layers) if num_classes else None

    def stages(self) -> MappingABC[str, nn.Module]:
        """One stage a resolution, ``b4`` the last, then the label's ``mapping`` where there are classes."""
        stages = {f"b{size}": self.get_submodule(f"b{size}") for size in [*self.sizes, 4]}
        return stages if self.mapping is None else stages | {"mapping": self.mapping}

    def trained_buffers(self) -> list[str]:
        """None: the filters are constants."""
        return []

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            images: ``(N, 3, resolution, resolution)``.
            labels: Class indices ``(N,)`` or weights ``(N, num_classes)``.

        Returns:
            Logits ``(N,)``, fp32.
        """
        x = images
        for size in self.sizes:
            x = self.get_submodule(f"b{size}")(x)
        x = self.b4(x)
        if self.mapping is not None:
            x = (x * self.mapping(None, labels)).sum(1, keepdim=True) / math.sqrt(x.shape[1])
        return x.squeeze(1)
