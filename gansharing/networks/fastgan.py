"""FastGAN's generator (Liu et al. 2021, section 3.1), wired as the original's code wires it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks.base import Features, Generator, pyramid_depth, require_positive
from gansharing.networks.fastgan_layers import (
    HIGHEST,
    LOWEST,
    MULTIPLES,
    Excitation,
    GatedConv,
    Noise,
    Statistics,
    UpBlock,
    conv,
    initialise,
    small_size,
    width,
)

_NOISY = (8, 32, 128, 512)  # sizes whose block has two convolutions and noise
_EXCITED = {64: 4, 128: 8, 256: 16, 512: 32}  # by the map of which size


class Heads(NamedTuple):
    """What the generator's two heads give.

    Attributes:
        image: ``(N, 3, resolution, resolution)``.
        small: ``(N, 3, S, S)`` with S 128 px, or half the resolution of 128 px and less.
    """

    image: Tensor
    small: Tensor


class FastGANGenerator(Generator):
    """FastGAN's generator: 29,127,846 parameters at 256 px, 29,174,392 at 512, 29,176,512 at 1024.

    The original has 256, 512 and 1024 px. Below, the blocks and excitations of larger sizes are left out and
    the second head makes an image of half the size.

    Args:
        resolution: 32 to 1024 px.
        latent_dim: Length of a latent. The original trains with 256.
        base_channels: Channels at 128 px; at least 8 at 1024 px, 4 at 512, 2 at 256.
        tanh: ``official``, at 1024 px alone, as the original's code; or ``always``. Without it nothing bounds
            an image.
        noise: What eval mode adds unless :meth:`forward` is told: ``const``, its own maps, ``random`` ones as
            the original does, or ``none``. Train mode draws.
        batch_norm: Statistics of batch norm in eval mode, unless :meth:`forward` is told: ``running``, or the
            ``batch``'s, by which the original makes its samples.
        skip: Have the skip-layer excitations; without them it is the generator of the paper's baseline.
        spectral: Normalise spectra. Without, weights are used as they are stored: a width cut out of a
            slimmable generator is parts of weights that were normalised whole.

    Raises:
        UserError: The resolution is none of these, or ``base_channels`` leaves a layer empty.
    """

    channel_arguments = ("base_channels",)
    plain_arguments: Mapping[str, Any] = {"spectral": False}

    def __init__(
        self,
        resolution: int = 256,
        latent_dim: int = 256,
        base_channels: int = 64,
        tanh: Literal["official", "always"] = "official",
        noise: Noise = "const",
        batch_norm: Statistics = "running",
        skip: bool = True,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        pyramid_depth(resolution, LOWEST, HIGHEST)
        require_positive(latent_dim=latent_dim, base_channels=base_channels)
        self.resolution, self.latent_dim, self.base_channels = resolution, latent_dim, base_channels
        self.noise, self.batch_norm = noise, batch_norm
        self.bounded = tanh == "always" or resolution == 1024
        widths = {size: width(m, base_channels) for size, m in MULTIPLES.items() if size <= resolution}
        self.start = GatedConv(nn.ConvTranspose2d(latent_dim, 2 * widths[4], 4, bias=False))
        self.blocks = nn.ModuleDict(
            {
                str(size): UpBlock(widths[size // 2], channels, size if size in _NOISY else None)
                for size, channels in widths.items()
                if size > 4
            }
        )
        self.excitations = nn.ModuleDict(
            {
                str(size): Excitation(widths[source], widths[size])
                for size, source in _EXCITED.items()
                if skip and size in widths
            }
        )
        self.to_small = conv(widths[small_size(resolution)], 3, 1)
        self.to_image = conv(widths[resolution], 3, 3, padding=1)
        initialise(self, spectral)

    def stages(self) -> Mapping[str, nn.Module]:
        """``4px``, then a size a stage, its excitation included; ``to_small``, ``to_image``."""
        stages: dict[str, nn.Module] = {"4px": self.start}
        for size, block in self.blocks.items():
            excitation = [self.excitations[size]] if size in self.excitations else []
            stages[f"{size}px"] = nn.ModuleList([block, *excitation])
        return stages | {"to_small": self.to_small, "to_image": self.to_image}

    def features(self) -> list[Features]:
        """The map of each size, those between two convolutions of a block, those within excitations."""
        maps = {4: Features(["start.conv", "start.norm"], [])}
        found = []
        for name, block in self.blocks.items():
            size, convs = int(name), [f"blocks.{name}.convs.{n}" for n in range(len(block.convs))]  # type: ignore[arg-type]
            maps[size // 2].read.append(f"{convs[0]}.conv")
            if len(convs) == 2:
                found.append(Features([f"{convs[0]}.conv", f"{convs[0]}.norm"], [f"{convs[1]}.conv"]))
            maps[size] = Features([f"{convs[-1]}.conv", f"{convs[-1]}.norm"], [])
            if name in self.excitations:
                squeeze, expand = f"excitations.{name}.squeeze", f"excitations.{name}.expand"
                maps[_EXCITED[size]].read.append(squeeze)
                maps[size].written.append(expand)
                found.append(Features([squeeze], [expand]))
        maps[small_size(self.resolution)].read.append("to_small")
        maps[self.resolution].read.append("to_image")
        return [*maps.values(), *found]

    def gated_layers(self) -> list[str]:
        """Convolution and norm of every gated convolution."""
        gated = [name for name, module in self.named_modules() if isinstance(module, GatedConv)]
        return [f"{name}.{part}" for name in gated for part in ("conv", "norm")]

    def trained_buffers(self) -> list[str]:
        """Running statistics and spectral norm's vectors; the fixed noise is drawn once."""
        return [name for name in super().trained_buffers() if not name.endswith(".const")]

    def forward(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        noise: Noise | Sequence[Tensor] | None = None,
        batch_norm: Statistics | None = None,
    ) -> Tensor:
        """Generate images, the main head's.

        Args:
            latent: ``(N, latent_dim)``.
            labels: Ignored.
            noise: ``random``, ``const``, ``none``, or the maps themselves: ``(N or 1, 1, H, H)`` for two
                injections each at 8, 32, 128 and 512 px, as far as the resolution goes. By default random in
                train mode and the constructor's choice in eval mode.
            batch_norm: ``running`` or ``batch``, in eval mode; by default the constructor's choice.

        Returns:
            ``(N, 3, resolution, resolution)``, meant for [-1, 1]; see ``tanh``.

        Raises:
            UserError: ``noise`` has another number of maps.
        """
        return self.heads(latent, noise, batch_norm).image

    def heads(
        self,
        latent: Tensor,
        noise: Noise | Sequence[Tensor] | None = None,
        batch_norm: Statistics | None = None,
    ) -> Heads:
        """Generate images of both heads, as the discriminator is trained on; see :meth:`forward`."""
        return self._heads(self.maps(latent, noise, batch_norm))

    @property
    def excited(self) -> list[int]:
        """Sizes of the maps that coarse ones excite, px: 64 to 512 as far as the resolution goes."""
        return [int(size) for size in self.excitations]

    def maps(
        self,
        latent: Tensor,
        noise: Noise | Sequence[Tensor] | None = None,
        batch_norm: Statistics | None = None,
        exciting: Mapping[int, Tensor] | None = None,
    ) -> dict[int, Tensor]:
        """The features ``(N, C, H, H)`` by their size H; see :meth:`forward`.

        Args:
            latent: ``(N, latent_dim)``.
            noise: See :meth:`forward`.
            batch_norm: See :meth:`forward`.
            exciting: By the size of an excited map, what excites it in place of this latent's own coarse map.
        """
        noises, statistics, exciting = self._noises(noise), batch_norm or self.batch_norm, exciting or {}
        x = self.start(latent[:, :, None, None], statistics=statistics)
        maps = {4: x}
        for name, block in self.blocks.items():
            size = int(name)
            here, noises = noises[: block.injections], noises[block.injections :]  # type: ignore[index, misc]
            x = block(x, here, statistics)
            if name in self.excitations:
                x = self.excitations[name](exciting.get(size, maps[_EXCITED[size]]), x)
            maps[size] = x
        return maps

    def mix(
        self,
        content: Tensor,
        style: Tensor,
        sizes: Sequence[int],
        noise: Noise | Sequence[Tensor] | None = None,
        batch_norm: Statistics | None = None,
    ) -> Tensor:
        """Style mixing (appendix C): content's image, its maps of ``sizes`` excited by style's coarse maps.

        The original also takes content's map of 64 px without its excitation, so that an image mixed with
        itself is another one; here it is that image.

        Args:
            content: Latents ``(N, latent_dim)``.
            style: Latents ``(N, latent_dim)``.
            sizes: Which of :attr:`excited`; the original's are 128 px and more.
            noise: See :meth:`forward`.
            batch_norm: See :meth:`forward`.

        Returns:
            ``(N, 3, resolution, resolution)``.
        """
        coarse = self.maps(style, noise, batch_norm)
        exciting = {size: coarse[_EXCITED[size]] for size in sizes}
        return self._heads(self.maps(content, noise, batch_norm, exciting)).image

    def _heads(self, maps: Mapping[int, Tensor]) -> Heads:
        image, small = self.to_image(maps[self.resolution]), self.to_small(maps[small_size(self.resolution)])
        return Heads(image.tanh(), small.tanh()) if self.bounded else Heads(image, small)

    def _noises(self, noise: Noise | Sequence[Tensor] | None) -> list[Noise | Tensor]:
        places = 2 * sum(size <= self.resolution for size in _NOISY)
        if noise is None:
            noise = "random" if self.training else self.noise
        if isinstance(noise, str):
            return [noise] * places
        if len(noise) != places:
            raise UserError(f"noise has {len(noise)} maps; a generator of {self.resolution} px adds {places}")
        return list(noise)
