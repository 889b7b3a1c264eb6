"""DCGAN (Radford et al. 2016), and the discriminator it shares with Spectral Style-DCGAN."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum

from gansharing.networks.base import Discriminator, Generator, pyramid_depth, require_positive
from gansharing.networks.init import dcgan_init


def generator_channels(resolution: int, base_channels: int) -> list[int]:
    """Channels after each transposed convolution but the last, from 4 px up.

    At 64 px and base 64 this is DCGAN's [512, 256, 128, 64]; one level fewer or more at 32 and 128 px.
    """
    depth = pyramid_depth(resolution)
    require_positive(base_channels=base_channels)
    return [base_channels * 2 ** (depth - 1 - level) for level in range(depth)]


class UpBlock(nn.Module):
    """Transposed convolution, batch norm, ReLU: ``(N, C, H, W)`` to ``(N, C', 2H, 2W)``, or 1 px to 4 px."""

    def __init__(self, in_channels: int, out_channels: int, first: bool) -> None:
        super().__init__()
        stride, padding = (1, 0) if first else (2, 1)
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample ``x``."""
        return self.norm(self.conv(x)).relu()


class DCGANGenerator(Generator):
    """DCGAN generator: 3,576,704 parameters at 64 px, as counted by SSD (2024, Table 1).

    Args:
        resolution: 32, 64 or 128 px.
        latent_dim: Length of the latent.
        base_channels: Channels before the last layer; doubled per level towards 4 px.
    """

    def __init__(self, resolution: int = 64, latent_dim: int = 100, base_channels: int = 64) -> None:
        super().__init__()
        require_positive(latent_dim=latent_dim)
        self.resolution, self.latent_dim = resolution, latent_dim
        channels = generator_channels(resolution, base_channels)
        inputs = [latent_dim, *channels[:-1]]
        self.blocks = nn.ModuleList(
            UpBlock(i, o, first=level == 0) for level, (i, o) in enumerate(zip(inputs, channels, strict=True))
        )
        self.to_rgb = nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1, bias=False)
        dcgan_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """One stage a resolution, then the layer that makes the image."""
        return {f"{4 * 2**level}px": block for level, block in enumerate(self.blocks)} | {
            "to_rgb": self.to_rgb
        }

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents ``(N, latent_dim)`` to images ``(N, 3, H, H)`` in [-1, 1]."""
        x = latent[:, :, None, None]
        for block in self.blocks:
            x = block(x)
        return self.to_rgb(x).tanh()


class DownBlock(nn.Module):
    """Strided convolution, optional batch norm, LeakyReLU: halves height and width."""

    def __init__(self, in_channels: int, out_channels: int, norm: bool, spectral_norm: bool) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        if spectral_norm:
            normalise_spectrum(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Downsample ``x``."""
        return nn.functional.leaky_relu(self.norm(self.conv(x)), 0.2)


class DCGANDiscriminator(Discriminator):
    """DCGAN discriminator, optionally spectrally normalised: 2,765,568 parameters at 64 px.

    Spectral Style-DCGAN (2024, A.5.2) uses it with spectral norm followed by batch norm. Its text says
    "5-conv CNN that uses SN"; its code normalises the three middle convolutions only.

    Args:
        resolution: 32, 64 or 128 px.
        base_channels: Channels after the first layer; doubled per level.
        spectral_norm: ``none``, ``middle`` (all but the first and the last convolution) or ``all``.
        batch_norm: Batch norm on the middle layers.
        init: ``dcgan`` draws weights from N(0, 0.02), ``torch`` keeps PyTorch's default.
    """

    def __init__(
        self,
        resolution: int = 64,
        base_channels: int = 64,
        spectral_norm: Literal["none", "middle", "all"] = "none",
        batch_norm: bool = True,
        init: Literal["dcgan", "torch"] = "dcgan",
    ) -> None:
        super().__init__()
        require_positive(base_channels=base_channels)
        self.resolution = resolution
        channels = [base_channels * 2**level for level in range(pyramid_depth(resolution))]
        inputs = [3, *channels[:-1]]
        self.blocks = nn.ModuleList(
            DownBlock(
                i,
                o,
                norm=batch_norm and level > 0,
                spectral_norm=spectral_norm == "all" or (spectral_norm == "middle" and level > 0),
            )
            for level, (i, o) in enumerate(zip(inputs, channels, strict=True))
        )
        self.to_score: nn.Module = nn.Conv2d(channels[-1], 1, 4, 1, 0, bias=False)
        if spectral_norm == "all":
            normalise_spectrum(self.to_score)
        if init == "dcgan":
            dcgan_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """One stage per convolution, named by the resolution it reads, then the score."""
        names = [f"{self.resolution // 2**level}px" for level in range(len(self.blocks))]
        return dict(zip(names, self.blocks, strict=True)) | {"to_score": self.to_score}

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images ``(N, 3, H, H)``; logits of shape ``(N,)``."""
        x = images
        for block in self.blocks:
            x = block(x)
        return self.to_score(x).flatten()
