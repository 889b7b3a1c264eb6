"""Layers of BigGAN (Brock et al. 2019, appendix B): norms by latent and class, attention, residual blocks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.networks.init import raw_weight
from gansharing.networks.sngan_layers import ConditionalBatchNorm2d, M, halved
from gansharing.networks.spectral_norm import spectral_norm


def normed(layer: M, spectral: bool) -> M:
    """The layer, its weight divided by its largest singular value if asked."""
    if spectral:
        spectral_norm(layer)
    return layer


def _conv(inputs: int, outputs: int, kernel: int, spectral: bool = True, bias: bool = True) -> nn.Module:
    return normed(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias), spectral)


class Projection(nn.Module):
    """Gains and shifts as linear functions of a condition; gains are centred at 1.

    Args:
        inputs: Length of a condition.
        channels: Of the norm.
        spectral: Spectral norm of both weights. Without, both have a bias, and nothing is added to gains.
    """

    def __init__(self, inputs: int, channels: int, spectral: bool) -> None:
        super().__init__()
        self.centre = float(spectral)
        self.gain = normed(nn.Linear(inputs, channels, bias=not spectral), spectral)
        self.shift = normed(nn.Linear(inputs, channels, bias=not spectral), spectral)
        if not spectral:
            nn.init.ones_(self.gain.bias)
            nn.init.zeros_(self.shift.bias)

    def forward(self, condition: Tensor) -> Tensor:
        """Map conditions ``(N, inputs)`` to ``(N, 2 channels)``, gains first."""
        return torch.cat([self.centre + self.gain(condition), self.shift(condition)], 1)

    def table(self) -> Tensor:
        """Rows ``(2 + inputs, 2 channels)``: zeros; what no condition gives; what each input adds."""
        linear = torch.cat([self.gain.weight, self.shift.weight]).T
        origin = self(linear.new_zeros(1, len(linear)))
        return torch.cat([torch.zeros_like(origin), origin, linear])

    @torch.no_grad()
    def fill(self, table: Tensor) -> None:
        """Take over what an affine function made of each row of another's :meth:`table`.

        Without biases, what no condition gives stays as it is.
        """
        weights, origins = (table[2:] - table[0]).T.chunk(2), table[1].chunk(2)
        for layer, weight, origin in zip((self.gain, self.shift), weights, origins, strict=True):
            raw_weight(layer).copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(origin)


class ProjectedBatchNorm2d(ConditionalBatchNorm2d):
    """Batch norm whose gain and shift are projected from a part of the latent and the class' embedding.

    Args:
        channels: Of the features.
        inputs: Length of a condition.
        spectral: As :class:`Projection` takes it.
    """

    def __init__(self, channels: int, inputs: int, spectral: bool) -> None:
        nn.Module.__init__(self)  # a projection stands where the table would
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.embed = Projection(inputs, channels, spectral)  # type: ignore[assignment]
        self.inputs, self.spectral = inputs, spectral

    def resized(self, channels: int) -> "ProjectedBatchNorm2d":
        """One as it was at first, for another number of channels."""
        return ProjectedBatchNorm2d(channels, self.inputs, self.spectral)


class UpBlock(nn.Module):
    """Residual block of the generator: doubles height and width, by nearest neighbours, in both branches.

    ``c_sc(up(x)) + c2(relu(b2(c1(up(relu(b1(x)))))))``.
    """

    def __init__(self, inputs: int, outputs: int, condition: int, spectral: bool) -> None:
        super().__init__()
        self.b1 = ProjectedBatchNorm2d(inputs, condition, spectral)
        self.c1 = _conv(inputs, outputs, 3, spectral)
        self.b2 = ProjectedBatchNorm2d(outputs, condition, spectral)
        self.c2 = _conv(outputs, outputs, 3, spectral)
        self.c_sc = _conv(inputs, outputs, 1, spectral)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` and conditions ``(N, condition)`` to ``(N, outputs, 2H, 2W)``."""
        branch = self.c1(F.interpolate(self.b1(x, condition).relu(), scale_factor=2))
        branch = self.c2(self.b2(branch, condition).relu())
        # A convolution of single pixels gives the same before they are repeated.
        return branch + F.interpolate(self.c_sc(x), scale_factor=2)


class DownBlock(nn.Module):
    """Residual block of the discriminator, ``shortcut(x) + c2(relu(c1(relu(x))))``, as wide as its output.

    Unlike in mimicry's blocks the shortcut sees x itself.
    """

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.c1 = _conv(inputs, outputs, 3)
        self.c2 = _conv(outputs, outputs, 3)
        self.c_sc = _conv(inputs, outputs, 1) if down or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, halved if ``down``."""
        branch = self.c2(self.c1(x.relu()).relu())
        shortcut = halved(x) if self.down else x
        shortcut = shortcut if self.c_sc is None else self.c_sc(shortcut)
        return (halved(branch) if self.down else branch) + shortcut


class SelfAttention(nn.Module):
    """Self-attention over all places, added to the features (Zhang et al. 2019, section 3).

    Queries and keys have an eighth of the channels, values half; keys and values are pooled to half the side.
    """

    def __init__(self, channels: int, spectral: bool = True) -> None:
        super().__init__()
        self.query = _conv(channels, channels >> 3, 1, spectral, bias=False)
        self.key = _conv(channels, channels >> 3, 1, spectral, bias=False)
        self.value = _conv(channels, channels >> 1, 1, spectral, bias=False)
        self.out = _conv(channels >> 1, channels, 1, spectral, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        queries = self.query(x).flatten(2)
        keys, values = (F.max_pool2d(part(x), 2).flatten(2) for part in (self.key, self.value))
        # Written out: torch's fused attention has no second derivative.
        attention = (queries.mT @ keys).softmax(-1)
        return x + self.gamma * self.out((values @ attention.mT).unflatten(2, x.shape[2:]))
