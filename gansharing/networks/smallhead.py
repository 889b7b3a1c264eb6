"""SmallHead: a styled head before the last groups of a GP-GAN generator (Zhao et al. 2020, section 3.2).

Widths, initialisation and the two damped gradients are those of the original's code.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.networks.base import Generator, pyramid_depth, require_positive
from gansharing.networks.gpgan import add_group, image_of, lrelu, stages_of

Noise = Literal["random", "const", "none"]
_GROUPS = [3, 4, 5]  # of GP-GAN's six; with conv_img its groups 4 to 1, counted from the image
_STD = 0.1  # of the linear layers' initial weights


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.normal_(0.0, _STD)
        layer.bias.zero_()
    return layer


class StyleMapping(nn.Module):
    """Latent to style: the latent at a mean square of one, then linear layers with LeakyReLU(0.2)."""

    def __init__(self, latent_dim: int, style_dim: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        for layer in range(layers):
            self.add_module(f"fc{layer}", _linear(style_dim if layer else latent_dim, style_dim))

    def forward(self, latent: Tensor) -> Tensor:
        """Map ``(N, latent_dim)`` to ``(N, style_dim)``."""
        w = latent / (latent.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for layer in range(self.layers):
            w = lrelu(self.get_submodule(f"fc{layer}")(w))
        return w


class Noise2d(nn.Module):
    """Adds one map of noise an image, weighted by channel."""

    const: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(channels))
        self.register_buffer("const", torch.randn(size, size))

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        """Add to ``(N, C, H, W)``."""
        if noise == "none":
            return x
        drawn = noise == "random"
        maps = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype) if drawn else self.const
        return x + self.weight[:, None, None] * maps


class ClampedAdaIN(nn.Module):
    """Adaptive instance norm whose gains pass at most the unit gradient to the features.

    In value ``gamma n + beta`` with ``n`` the instance-normalised features; the gradient to ``n`` sees
    ``gamma`` clamped to [-1, 1], the gradient to ``gamma`` is whole.
    """

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.style = _linear(style_dim, 2 * channels)
        with torch.no_grad():
            self.style.bias[:channels] = 1

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Style ``(N, C, H, W)`` by ``(N, style_dim)``."""
        gamma, beta = self.style(w)[:, :, None, None].chunk(2, 1)
        normal, clamped = F.instance_norm(x), gamma.clamp(-1, 1)
        return clamped * normal + normal.detach() * (gamma - clamped) + beta


class DampedGain(nn.Module):
    """The head's last layer: a layer norm over each map, then a large gain with a small gradient.

    In value ``(weight + 0.01) n + beta``; the features get the gradient through the 0.01 alone. ``weight``
    starts near ``gain``, 1000 in the original, where the head learns from a hundred-thousandth of its true
    gradient.
    """

    def __init__(self, channels: int, size: int, gain: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm([size, size])
        self.weight = nn.Parameter(gain + gain / 1000 * torch.randn(channels))
        self.beta = nn.Parameter(gain / 1000 * torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        normal = self.norm(x)
        return 0.01 * normal + normal.detach() * self.weight[:, None, None] + self.beta[:, None, None]


class StyleBlock(nn.Module):
    """Two styled convolutions beside a learned shortcut; doubles height and width.

    ``conv_s(x) + 0.1 branch``, the branch being twice LeakyReLU, convolution, noise, adaptive instance norm.
    """

    def __init__(self, channels: int, style_dim: int, size: int) -> None:
        super().__init__()
        self.conv_0 = nn.ConvTranspose2d(channels, channels, 4, 2, 1)
        self.noise_0, self.adain_0 = Noise2d(channels, size), ClampedAdaIN(channels, style_dim)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.noise_1, self.adain_1 = Noise2d(channels, size), ClampedAdaIN(channels, style_dim)
        self.conv_s = nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False)
        assert self.conv_1.bias is not None
        nn.init.zeros_(self.conv_1.bias)

    def forward(self, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
        """Map ``(N, C, H, W)`` and styles ``(N, style_dim)`` to ``(N, C, 2H, 2W)``."""
        branch = self.adain_0(self.noise_0(self.conv_0(lrelu(x)), noise), w)
        branch = self.adain_1(self.noise_1(self.conv_1(lrelu(branch)), noise), w)
        return torch.add(self.conv_s(x), branch, alpha=0.1)


class SmallHeadGenerator(Generator):
    """Styled head of 512 channels up to 16 px, then groups 4 to 1 of a GP-GAN generator up to 128 px.

    Of its 27,610,052 parameters at ``latent_dim=64`` the last four stages, 4,046,275, have the names and
    shapes of :class:`~gansharing.networks.gpgan.GPGANGenerator`'s.

    Args:
        resolution: 32 to 256 px; the original has 128 alone. The head starts at a 32nd of it.
        latent_dim: Length of a latent.
        style_dim: Length of a style.
        mapping_layers: Layers from the latent to the style.
        base_channels: Channels before ``conv_img``; the head has eight times as many.
        gain: Deviation of the features that the head hands on. It hardly moves in training, so it must be
            near that of the source's features before ``resnet_3``; 1000 is the original's.

    Raises:
        UserError: The resolution is none of these, or a size leaves a layer empty.
    """

    def __init__(
        self,
        resolution: int = 128,
        latent_dim: int = 64,
        style_dim: int = 256,
        mapping_layers: int = 8,
        base_channels: int = 64,
        gain: float = 1000.0,
    ) -> None:
        super().__init__()
        pyramid_depth(resolution, lowest=32, highest=256)
        require_positive(
            latent_dim=latent_dim,
            style_dim=style_dim,
            mapping_layers=mapping_layers,
            base_channels=base_channels,
        )
        self.resolution, self.latent_dim = resolution, latent_dim
        self.size, width = resolution // 32, 8 * base_channels
        self.mapping = StyleMapping(latent_dim, style_dim, mapping_layers)
        # The original's label embedding reaches no output; its files and its published counts have it.
        self.embedding = nn.Parameter(torch.ones(1, 1))
        self.fc = nn.Linear(latent_dim, width * self.size**2)
        self.style_0 = StyleBlock(width, style_dim, 2 * self.size)
        self.style_1 = StyleBlock(width, style_dim, 4 * self.size)
        self.gain = DampedGain(width, 4 * self.size, gain)
        for group in _GROUPS:
            outputs = width >> (group - 2)
            add_group(self, group, [2 * outputs, outputs, outputs])
        self.conv_img = nn.Conv2d(base_channels, 3, 3, padding=1)

    def stages(self) -> Mapping[str, nn.Module]:
        """``mapping.fc0`` ..., ``fc``, ``style_0``, ``style_1``, ``gain``; then GP-GAN's general stages.

        Those are ``resnet_3`` to ``resnet_5`` and ``conv_img``: ``FreezeLower(4)`` trains the head.
        """
        stages = {f"mapping.{name}": layer for name, layer in self.mapping.named_children()}
        stages["fc"] = nn.ParameterList([self.embedding, *self.fc.parameters()])
        stages |= {"style_0": self.style_0, "style_1": self.style_1, "gain": self.gain}
        return {**stages, **stages_of(self, _GROUPS), "conv_img": self.conv_img}

    def trained_buffers(self) -> list[str]:
        """None: the constant noise is drawn once."""
        return []

    def style_layers(self) -> Mapping[str, nn.Module]:
        """The linear layer of every adaptive instance norm."""
        return {name: module for name, module in self.named_modules() if name.endswith(".style")}

    def style(self, latent: Tensor) -> Tensor:
        """Map latents ``(N, latent_dim)`` to one style a block, the same twice: ``(N, 2, style_dim)``."""
        return self.mapping(latent)[:, None].expand(-1, 2, -1)

    def content(self, latent: Tensor) -> Tensor:
        """Map latents ``(N, latent_dim)`` to the coarsest features ``(N, C, size, size)``."""
        return self.fc(latent).unflatten(1, (-1, self.size, self.size))

    def synthesis(self, content: Tensor, styles: Tensor, noise: Noise | None = None) -> Tensor:
        """Features of :meth:`content` and styles of :meth:`style`, also of different latents, to images.

        Args:
            content: ``(N, C, size, size)``.
            styles: ``(N, 2, style_dim)``, one a block.
            noise: See :meth:`forward`.

        Returns:
            ``(N, 3, resolution, resolution)`` in [-1, 1].
        """
        chosen = noise or ("random" if self.training else "const")
        x = self.style_1(self.style_0(content, styles[:, 0], chosen), styles[:, 1], chosen)
        return image_of(self, self.gain(x), _GROUPS)

    def forward(self, latent: Tensor, labels: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """Generate images.

        Args:
            latent: ``(N, latent_dim)``.
            labels: Ignored.
            noise: ``random`` draws noise, ``const`` takes the network's own, ``none`` adds none; by default
                random in train mode and const in eval mode. The original draws in eval mode too.

        Returns:
            ``(N, 3, resolution, resolution)`` in [-1, 1].
        """
        return self.synthesis(self.content(latent), self.style(latent), noise)
