"""Layers of StarGAN v2 (Choi et al. 2020, appendix F): blocks that halve, styled blocks that double.

Blocks add their branches and divide by sqrt(2), so that the variance stays; LeakyReLU has slope 0.2. Means
over pixels, copies of pixels and 1x1 convolutions commute: what is smaller comes first.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.base import pyramid_depth, require_positive
from gansharing.networks.piecewise import leaky_relu
from gansharing.networks.sngan_layers import convolved_and_halved, given_labels
from gansharing.networks.up_conv import up_conv3x3
from gansharing.networks.winograd import conv3x3

_SQRT2 = math.sqrt(2)
_SLOPE = 0.2
LOWEST, HIGHEST = 32, 1024


def starganv2_channels(resolution: int, channel_base: int, channel_max: int, halvings: int) -> list[int]:
    """Channels at the full resolution and after each halving, which doubles them up to ``channel_max``.

    The first number, ``channel_base // resolution``, has no limit.

    Raises:
        UserError: The resolution is no power of two in 32 ... 1024, or a layer would be empty.
    """
    pyramid_depth(resolution, LOWEST, HIGHEST)
    require_positive(channel_max=channel_max)
    if channel_base < resolution:
        raise UserError(
            f"channel_base {channel_base} leaves no channel at {resolution} px; give at least that"
        )
    first = channel_base // resolution
    return [first, *(min(first << halving, channel_max) for halving in range(1, halvings + 1))]


@torch.no_grad()
def he_init(network: nn.Module) -> None:
    """Weights of convolutions and linear layers N(0, 2 / fan-in) (He et al. 2015), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                module.bias.zero_()


def activation() -> nn.Module:
    """LeakyReLU as a layer."""
    return nn.LeakyReLU(_SLOPE)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def shortcut(inputs: int, outputs: int) -> nn.Module:
    """What the other branch of a block adds to: its input, through a 1x1 convolution to other channels."""
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)


class ResidualBlock(nn.Module):
    """``(shortcut(x) + conv2(f(conv1(f(x))))) / sqrt(2)`` with f instance norm, if any, and LeakyReLU.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        normalise: Have instance norm with a gain and a shift a channel.
        down: Halve height and width by averaging, behind ``conv1``.
    """

    def __init__(self, inputs: int, outputs: int, normalise: bool, down: bool) -> None:
        super().__init__()
        self.down = down
        self.norm1 = nn.InstanceNorm2d(inputs, affine=True) if normalise else nn.Identity()
        self.conv1 = conv(inputs, inputs)
        self.norm2 = nn.InstanceNorm2d(inputs, affine=True) if normalise else nn.Identity()
        self.conv2 = conv(inputs, outputs)
        self.conv1x1 = shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, or half of that height and width."""
        branch = leaky_relu(self.norm1(x), _SLOPE)
        if self.down:
            branch, x = convolved_and_halved(self.conv1, branch), F.avg_pool2d(x, 2)
        else:
            branch = self.conv1(branch)
        branch = self.conv2(leaky_relu(self.norm2(branch), _SLOPE))
        return (self.conv1x1(x) + branch) / _SQRT2


class AdaptiveInstanceNorm(nn.Module):
    """``(1 + gamma) * norm(x) + beta`` with gamma and beta a linear function of the style."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` by styles ``(N, style_dim)``."""
        gamma, beta = self.fc(style)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(beta, 1 + gamma, F.instance_norm(x))


class StyledBlock(nn.Module):
    """Residual block whose norms are adaptive.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        style_dim: Length of a style.
        up: Double height and width (nearest) first.
        straight: Leave the shortcut out, as the network with a high-pass filter does. Its convolution stays
            among the weights, as in the original's files, and has no gradient.
    """

    def __init__(self, inputs: int, outputs: int, style_dim: int, up: bool, straight: bool) -> None:
        super().__init__()
        self.up, self.straight = up, straight
        self.norm1 = AdaptiveInstanceNorm(inputs, style_dim)
        self.conv1 = conv(inputs, outputs)
        self.norm2 = AdaptiveInstanceNorm(outputs, style_dim)
        self.conv2 = conv(outputs, outputs)
        self.conv1x1 = shortcut(inputs, outputs)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, or twice that height and width."""
        convolve = up_conv3x3 if self.up else conv3x3
        branch = convolve(leaky_relu(self.norm1(x, style), _SLOPE), self.conv1.weight)
        branch = branch + _over_pixels(self.conv1.bias)
        branch = conv3x3(leaky_relu(self.norm2(branch, style), _SLOPE), self.conv2.weight)
        branch = branch + _over_pixels(self.conv2.bias)
        if self.straight:
            return branch
        x = self.conv1x1(x)
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return (x + branch) / _SQRT2


def _over_pixels(bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias[:, None, None]


def trunk(resolution: int, channel_base: int, channel_max: int) -> tuple[list[nn.Module], int]:
    """What style encoder and discriminator begin with: images to features of one pixel.

    Returns:
        The layers, and the number of features.

    Raises:
        UserError: As :func:`starganv2_channels`.
    """
    halvings = pyramid_depth(resolution, LOWEST, HIGHEST)
    widths = starganv2_channels(resolution, channel_base, channel_max, halvings)
    blocks = [
        ResidualBlock(inputs, outputs, normalise=False, down=True)
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True)
    ]
    last = nn.Conv2d(widths[-1], widths[-1], 4)
    return [conv(3, widths[0]), *blocks, activation(), last, activation()], widths[-1]


def of_domains(found: Tensor, labels: Tensor | None) -> Tensor:
    """Of what is computed for every domain, ``(N, domains, ...)``, that of each sample's own.

    Args:
        found: Computed for all domains, so that one absent from a batch has a gradient of zero, not none.
        labels: Numbers of the domains ``(N,)``.

    Raises:
        UserError: There are no labels, or one is no domain's number.
    """
    labels = given_labels(labels, found.shape[1])
    return found[torch.arange(len(found), device=found.device), labels.long()]
