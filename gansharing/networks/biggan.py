"""BigGAN (Brock et al. 2019), and a small one of 32 px in its manner."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks.base import Generator, require_positive
from gansharing.networks.biggan_layers import DownBlock, SelfAttention, UpBlock, normed
from gansharing.networks.init import orthogonal_init
from gansharing.networks.sngan import check_resolution
from gansharing.networks.sngan_layers import FirstDownBlock, Head, StagedDiscriminator, given_labels

# By resolution: multiples of the generator's channels, from the first features on; those of the
# discriminator, block by block; how many of its blocks halve height and width.
_SIZES: Mapping[int, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    32: ((4, 4, 4, 4), (4, 4, 4, 4), 2),
    128: ((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
}
_CHANNELS = {32: 64, 128: 96}
_BOTTOM = 4  # side of the first features, px


class BigGANGenerator(Generator):
    """BigGAN's generator: 70,433,988 parameters at 128 px with 1,000 classes.

    The latent is cut into a part for the first layer and one for each block, where it joins the class'
    embedding; attention works at half the image's side. At 32 px the sizes are those of SNGAN, the rest is as
    at 128: a reading of ours, the paper has no table of it.

    Args:
        resolution: 32 or 128 px.
        latent_dim: Length of a latent, a multiple of the number of blocks and one; 120 at 128 px, where each
            part has 20.
        num_classes: 0 for an unconditional network.
        channels: What the layers' channels are multiples of; by default 64 at 32 px, 96 at 128.
        embed_dim: Length of a class' embedding.
        spectral: Spectral norm of every weight. Without, projections have biases: such a network can hold
            the computed weights of another, and what is cut out of a slimmable one does.

    Raises:
        UserError: There is no such resolution, the latent cannot be cut, or a size leaves a layer empty.
    """

    channel_arguments = ("channels",)
    plain_arguments: Mapping[str, Any] = {"spectral": False}

    def __init__(
        self,
        resolution: int = 128,
        latent_dim: int = 120,
        num_classes: int = 0,
        channels: int | None = None,
        embed_dim: int = 128,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        check_resolution(resolution, _SIZES)
        self.resolution, self.latent_dim, self.num_classes = resolution, latent_dim, num_classes
        self.channels = _CHANNELS[resolution] if channels is None else channels
        widths = [self.channels * multiple for multiple in _SIZES[resolution][0]]
        parts = len(widths)
        require_positive(latent_dim=latent_dim, embed_dim=embed_dim, **{"channels * 2 >> 3": widths[-2] >> 3})
        if latent_dim % parts:
            raise UserError(f"latent_dim is {latent_dim}; BigGAN of {resolution} px cuts it into {parts}")
        self.embed = nn.Embedding(num_classes, embed_dim) if num_classes else None
        self.first = normed(nn.Linear(latent_dim // parts, widths[0] * _BOTTOM**2), spectral)
        condition = latent_dim // parts + (embed_dim if num_classes else 0)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.ModuleList(UpBlock(a, b, condition, spectral) for a, b in pairs)
        self.attention = SelfAttention(widths[-2], spectral)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_rgb = normed(nn.Conv2d(widths[-1], 3, 3, padding=1), spectral)
        orthogonal_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """``embed`` with classes, ``first``, blocks with ``attention`` before the last one, ``to_rgb``."""
        blocks = [(f"block{number}", block) for number, block in enumerate(self.blocks, 1)]
        return {
            **({} if self.embed is None else {"embed": self.embed}),
            "first": self.first,
            **dict(blocks[:-1]),
            "attention": self.attention,
            **dict(blocks[-1:]),
            "to_rgb": nn.ModuleList([self.norm, self.to_rgb]),
        }

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents drawn from N(0, I) to images, see :meth:`~gansharing.networks.Generator.forward`."""
        start, *parts = latent.chunk(len(self.blocks) + 1, 1)
        if self.embed is not None:
            by_class = self.embed(given_labels(labels, self.num_classes))
            parts = [torch.cat([part, by_class], 1) for part in parts]
        x = self.first(start).unflatten(1, (-1, _BOTTOM, _BOTTOM))
        for number, (block, condition) in enumerate(zip(self.blocks, parts, strict=True), 1):
            x = self.attention(x) if number == len(self.blocks) else x
            x = block(x, condition)
        return self.to_rgb(self.norm(x).relu()).tanh()


class BigGANDiscriminator(StagedDiscriminator):
    """BigGAN's discriminator: 87,982,370 parameters at 128 px with 1,000 classes.

    Residual blocks with spectral norm, attention at half the image's side, projection of the class.

    Args:
        resolution: 32 or 128 px.
        num_classes: 0 for an unconditional network.
        channels: What the layers' channels are multiples of; by default 64 at 32 px, 96 at 128.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    channel_arguments = ("channels",)

    def __init__(self, resolution: int = 128, num_classes: int = 0, channels: int | None = None) -> None:
        super().__init__()
        check_resolution(resolution, _SIZES)
        self.resolution, self.num_classes = resolution, num_classes
        self.channels = _CHANNELS[resolution] if channels is None else channels
        _, multiples, halving = _SIZES[resolution]
        widths = [self.channels * multiple for multiple in multiples]
        require_positive(**{f"channels * {multiples[0]} >> 3": widths[0] >> 3})
        self.first = FirstDownBlock(widths[0])
        self.attention = SelfAttention(widths[0])
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.ModuleList(DownBlock(a, b, n < halving) for n, (a, b) in enumerate(pairs, 1))
        self.head = Head(widths[-1], num_classes)
        orthogonal_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """``block1``, ``attention``, ``block2`` ..., then ``head``."""
        blocks = {f"block{number}": block for number, block in enumerate(self.blocks, 2)}
        return {"block1": self.first, "attention": self.attention, **blocks, "head": self.head}
