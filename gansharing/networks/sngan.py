"""SNGAN's residual networks (Miyato et al. 2018), and with classes cGAN-pd (Miyato and Koyama 2018)."""

from collections.abc import Mapping

from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks.base import Features, Generator, require_positive
from gansharing.networks.sngan_layers import (
    DownBlock,
    FirstDownBlock,
    Head,
    StagedDiscriminator,
    UpBlock,
    convolution,
    given_labels,
    initialised,
)

# Of the generator, by resolution: side of the first features, px; powers of two by which each block's
# channels are fewer than those of the first features; their number.
_GENERATORS = {
    32: (4, (0, 0, 0), 256),
    48: (6, (1, 2, 3), 512),
    64: (4, (1, 2, 3, 4), 1024),
    128: (4, (0, 1, 2, 3, 4), 1024),
}
# Of the discriminator: the same powers, how many blocks halve height and width, channels of the last.
_DISCRIMINATORS = {
    32: ((0, 0, 0, 0), 2, 128),
    48: ((4, 3, 2, 1, 0), 5, 1024),
    64: ((4, 3, 2, 1, 0), 5, 1024),
    128: ((4, 3, 2, 1, 0, 0), 5, 1024),
}


def check_resolution(resolution: int, known: Mapping[int, object]) -> None:
    """Refuse a resolution that is not among the known ones.

    Raises:
        UserError: It is not.
    """
    if resolution not in known:
        allowed = ", ".join(map(str, known))
        raise UserError(f"resolution {resolution} is not supported by this network; use one of {allowed}")


class SNGANGenerator(Generator):
    """Residual generator: 4,276,739 parameters at 32 px, 4,304,387 with ten classes.

    With classes, the generator of cGAN-pd: batch norm by class, but for the last one.

    Args:
        resolution: 32, 48, 64 or 128 px.
        latent_dim: Length of a latent.
        num_classes: 0 for an unconditional network.
        channels: Of the first features; by default 256 at 32 px, 512 at 48, 1024 at 64 and 128.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    channel_arguments = ("channels",)

    def __init__(
        self,
        resolution: int = 32,
        latent_dim: int = 128,
        num_classes: int = 0,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        check_resolution(resolution, _GENERATORS)
        self.bottom, powers, usual = _GENERATORS[resolution]
        self.resolution, self.latent_dim, self.num_classes = resolution, latent_dim, num_classes
        self.channels = usual if channels is None else channels
        widths = [self.channels, *(self.channels >> power for power in powers)]
        require_positive(latent_dim=latent_dim, **{f"channels >> {powers[-1]}": widths[-1]})
        self.first = initialised(nn.Linear(latent_dim, widths[0] * self.bottom**2))
        self.blocks = nn.ModuleList(
            UpBlock(inputs, outputs, num_classes)
            for inputs, outputs in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_rgb = convolution(widths[-1], 3)

    def stages(self) -> Mapping[str, nn.Module]:
        """``first``, ``block2`` ... as the original counts, ``to_rgb`` with the norm before it."""
        blocks = {f"block{number}": block for number, block in enumerate(self.blocks, 2)}
        return {"first": self.first, **blocks, "to_rgb": nn.ModuleList([self.norm, self.to_rgb])}

    def features(self) -> list[Features]:
        """Those between blocks, which both branches read and write, and those within."""
        found, written = [], ["first"]
        for block in (f"blocks.{number}" for number in range(len(self.blocks))):
            found.append(Features([*written, f"{block}.b1"], [f"{block}.c1", f"{block}.c_sc"]))
            found.append(Features([f"{block}.c1", f"{block}.b2"], [f"{block}.c2"]))
            written = [f"{block}.c2", f"{block}.c_sc"]
        return [*found, Features([*written, "norm"], ["to_rgb"])]

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents drawn from N(0, I) to images, see :meth:`~gansharing.networks.Generator.forward`."""
        by_class = (given_labels(labels, self.num_classes),) if self.num_classes else ()
        x = self.first(latent).unflatten(1, (-1, self.bottom, self.bottom))
        for block in self.blocks:
            x = block(x, *by_class)
        return self.to_rgb(self.norm(x).relu()).tanh()


class SNGANDiscriminator(StagedDiscriminator):
    """Residual discriminator with spectral norm: 1,053,825 parameters at 32 px.

    With classes, the projection discriminator of cGAN-pd. From the second block on the shortcut sees the
    rectified features, see :class:`~gansharing.networks.sngan_layers.DownBlock`. Those of 48 and of 64 px
    have the same weights and are the same function: the last block halves an even side only.

    Args:
        resolution: 32, 48, 64 or 128 px.
        num_classes: 0 for an unconditional network.
        channels: Of the last features; by default 128 at 32 px, else 1024.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    channel_arguments = ("channels",)

    def __init__(self, resolution: int = 32, num_classes: int = 0, channels: int | None = None) -> None:
        super().__init__()
        check_resolution(resolution, _DISCRIMINATORS)
        powers, halving, usual = _DISCRIMINATORS[resolution]
        self.resolution, self.num_classes = resolution, num_classes
        self.channels = usual if channels is None else channels
        widths = [self.channels >> power for power in powers]
        require_positive(**{f"channels >> {powers[0]}": widths[0]})
        self.blocks = nn.ModuleList([FirstDownBlock(widths[0])])
        for number in range(1, len(widths)):
            self.blocks.append(DownBlock(widths[number - 1], widths[number], number < halving))
        self.head = Head(self.channels, num_classes)

    def stages(self) -> Mapping[str, nn.Module]:
        """``block1`` ..., then ``head``."""
        return {f"block{number}": block for number, block in enumerate(self.blocks, 1)} | {"head": self.head}
