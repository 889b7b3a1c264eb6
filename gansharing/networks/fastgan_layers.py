"""Layers of FastGAN (Liu et al. 2021, section 3): gated convolutions, noise, skip-layer excitation.

No convolution has a bias; each is spectrally normalised by :func:`initialise`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gansharing.errors import UserError
from gansharing.networks.init import dcgan_init

Noise = Literal["random", "const", "none"]
Statistics = Literal["running", "batch"]
LOWEST, HIGHEST = 32, 1024
# Channels of the generator's map of a size, in multiples of the base; a decoder's too, whose base is 32.
MULTIPLES: Mapping[int, float] = {
    4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 1 / 2, 512: 1 / 4, 1024: 1 / 8,
}  # fmt: skip


def small_size(resolution: int) -> int:
    """Side of the second image, and of the reconstructions: 128 px, or half of 128 px and less."""
    return min(128, resolution // 2)


def width(multiple: float, base_channels: int) -> int:
    """Channels of a layer.

    Raises:
        UserError: There would be none.
    """
    if multiple * base_channels < 1:
        raise UserError(
            f"base_channels is {base_channels}, which leaves a layer empty at this resolution; "
            f"give at least {round(1 / multiple)}"
        )
    return int(multiple * base_channels)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)


def initialise(network: nn.Module, spectral: bool = True) -> None:
    """Draw the weights as DCGAN does, then normalise each convolution's spectrum.

    In this order spectral norm's vectors belong to the weights that were drawn: an untrained network in eval
    mode is normalised too.
    """
    dcgan_init(network)
    for module in list(network.modules()):
        if spectral and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            spectral_norm(module)


class Norm(nn.BatchNorm2d):
    """Batch norm that can use the batch's own statistics in eval mode too, keeping nothing of them."""

    def forward(self, input: Tensor, statistics: Statistics = "running") -> Tensor:
        """Normalise ``(N, C, H, W)``."""
        if self.training or statistics == "running":
            return super().forward(input)
        return F.batch_norm(input, None, None, self.weight, self.bias, training=True, eps=self.eps)


class NoiseInjection(nn.Module):
    """Adds one map of noise an image to all channels, with one learned strength that starts at zero."""

    const: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(1))
        self.register_buffer("const", torch.randn(size, size))

    def forward(self, x: Tensor, noise: Noise | Tensor) -> Tensor:
        """Add to ``(N, C, H, W)``: a drawn map, the fixed one, none, or the given ``(N, 1, H, W)``."""
        if isinstance(noise, Tensor):
            return x + self.strength * noise
        if noise == "none":
            return x
        drawn = noise == "random"
        maps = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype) if drawn else self.const
        return x + self.strength * maps


class GatedConv(nn.Module):
    """Convolution to twice the channels, noise if there is any, batch norm, gated linear unit.

    The gate is ``a sigmoid(b)`` with ``a`` the first half of the channels and ``b`` the second.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, noise_size: int | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.noise = None if noise_size is None else NoiseInjection(noise_size)
        self.norm = Norm(conv.out_channels)

    def forward(
        self, x: Tensor, noise: Noise | Tensor = "none", statistics: Statistics = "running"
    ) -> Tensor:
        """Map ``(N, C, H, W)`` to half of the convolution's channels."""
        x = self.conv(x)
        if self.noise is not None:
            x = self.noise(x, noise)
        return F.glu(self.norm(x, statistics), dim=1)


class UpBlock(nn.Module):
    """Doubles height and width (nearest), then one gated convolution, or two with noise.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        noise_size: Side of the map where the block is the one with noise.
    """

    def __init__(self, inputs: int, outputs: int, noise_size: int | None = None) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            GatedConv(conv(channels, 2 * outputs, 3, padding=1), noise_size)
            for channels in ([inputs] if noise_size is None else [inputs, outputs])
        )
        self.injections = 0 if noise_size is None else len(self.convs)

    def forward(
        self, x: Tensor, noises: Sequence[Noise | Tensor] = (), statistics: Statistics = "running"
    ) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', 2H, 2W)``; ``noises`` has one entry an injection."""
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        for index, gated in enumerate(self.convs):
            x = gated(x, noises[index] if self.injections else "none", statistics)
        return x


class Excitation(nn.Module):
    """Skip-layer excitation: weights the channels of a fine map by a coarse one (section 3.1, equation 1).

    The code's Swish stands between the two convolutions, where the paper writes LeakyReLU.
    """

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.squeeze = conv(source, target, 4)
        self.expand = conv(target, target, 1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Weight ``target`` ``(N, C', H', W')`` by ``source`` ``(N, C, H, W)`` with ``H`` at least 4."""
        weights = self.expand(F.silu(self.squeeze(F.adaptive_avg_pool2d(source, 4))))
        return target * weights.sigmoid()
