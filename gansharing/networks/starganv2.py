"""StarGAN v2's generator (Choi et al. 2020, section 2 and appendix F): an image and a style to an image."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.base import Network, pyramid_depth
from gansharing.networks.starganv2_layers import (
    HIGHEST,
    LOWEST,
    ResidualBlock,
    StyledBlock,
    activation,
    conv,
    he_init,
    starganv2_channels,
)

# Sizes of the maps that the high-pass filter passes on, px, each with the number of its mask.
_MASKS = {32: 0, 64: 1, 128: 1}


class StarGANv2Generator(Network):
    """Translates images into a style: 33,892,995 parameters at 256 px, 43,467,395 with the high-pass filter.

    Residual blocks halve the image to 16 px, two more keep the size, styled ones double it again. There is no
    noise, and no tanh. With the high-pass filter the narrowest map has 8 px, styled blocks lose their
    shortcuts, and what is in given places of the image is passed by, through the filter.

    Args:
        resolution: 32 to 1024 px.
        style_dim: Length of a style.
        channel_base: Divided by the resolution, the channels at full resolution; 16384 in the original.
        channel_max: Most channels behind them; 512 in the original.
        high_pass: Divisor of the high-pass filter, 1 where the original has one (CelebA-HQ); 0 for none.

    Raises:
        UserError: There is no such resolution, the divisor is negative, or a size leaves a layer empty.
    """

    def __init__(
        self,
        resolution: int = 256,
        style_dim: int = 64,
        channel_base: int = 16384,
        channel_max: int = 512,
        high_pass: float = 0.0,
    ) -> None:
        super().__init__()
        if high_pass < 0:
            raise UserError(f"high_pass is {high_pass}; give a positive divisor, or 0 for no filter")
        self.resolution, self.style_dim, self.high_pass = resolution, style_dim, high_pass
        straight = high_pass > 0
        halvings = pyramid_depth(resolution, LOWEST, HIGHEST) - (1 if straight else 2)
        widths = starganv2_channels(resolution, channel_base, channel_max, halvings)
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.from_rgb = conv(3, widths[0])
        self.encode = nn.ModuleList(
            ResidualBlock(inputs, outputs, normalise=True, down=True) for inputs, outputs in steps
        )
        self.decode = nn.ModuleList()
        for _ in range(2):
            self.encode.append(ResidualBlock(widths[-1], widths[-1], normalise=True, down=False))
            self.decode.append(StyledBlock(widths[-1], widths[-1], style_dim, up=False, straight=straight))
        for outputs, inputs in reversed(steps):
            self.decode.append(StyledBlock(inputs, outputs, style_dim, up=True, straight=straight))
        norm = nn.InstanceNorm2d(widths[0], affine=True)
        self.to_rgb = nn.Sequential(norm, activation(), nn.Conv2d(widths[0], 3, 1))
        he_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """``from_rgb``, ``encode0`` ..., ``decode0`` ..., ``to_rgb``."""
        encode = {f"encode{number}": block for number, block in enumerate(self.encode)}
        decode = {f"decode{number}": block for number, block in enumerate(self.decode)}
        return {"from_rgb": self.from_rgb, **encode, **decode, "to_rgb": self.to_rgb}

    def style_layers(self) -> Mapping[str, nn.Module]:
        """The linear layer of every adaptive norm, by its name in the network."""
        return {name: module for name, module in self.named_modules() if name.endswith(".fc")}

    def forward(self, images: Tensor, style: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Translate images.

        Args:
            images: ``(N, 3, resolution, resolution)`` in [-1, 1].
            style: ``(N, style_dim)``, of the mapping network or the style encoder.
            masks: With a high-pass filter, where it acts: two batches ``(N, 1, h, w)`` in [0, 1], for maps of
                32 px, and for those of 64 and 128 px. The original has them of a network that finds faces'
                landmarks. Without masks nothing passes by.

        Returns:
            ``(N, 3, resolution, resolution)``, nominally in [-1, 1], unbounded.

        Raises:
            UserError: There are masks for a network without a high-pass filter.
        """
        if masks is not None and not self.high_pass:
            raise UserError("masks are for a network with a high-pass filter; build it with high_pass: 1.0")
        x = self.from_rgb(images)
        passed: dict[int, Tensor] = {}
        for block in self.encode:
            if masks is not None and x.shape[2] in _MASKS:
                passed[x.shape[2]] = self._filtered(x, masks[_MASKS[x.shape[2]]])
            x = block(x)
        for block in self.decode:
            x = block(x, style)
            if x.shape[2] in passed:
                x = x + passed[x.shape[2]]
        image: Tensor = self.to_rgb(x)
        return image

    def _filtered(self, x: Tensor, mask: Tensor) -> Tensor:
        """Eight times each pixel less its neighbours, of the map within the mask."""
        mask = F.interpolate(mask, x.shape[2:], mode="bilinear")
        kernel = torch.full((3, 3), -1 / self.high_pass, dtype=x.dtype, device=x.device)
        kernel[1, 1] = 8 / self.high_pass
        channels = x.shape[1]
        return F.conv2d(mask * x, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
