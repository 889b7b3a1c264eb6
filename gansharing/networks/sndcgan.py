"""SNDCGAN: the plain networks of Miyato et al. (2018, Table 3), as Hou et al. (2021) train them."""

from collections.abc import Mapping

from torch import Tensor, nn

from gansharing.networks.base import Features, Generator, require_positive
from gansharing.networks.piecewise import leaky_relu
from gansharing.networks.sngan import check_resolution
from gansharing.networks.sngan_layers import StagedDiscriminator, convolution, initialised

# By resolution: side of the coarsest features, px; how often it is doubled; channels there.
_SIZES = {32: (4, 3, 512), 48: (6, 3, 512), 64: (4, 4, 1024)}


class UpBlock(nn.Module):
    """Transposed convolution, batch norm, ReLU: doubles height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = initialised(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, 2H, 2W)``."""
        return self.norm(self.conv(x)).relu()


class SNDCGANGenerator(Generator):
    """Generator without residual blocks: 3,812,355 parameters at 32 px.

    Args:
        resolution: 32, 48 or 64 px.
        latent_dim: Length of a latent.
        channels: Of the first features, halved by every block; by default 512, at 64 px 1024.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    channel_arguments = ("channels",)

    def __init__(self, resolution: int = 32, latent_dim: int = 128, channels: int | None = None) -> None:
        super().__init__()
        check_resolution(resolution, _SIZES)
        self.bottom, doublings, usual = _SIZES[resolution]
        self.resolution, self.latent_dim = resolution, latent_dim
        self.channels = usual if channels is None else channels
        widths = [self.channels >> power for power in range(doublings + 1)]
        require_positive(latent_dim=latent_dim, **{f"channels >> {doublings}": widths[-1]})
        self.first = initialised(nn.Linear(latent_dim, widths[0] * self.bottom**2))
        self.blocks = nn.ModuleList(
            UpBlock(inputs, outputs) for inputs, outputs in zip(widths[:-1], widths[1:], strict=True)
        )
        self.to_rgb = convolution(widths[-1], 3)

    def stages(self) -> Mapping[str, nn.Module]:
        """``first``, ``block1`` ..., ``to_rgb``."""
        blocks = {f"block{number}": block for number, block in enumerate(self.blocks, 1)}
        return {"first": self.first, **blocks, "to_rgb": self.to_rgb}

    def features(self) -> list[Features]:
        """Those before and behind each block."""
        written, found = ["first"], []
        for block in (f"blocks.{number}" for number in range(len(self.blocks))):
            found.append(Features(written, [f"{block}.conv"]))
            written = [f"{block}.conv", f"{block}.norm"]
        return [*found, Features(written, ["to_rgb"])]

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents ``(N, latent_dim)`` to images ``(N, 3, H, H)`` in [-1, 1]; labels are ignored."""
        x = self.first(latent).unflatten(1, (-1, self.bottom, self.bottom))
        for block in self.blocks:
            x = block(x)
        return self.to_rgb(x).tanh()


class DownBlock(nn.Module):
    """Convolution with spectral norm, LeakyReLU(0.1)."""

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        kernel, stride = (4, 2) if down else (3, 1)
        self.conv = convolution(inputs, outputs, kernel, stride, spectral=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, halved if ``down``."""
        return leaky_relu(self.conv(x), 0.1)


class FlatHead(nn.Module):
    """A linear layer on all features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = initialised(nn.Linear(features, 1), spectral=True)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map ``(N, C, H, W)`` to logits ``(N,)``; labels are ignored."""
        return self.linear(x.flatten(1))[:, 0]


class SNDCGANDiscriminator(StagedDiscriminator):
    """Discriminator of spectrally normalised convolutions: 2,935,873 parameters at 32 px.

    Args:
        resolution: 32, 48 or 64 px.
        channels: Of the last convolution; by default 512, at 64 px 1024.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    channel_arguments = ("channels",)

    def __init__(self, resolution: int = 32, channels: int | None = None) -> None:
        super().__init__()
        check_resolution(resolution, _SIZES)
        bottom, halvings, usual = _SIZES[resolution]
        self.resolution = resolution
        self.channels = usual if channels is None else channels
        widths = [self.channels >> power for power in range(halvings, -1, -1)]
        require_positive(**{f"channels >> {halvings}": widths[0]})
        self.blocks = nn.ModuleList([DownBlock(3, widths[0], down=False)])
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            self.blocks += [DownBlock(inputs, inputs, down=True), DownBlock(inputs, outputs, down=False)]
        self.head = FlatHead(self.channels * bottom**2)

    def stages(self) -> Mapping[str, nn.Module]:
        """A stage a convolution, ``block1`` ..., then ``head``."""
        return {f"block{number}": block for number, block in enumerate(self.blocks, 1)} | {"head": self.head}
