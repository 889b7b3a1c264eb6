"""Layers of FastGAN (Liu et al. 2021, section 3): gated convolutions, noise, skip-layer excitation.

No convolution has a bias; each is spectrally normalised by :func:`initialise`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.init import dcgan_init
from gansharing.networks.norm_gate import norm_gate
from gansharing.networks.spectral_norm import spectral_norm
from gansharing.networks.up_conv import up_conv3x3

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


class GatedNorm(nn.BatchNorm2d):
    """Batch norm and the gate after it; it can use the batch's own statistics in eval mode too.

    The gate is ``a sigmoid(b)`` with ``a`` the first half of the channels and ``b`` the second.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, input: Tensor, statistics: Statistics = "running") -> Tensor:
        """Normalise ``(N, 2C, H, W)`` and map to ``(N, C, H, W)``; eval mode keeps nothing of the batch."""
        if not self.training and statistics == "running":
            return F.glu(super().forward(input), dim=1)
        running = None
        if self.training:
            running = self.running_mean, self.running_var
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return norm_gate(input, self.weight, self.bias, running, self.momentum, self.eps)


class NoiseInjection(nn.Module):
    """Adds one map of noise an image to all channels, with one learned strength that starts at zero."""

    const: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(1))
        self.register_buffer("const", torch.randn(size, size))

    def forward(self, x: Tensor, noise: Noise | Tensor) -> Tensor:
        """Add to ``(N, C, H, W)``: a drawn map, the fixed one, none, or the given ``(N, 1, H, W)``.

        In train mode ``x`` is written to.
        """
        if isinstance(noise, str) and noise == "none":
            return x
        if noise == "random":
            noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        maps = (self.strength * (self.const if isinstance(noise, str) else noise)).to(x.dtype)
        return x.add_(maps) if self.training else x + maps


class GatedConv(nn.Module):
    """Convolution to twice the channels, noise if there is any, batch norm, gated linear unit.

    Args:
        conv: The convolution.
        noise_size: Side of the map, where noise is added.
        up: Double height and width (nearest) first; ``conv`` is 3x3 then.
    """

    def __init__(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, noise_size: int | None = None, up: bool = False
    ) -> None:
        super().__init__()
        self.conv, self.up = conv, up
        self.noise = None if noise_size is None else NoiseInjection(noise_size)
        self.norm = GatedNorm(conv.out_channels)

    def forward(
        self, x: Tensor, noise: Noise | Tensor = "none", statistics: Statistics = "running"
    ) -> Tensor:
        """Map ``(N, C, H, W)`` to half of the convolution's channels."""
        x = up_conv3x3(x, self.conv.weight) if self.up else self.conv(x)
        if self.noise is not None:
            x = self.noise(x, noise)
        out: Tensor = self.norm(x, statistics)
        return out


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
            GatedConv(conv(channels, 2 * outputs, 3, padding=1), noise_size, up=index == 0)
            for index, channels in enumerate([inputs] if noise_size is None else [inputs, outputs])
        )
        self.injections = 0 if noise_size is None else len(self.convs)

    def forward(
        self, x: Tensor, noises: Sequence[Noise | Tensor] = (), statistics: Statistics = "running"
    ) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', 2H, 2W)``; ``noises`` has one entry an injection."""
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
