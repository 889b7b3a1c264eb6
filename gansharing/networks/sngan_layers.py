"""Layers of SNGAN and cGAN-pd (Miyato et al. 2018; Miyato and Koyama 2018), as mimicry computes them."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.base import Discriminator
from gansharing.networks.spectral_norm import spectral_norm

M = TypeVar("M", bound=nn.Module)
# Of the two convolutions of a residual block, which a ReLU follows.
RESIDUAL_GAIN = math.sqrt(2)


def initialised(layer: M, gain: float = 1.0, spectral: bool = False) -> M:
    """Draw the layer's weight by Xavier's uniform rule; divide it by its largest singular value if asked."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    nn.init.xavier_uniform_(weight, gain)
    if spectral:
        spectral_norm(layer)
    return layer


def convolution(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, gain: float = 1.0, spectral: bool = False
) -> nn.Module:
    """A convolution that keeps height and width, or halves them with ``kernel=4, stride=2``."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2)
    return initialised(layer, gain, spectral)


class ClassTable(nn.Embedding):
    """A row for each class."""

    def table(self) -> Tensor:
        """The rows."""
        return self.weight

    @torch.no_grad()
    def fill(self, table: Tensor) -> None:
        """Take over what a function made of each row of another's :meth:`table`."""
        self.weight.copy_(table)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and shift are looked up by class (Dumoulin et al. 2017).

    Gains start at N(1, 0.02), shifts at 0; :attr:`embed` holds both, gains first.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.embed = ClassTable(num_classes, 2 * channels)
        nn.init.normal_(self.embed.weight[:, :channels].detach(), 1.0, 0.02)
        nn.init.zeros_(self.embed.weight[:, channels:].detach())

    def resized(self, channels: int) -> "ConditionalBatchNorm2d":
        """One as it was at first, for another number of channels."""
        return ConditionalBatchNorm2d(channels, self.embed.num_embeddings)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` by labels ``(N,)``."""
        gain, shift = self.embed(labels)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, gain, self.norm(x))


def batch_norm(channels: int, num_classes: int) -> nn.Module:
    """Batch norm; by class where there are classes."""
    return ConditionalBatchNorm2d(channels, num_classes) if num_classes else nn.BatchNorm2d(channels)


class UpBlock(nn.Module):
    """Residual block of a generator: doubles height and width, bilinearly, in both branches.

    ``c_sc(up(x)) + c2(relu(b2(c1(up(relu(b1(x)))))))``.
    """

    def __init__(self, inputs: int, outputs: int, num_classes: int) -> None:
        super().__init__()
        self.b1 = batch_norm(inputs, num_classes)
        self.c1 = convolution(inputs, outputs, gain=RESIDUAL_GAIN)
        self.b2 = batch_norm(outputs, num_classes)
        self.c2 = convolution(outputs, outputs, gain=RESIDUAL_GAIN)
        self.c_sc = convolution(inputs, outputs, 1)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, 2H, 2W)``; with labels ``(N,)`` if conditional."""
        branch = self.c1(doubled(self.b1(x, *labels).relu()))
        branch = self.c2(self.b2(branch, *labels).relu())
        return branch + self.c_sc(doubled(x))


def doubled(x: Tensor) -> Tensor:
    """Twice the height and width, bilinear without aligned corners."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def halved(x: Tensor) -> Tensor:
    """Half the height and width by averaging; an odd side stays (3 px, of images of 48 px)."""
    return F.avg_pool2d(x, 2) if x.shape[-1] % 2 == 0 else x


def convolved_and_halved(conv: nn.Module, x: Tensor) -> Tensor:
    """``halved(conv(x))`` of a 3x3 convolution, in one of 4x4 with stride 2: 16 products for 36.

    The mean over 2x2 pixels is linear, so that of the kernel's four shifts gives the same numbers.
    """
    if x.shape[-1] % 2:
        return conv(x)
    assert isinstance(conv, nn.Conv2d)
    weight = F.avg_pool2d(F.pad(conv.weight, (1, 1, 1, 1)), 2, 1)
    return F.conv2d(x, weight, conv.bias, stride=2, padding=1)


class FirstDownBlock(nn.Module):
    """First residual block of a discriminator: reads the image, halves height and width."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.c1 = convolution(3, outputs, gain=RESIDUAL_GAIN, spectral=True)
        self.c2 = convolution(outputs, outputs, gain=RESIDUAL_GAIN, spectral=True)
        self.c_sc = convolution(3, outputs, 1, spectral=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, outputs, H / 2, W / 2)``."""
        return convolved_and_halved(self.c2, self.c1(images).relu()) + self.c_sc(halved(images))


class DownBlock(nn.Module):
    """Residual block of a discriminator, ``shortcut(relu(x)) + c2(relu(c1(relu(x))))``.

    That the shortcut sees ``relu(x)`` is the definition here: mimicry's ReLU works in place on the block's
    input before the shortcut reads it, and so do all networks that were trained with it. In the paper the
    shortcut sees x.
    """

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.c1 = convolution(inputs, inputs, gain=RESIDUAL_GAIN, spectral=True)
        self.c2 = convolution(inputs, outputs, gain=RESIDUAL_GAIN, spectral=True)
        self.c_sc = convolution(inputs, outputs, 1, spectral=True) if down or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, halved if ``down``."""
        x = x.relu()
        branch = self.c1(x).relu()
        if self.down:
            branch, x = convolved_and_halved(self.c2, branch), halved(x)
        else:
            branch = self.c2(branch)
        # A convolution of single pixels and a mean over pixels are the same in either order.
        return branch + (x if self.c_sc is None else self.c_sc(x))


class Head(nn.Module):
    """``ψ(h) + <embed(y), h>`` with ``h`` the features summed over height and width (projection, eq. 3).

    Without classes ``ψ(h)`` alone.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = initialised(nn.Linear(channels, 1), spectral=True)
        self.embed = initialised(nn.Embedding(num_classes, channels), spectral=True) if num_classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map ``(N, C, H, W)`` to logits ``(N,)``."""
        features = x.relu().sum((2, 3))
        logits = self.linear(features)[:, 0]
        if self.embed is None:
            return logits
        return logits + (self.embed(given_labels(labels, self.embed.num_embeddings)) * features).sum(1)


def given_labels(labels: Tensor | None, num_classes: int) -> Tensor:
    """The labels of a conditional network.

    Raises:
        UserError: There are none.
    """
    if labels is None:
        raise UserError(f"the network has {num_classes} classes; give it labels")
    return labels


class StagedDiscriminator(Discriminator):
    """A discriminator that is the chain of its stages; the last one takes the labels too."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images ``(N, 3, H, H)``; logits of shape ``(N,)``.

        Args:
            images: In [-1, 1].
            labels: Class indices ``(N,)``; ignored without classes.

        Raises:
            UserError: The network has classes and labels are missing.
        """
        *trunk, head = self.stages().values()
        x = images
        for stage in trunk:
            x = stage(x)
        return head(x, labels)
