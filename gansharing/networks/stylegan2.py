"""StyleGAN2's generator (Karras et al. 2020): mapping, styled convolutions, skip connections in RGB."""

from collections.abc import Mapping as MappingABC
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks.base import Features, Generator, pyramid_depth, require_positive
from gansharing.networks.stylegan2_layers import Mapping, Resample, StyledConv, ToRGB

Noise = Literal["random", "const", "none"]
W_AVG_DECAY = 0.995  # of the running mean of styles, per forward


def stylegan2_channels(resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """Channels at each resolution from 4 px up: ``min(channel_base // resolution, channel_max)``.

    Raises:
        UserError: The resolution is not a power of two in 8 ... 1024, or a layer would be empty.
    """
    depth = pyramid_depth(resolution, lowest=8, highest=1024)
    sizes = [4 * 2**level for level in range(depth + 1)]
    if channel_base < resolution:
        raise UserError(
            f"channel_base {channel_base} leaves no channel at {resolution} px; give at least that"
        )
    require_positive(channel_max=channel_max)
    return {size: min(channel_base // size, channel_max) for size in sizes}


class SynthesisBlock(nn.Module):
    """The layers of one resolution: ``conv0`` doubles, ``conv1`` refines, ``torgb`` adds to the image.

    The block of 4 px has a learned constant in place of ``conv0``.
    """

    def __init__(
        self, inputs: int | None, outputs: int, w_dim: int, resolution: int, clamp: float | None
    ) -> None:
        super().__init__()
        self.first = inputs is None
        if inputs is None:
            self.const = nn.Parameter(torch.randn(outputs, resolution, resolution))
        else:
            self.conv0 = StyledConv(inputs, outputs, w_dim, resolution, up=True, clamp=clamp)
            self.resample = Resample(gain=4.0)
        self.conv1 = StyledConv(outputs, outputs, w_dim, resolution, up=False, clamp=clamp)
        self.torgb = ToRGB(outputs, w_dim, clamp)

    def forward(
        self, x: Tensor | None, image: Tensor | None, styles: list[Tensor], noise: str
    ) -> tuple[Tensor, Tensor]:
        """Features and image of the resolution below, None at 4 px, to those of this one."""
        if x is None or image is None:
            x = self.const[None].expand(styles[0].shape[0], -1, -1, -1)
            x = self.conv1(x, styles[0], noise)
            return x, self.torgb(x, styles[1])
        x = self.conv1(self.conv0(x, styles[0], noise), styles[1], noise)
        image = self.resample.up(image)
        return x, image + self.torgb(x, styles[2])


class Synthesis(nn.Module):
    """Styles to images; blocks ``b4``, ``b8``, ... up to the resolution.

    Args:
        channels: Channels at each resolution, from 4 px up.
        w_dim: Length of a style.
        clamp: Limit of the magnitude of every layer's output.
    """

    def __init__(self, channels: MappingABC[int, int], w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.resolutions = list(channels)
        before: int | None = None
        for size, outputs in channels.items():
            self.add_module(f"b{size}", SynthesisBlock(before, outputs, w_dim, size, clamp))
            before = outputs

    @property
    def num_ws(self) -> int:
        """Styles an image takes: one a convolution, and one for the last ToRGB."""
        return 2 * len(self.resolutions)

    def block(self, size: int) -> Any:
        """The block of ``size`` px."""
        return self.get_submodule(f"b{size}")

    def forward(self, ws: Tensor, noise: Noise | None = None) -> Tensor:
        """Map styles ``(N, num_ws, w_dim)`` to images; the arguments are the generator's."""
        if ws.ndim != 3 or ws.shape[1] != self.num_ws:
            raise UserError(
                f"styles of shape {tuple(ws.shape)}; this generator takes (N, {self.num_ws}, w_dim)"
            )
        chosen = noise or ("random" if self.training else "const")
        # A block's ToRGB shares its style with the next block's first convolution.
        rows, first = list(ws.unbind(1)), 0
        x: Tensor | None = None
        image: Tensor | None = None
        for size in self.resolutions:
            x, image = self.block(size)(x, image, rows[first:], chosen)
            first += 1 if size == 4 else 2
        assert image is not None
        return image


class StyleGAN2Generator(Generator):
    """StyleGAN2's generator, configurations E (``channel_base=16384``) and F (32768).

    The state dict has the names of NVIDIA's PyTorch files, without the constant ``resample_filter``. Images
    are fp32, nominally in [-1, 1]: the range is learned, not enforced. In train mode a forward draws noise
    and style mixing from torch's global stream and moves ``mapping.w_avg`` towards its styles.

    Args:
        resolution: Power of two, 8 to 1024 px.
        latent_dim: Length of a latent.
        w_dim: Length of a style.
        num_classes: 0 for an unconditional generator.
        mapping_layers: Layers of the mapping network: 8 in the paper, 2 in NVIDIA's ``auto`` and ``cifar``.
        channel_base: Channels times resolution at high resolutions.
        channel_max: Most channels of a layer.
        mixing: Probability of style mixing in train mode: one cut for the whole batch, behind which the
            styles of other latents are used. The paper trains with 0.9.
        clamp: Limit of the magnitude of every convolution's output; 256 in NVIDIA's mixed-precision files.

    Raises:
        UserError: A size leaves a layer empty, or ``mixing`` is no probability.
    """

    channel_arguments = ("channel_base", "channel_max")

    def __init__(
        self,
        resolution: int = 256,
        latent_dim: int = 512,
        w_dim: int = 512,
        num_classes: int = 0,
        mapping_layers: int = 8,
        channel_base: int = 16384,
        channel_max: int = 512,
        mixing: float = 0.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        channels = stylegan2_channels(resolution, channel_base, channel_max)
        require_positive(latent_dim=latent_dim, w_dim=w_dim, mapping_layers=mapping_layers)
        if not 0 <= mixing <= 1:
            raise UserError(f"mixing is {mixing}; give a probability in [0, 1]")
        self.resolution, self.latent_dim, self.mixing = resolution, latent_dim, mixing
        self.channel_base, self.channel_max = channel_base, channel_max
        self.mapping = Mapping(latent_dim, w_dim, num_classes, mapping_layers)
        self.synthesis = Synthesis(channels, w_dim, clamp)

    @property
    def num_ws(self) -> int:
        """Number of styles an image takes, ``2 log2(resolution) - 2``."""
        return self.synthesis.num_ws

    def stages(self) -> MappingABC[str, nn.Module]:
        """``embed`` if conditional, ``fc0`` ..., ``b4.const``, ``b4.conv1``, ``b4.torgb``, ``b8.conv0`` ...

        A style's affine layer belongs to the convolution that it styles.
        """
        stages = dict(self.mapping.named_children())
        for size in self.synthesis.resolutions:
            block = self.synthesis.block(size)
            if block.first:
                stages["b4.const"] = nn.ParameterList([block.const])
            else:
                stages[f"b{size}.conv0"] = block.conv0
            stages |= {f"b{size}.conv1": block.conv1, f"b{size}.torgb": block.torgb}
        return stages

    def features(self) -> list[Features]:
        """Of every resolution those before ``conv1`` and those behind it; styles scale what is read."""
        sizes = self.synthesis.resolutions
        found = []
        for size, after in zip(sizes, [*sizes[1:], None], strict=True):
            block = f"synthesis.b{size}"
            first = block if size == sizes[0] else f"{block}.conv0"
            read = [f"{block}.torgb"] + ([] if after is None else [f"synthesis.b{after}.conv0"])
            found.append(Features([first, f"{block}.conv1.affine"], [f"{block}.conv1"]))
            found.append(Features([f"{block}.conv1", *(f"{name}.affine" for name in read)], read))
        return found

    def trained_buffers(self) -> list[str]:
        """The running mean of styles; the constant noise is drawn once."""
        return ["mapping.w_avg"]

    def style_layers(self) -> MappingABC[str, nn.Module]:
        """The affine layer of every convolution, by its name in the network."""
        return {name: module for name, module in self.named_modules() if name.endswith(".affine")}

    def latent_entry(self) -> nn.Module:
        """The mapping network: every latent enters through it, those of style mixing too."""
        return self.mapping

    def style(
        self, latent: Tensor, labels: Tensor | None = None, truncation: float = 1.0, cutoff: int | None = None
    ) -> Tensor:
        """Map latents to one style a layer.

        Args:
            latent: ``(N, latent_dim)``.
            labels: Class indices ``(N,)`` or weights ``(N, num_classes)``.
            truncation: Factor psi on the distance from the mean style; 1 changes nothing, 0 gives the mean.
            cutoff: Truncate the first ``cutoff`` layers only.

        Returns:
            ``(N, num_ws, w_dim)``.
        """
        w = self.mapping(latent, labels)
        if self.training:
            mean = w.detach().mean(0)
            self.mapping.w_avg.copy_(mean.lerp(self.mapping.w_avg, W_AVG_DECAY))
        ws = w[:, None].expand(-1, self.num_ws, -1)
        if self.training and torch.rand(()).item() < self.mixing:
            cut = int(torch.randint(1, self.num_ws, ()).item())
            other = self.mapping(torch.randn_like(latent), labels)
            ws = torch.cat([ws[:, :cut], other[:, None].expand(-1, self.num_ws - cut, -1)], 1)
        if truncation != 1:
            near = self.mapping.w_avg.lerp(ws[:, :cutoff], truncation)
            ws = near if cutoff is None else torch.cat([near, ws[:, cutoff:]], 1)
        return ws

    def forward(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """Generate images.

        Args:
            latent: ``(N, latent_dim)``.
            labels: Class indices ``(N,)`` or weights ``(N, num_classes)``.
            truncation: See :meth:`style`.
            cutoff: See :meth:`style`.
            noise: ``random`` draws noise, ``const`` takes the network's own, ``none`` adds none; by default
                random in train mode and const in eval mode.

        Returns:
            ``(N, 3, resolution, resolution)``, fp32.
        """
        return self.synthesis(self.style(latent, labels, truncation, cutoff), noise)
