"""FastGAN's discriminator: two branches, and decoders that rebuild real images from its maps.

Liu et al. 2021, section 3.2, wired as the original's code wires it: excitations and the decoder of the small
branch are in no equation of the paper.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.base import Discriminator, pyramid_depth, require_positive
from gansharing.networks.fastgan_layers import (
    HIGHEST,
    LOWEST,
    MULTIPLES,
    Excitation,
    UpBlock,
    conv,
    initialise,
    small_size,
    width,
)

_SMALLEST, _PART = 8, 16  # sizes of the last maps, and of the map whose quadrants are decoded


class Maps(NamedTuple):
    """What the discriminator sees in images.

    Attributes:
        big: The big branch's maps ``(N, C, size, size)`` by their size.
        small: The small branch's last, ``(N, C', 8, 8)``.
    """

    big: Mapping[int, Tensor]
    small: Tensor

    @property
    def features(self) -> Tensor:
        """The big branch's last map, averaged over its places: ``(N, C)``."""
        return self.big[_SMALLEST].mean((2, 3))


class Reconstructions(NamedTuple):
    """Images that the decoders make, or what they should: ``(N, 3, S, S)`` in [-1, 1] each.

    S is 128 px, or half the resolution of 128 px and less.

    Attributes:
        whole: From the big branch's last map.
        small: From the small branch's last map.
        part: Of one quadrant, from that quadrant of the big branch's map of 16 px.
    """

    whole: Tensor
    small: Tensor
    part: Tensor


def quadrant_of(x: Tensor, quadrant: int) -> Tensor:
    """A quarter of ``(N, C, H, W)``: 0 top left, 1 top right, 2 bottom left, 3 bottom right."""
    rows, columns = divmod(quadrant, 2)
    return x.chunk(2, 2)[rows].chunk(2, 3)[columns]


def _lrelu() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """Convolution, batch norm, LeakyReLU."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs), _lrelu())


class ResidualDown(nn.Module):
    """Halves height and width: the mean of two convolutions and of a pooled 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(_unit(inputs, outputs, 4, 2, 1), _unit(outputs, outputs, 3, padding=1))
        self.direct = _unit(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H/2, W/2)``."""
        return (self.main(x) + self.direct(F.avg_pool2d(x, 2))) / 2


class Decoder(nn.Module):
    """Map of 8 px to an image of ``size`` px in [-1, 1], with ``channels`` at 128 px."""

    def __init__(self, inputs: int, size: int, channels: int) -> None:
        super().__init__()
        widths = [width(multiple, channels) for s, multiple in MULTIPLES.items() if _SMALLEST < s <= size]
        self.blocks = nn.Sequential(*(UpBlock(i, o) for i, o in zip([inputs, *widths], widths, strict=False)))
        self.to_image = conv(widths[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, 8, 8)`` to ``(N, 3, size, size)``."""
        return self.to_image(self.blocks(x)).tanh()


class FastGANDiscriminator(Discriminator):
    """FastGAN's discriminator: 11,526,160 parameters at 256 px, 11,526,496 at 512, 11,528,192 at 1024.

    A map's channels follow from its size alone. The original has 256, 512 and 1024 px; below, the big branch
    starts at the map of the image's size, the small one sees half the size, and what is left out is: blocks
    of larger maps, excitations by them, the decoders' last blocks.

    Args:
        resolution: 32 to 1024 px.
        base_channels: Channels at 64 px; at least 8 at 1024 px, 4 at 512 and 256, 2 at 128.
        skip: Have the excitations, which the original's code has here too.
        decoders: Have the decoders, which only auto-encoding needs.
        decoder_channels: Theirs at 128 px; 32 in the original, whatever ``base_channels`` is.

    Raises:
        UserError: The resolution is none of these, or ``base_channels`` leaves a layer empty.
    """

    def __init__(
        self,
        resolution: int = 256,
        base_channels: int = 64,
        skip: bool = True,
        decoders: bool = True,
        decoder_channels: int = 32,
    ) -> None:
        super().__init__()
        pyramid_depth(resolution, LOWEST, HIGHEST)
        require_positive(base_channels=base_channels, decoder_channels=decoder_channels)
        self.resolution, self.small = resolution, small_size(resolution)
        top = min(resolution, 256)
        sizes = [top >> step for step in range(top.bit_length()) if top >> step >= _SMALLEST]
        widths = {size: width(64 / size, base_channels) for size in sizes}
        self.start = _start(resolution, base_channels, widths[top])
        self.blocks = nn.ModuleDict({str(s): ResidualDown(widths[2 * s], widths[s]) for s in sizes[1:]})
        self.excitations = nn.ModuleDict(
            {str(s): Excitation(widths[8 * s], widths[s]) for s in sizes if skip and 8 * s in widths}
        )
        hidden = 2 * widths[_SMALLEST]
        self.to_score = nn.Sequential(_unit(widths[_SMALLEST], hidden, 1), conv(hidden, 1, 4))

        # The small branch is half as wide at a map's size.
        first = self.small // 2
        thin = {s: width(32 / s, base_channels) for s in sizes if s <= first}
        self.small_start = nn.Sequential(conv(3, thin[first], 4, 2, 1), _lrelu())
        self.small_blocks = nn.ModuleDict(
            {str(s): _unit(thin[2 * s], thin[s], 4, 2, 1) for s in thin if s < first}
        )
        self.small_to_score = conv(thin[_SMALLEST], 1, 4)

        self.feature_channels = widths[_SMALLEST]
        self.has_decoders = decoders
        if decoders:
            self.decoder = Decoder(widths[_SMALLEST], self.small, decoder_channels)
            self.small_decoder = Decoder(thin[_SMALLEST], self.small, decoder_channels)
            self.part_decoder = Decoder(widths[_PART], self.small, decoder_channels)
        initialise(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """What makes the maps of a size, in both branches, a stage a size; ``to_score``; ``decoders``."""
        top, first = min(self.resolution, 256), str(self.small // 2)
        parts: dict[str, list[nn.Module]] = {str(top): [self.start]}
        for size, block in self.blocks.items():
            held = [self.excitations, self.small_blocks]
            parts[size] = [block, *(modules[size] for modules in held if size in modules)]
        parts[first].append(self.small_start)
        stages: dict[str, nn.Module] = {f"{size}px": nn.ModuleList(held) for size, held in parts.items()}
        stages["to_score"] = nn.ModuleList([self.to_score, self.small_to_score])
        if not self.has_decoders:
            return stages
        decoders = [self.decoder, self.small_decoder, self.part_decoder]
        return stages | {"decoders": nn.ModuleList(decoders)}

    def forward(self, images: Tensor | tuple[Tensor, Tensor], labels: Tensor | None = None) -> Tensor:
        """Score images, or pairs as the generator's two heads give them.

        Args:
            images: ``(N, 3, resolution, resolution)``, whose pixels the small branch sees every so many; or
                these and ``(N, 3, S, S)`` for the small branch, see :class:`Reconstructions`.
            labels: Ignored.

        Returns:
            ``(N, 50)``: logits of 5x5 patches by the big branch, then by the small one. The original's
            losses are means over all of them.
        """
        return self.score(self.encode(images))

    def score_and_reconstruct(
        self, images: Tensor | tuple[Tensor, Tensor], quadrant: int
    ) -> tuple[Tensor, Reconstructions]:
        """Score images and rebuild them from the same maps, as the original does with real images.

        Args:
            images: See :meth:`forward`.
            quadrant: Which part to rebuild: 0 top left, 1 top right, 2 bottom left, 3 bottom right.

        Returns:
            The scores ``(N, 50)`` and the three reconstructions; :meth:`targets` is what they should be.
        """
        maps = self.encode(images)
        return self.score(maps), self.reconstruct(maps, quadrant)

    def reconstruct(self, maps: Maps, quadrant: int) -> Reconstructions:
        """Rebuild the images of these maps, one quadrant of them included.

        Raises:
            UserError: It was made without decoders.
        """
        if not self.has_decoders:
            raise UserError("this FastGANDiscriminator has no decoders; auto-encoding needs decoders: true")
        return Reconstructions(
            self.decoder(maps.big[_SMALLEST]),
            self.small_decoder(maps.small),
            self.part_decoder(quadrant_of(maps.big[_PART], quadrant)),
        )

    def targets(self, images: Tensor, quadrant: int) -> Reconstructions:
        """What the decoders should give for ``(N, 3, resolution, resolution)``: nearest pixels, smaller."""
        whole = self._resized(images)
        return Reconstructions(whole, whole, self._resized(quadrant_of(images, quadrant)))

    def _resized(self, images: Tensor) -> Tensor:
        return F.interpolate(images, (self.small, self.small), mode="nearest")

    def encode(self, images: Tensor | tuple[Tensor, Tensor]) -> Maps:
        """What both branches see in images or pairs; see :meth:`forward`."""
        big, small = (images, self._resized(images)) if isinstance(images, Tensor) else images
        x = self.start(big)
        maps = {x.shape[-1]: x}
        for name, block in self.blocks.items():
            size = int(name)
            x = block(x)
            if name in self.excitations:
                x = self.excitations[name](maps[8 * size], x)
            maps[size] = x
        small = self.small_start(small)
        for block in self.small_blocks.values():
            small = block(small)
        return Maps(maps, small)

    def score(self, maps: Maps) -> Tensor:
        """Scores ``(N, 50)`` of the images of these maps."""
        scores = self.to_score(maps.big[_SMALLEST]), self.small_to_score(maps.small)
        return torch.cat([score.flatten(1) for score in scores], 1)


def _start(resolution: int, base_channels: int, outputs: int) -> nn.Sequential:
    """Image to the first map, of 256 px at most."""
    if resolution <= 256:
        return nn.Sequential(conv(3, outputs, 3, padding=1), _lrelu())
    if resolution == 512:
        return nn.Sequential(conv(3, outputs, 4, 2, 1), _lrelu())
    first = width(1 / 8, base_channels)
    return nn.Sequential(conv(3, first, 4, 2, 1), _lrelu(), _unit(first, outputs, 4, 2, 1))
