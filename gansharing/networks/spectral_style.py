"""Spectral Style-DCGAN (Garg 2024): DCGAN's generator driven by AdaIN from a tiny mapping network."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.networks.base import Generator, require_positive
from gansharing.networks.dcgan import UpBlock, generator_channels


class StyleMapping(nn.Module):
    """Latent to style: unit-norm latent, then linear + LeakyReLU(0.2) layers (A.5.1).

    Args:
        latent_dim: Length of latent and style.
        layers: How often a layer is applied.
        shared: Apply one and the same layer each time, as the original code does, instead of ``layers``
            layers of their own, as the paper counts them.
    """

    def __init__(self, latent_dim: int, layers: int, shared: bool) -> None:
        super().__init__()
        self.repeats = layers if shared else 1
        self.layers = nn.ModuleList(nn.Linear(latent_dim, latent_dim) for _ in range(1 if shared else layers))

    def forward(self, latent: Tensor) -> Tensor:
        """Map ``(N, latent_dim)`` to styles of the same shape; the length of the latent does not matter."""
        style = F.normalize(latent, dim=1)
        for _ in range(self.repeats):
            for layer in self.layers:
                style = F.leaky_relu(layer(style), 0.2)
        return style


class AdaIN(nn.Module):
    """Adaptive instance norm: ``scale(w) * (x - mean) / sqrt(var + 1e-5) + shift(w)`` (A.5.1).

    Scale and shift are linear in the style with PyTorch's default initialisation: no "+ 1" on the scale.
    """

    def __init__(self, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Linear(latent_dim, channels)
        self.shift = nn.Linear(latent_dim, channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Normalise ``x`` ``(N or 1, C, H, W)`` and style it by ``(N, latent_dim)``."""
        x = F.instance_norm(x, eps=1e-5)
        return self.scale(style)[:, :, None, None] * x + self.shift(style)[:, :, None, None]


class StyleBlock(nn.Module):
    """Transposed convolution, AdaIN, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, latent_dim: int, first: bool) -> None:
        super().__init__()
        stride, padding = (1, 0) if first else (2, 1)
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride, padding, bias=False)
        self.adain = AdaIN(latent_dim, out_channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Upsample ``x`` and style it."""
        return self.adain(self.conv(x), style).relu()


class SpectralStyleGenerator(Generator):
    """Generator of Spectral Style-DCGAN; paper and code differ, and both readings are here.

    ``paper``: mapping ``separate``, trunk input ``style``: 3,809,104 parameters at 64 px.
    ``official``: mapping ``shared``, trunk input ``constant``: 3,778,904; reads the original's files.

    Args:
        resolution: 32, 64 or 128 px.
        latent_dim: Length of latent and style.
        base_channels: Channels before the last layer; doubled per level towards 4 px.
        mapping: Four layers of their own, or one applied four times.
        trunk_input: What the first transposed convolution reads: the style, or a learned constant.
        style: ``adain``, or ``batch_norm`` for the ablation "mapping without AdaIN" (A.6.2), which needs
            ``trunk_input="style"``, or nothing would vary.
    """

    def __init__(
        self,
        resolution: int = 64,
        latent_dim: int = 100,
        base_channels: int = 64,
        mapping: Literal["separate", "shared"] = "separate",
        trunk_input: Literal["style", "constant"] = "style",
        style: Literal["adain", "batch_norm"] = "adain",
    ) -> None:
        super().__init__()
        if style == "batch_norm" and trunk_input == "constant":
            raise ValueError("without AdaIN the latent enters only through trunk_input='style'")
        require_positive(latent_dim=latent_dim)
        self.resolution, self.latent_dim, self.adaptive = resolution, latent_dim, style == "adain"
        self.mapping = StyleMapping(latent_dim, layers=4, shared=mapping == "shared")
        self.constant = nn.Parameter(torch.randn(1, latent_dim, 1, 1)) if trunk_input == "constant" else None
        channels = generator_channels(resolution, base_channels)
        sizes = list(enumerate(zip([latent_dim, *channels[:-1]], channels, strict=True)))
        self.blocks = nn.ModuleList(
            StyleBlock(i, o, latent_dim, first=level == 0)
            if self.adaptive
            else UpBlock(i, o, first=level == 0)
            for level, (i, o) in sizes
        )
        self.to_rgb = nn.ConvTranspose2d(channels[-1], 3, 4, 2, 1, bias=False)

    def stages(self) -> Mapping[str, nn.Module]:
        """Mapping, one stage a resolution, then the layer that makes the image."""
        stages: dict[str, nn.Module] = {"mapping": self.mapping}
        if self.constant is not None:
            stages["constant"] = nn.ParameterList([self.constant])
        stages |= {f"{4 * 2**level}px": block for level, block in enumerate(self.blocks)}
        return stages | {"to_rgb": self.to_rgb}

    def style_layers(self) -> Mapping[str, nn.Module]:
        """Scale and shift of every AdaIN."""
        return {name: layer for name, layer in self.named_modules() if name.endswith((".scale", ".shift"))}

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents ``(N, latent_dim)`` to images ``(N, 3, H, H)`` in [-1, 1]."""
        style = self.mapping(latent)
        x = style[:, :, None, None] if self.constant is None else self.constant
        for block in self.blocks:
            x = block(x, style) if self.adaptive else block(x)
        return self.to_rgb(x).tanh()
