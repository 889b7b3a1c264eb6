"""What StarGAN v2 trains against its discriminator: generator, mapping and style encoder as one network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gansharing.networks.base import Network
from gansharing.networks.starganv2 import StarGANv2Generator
from gansharing.networks.starganv2_styles import StarGANv2Mapping, StarGANv2StyleEncoder


class StarGANv2Translator(Network):
    """Translates images into domains, in the style of a latent or of another image.

    Args:
        resolution: 32 to 1024 px.
        num_domains: Number of domains.
        latent_dim: Length of a latent.
        style_dim: Length of a style.
        hidden: Width of the mapping network's layers.
        channel_base: See :class:`~gansharing.networks.StarGANv2Generator`.
        channel_max: See there.

    Attributes:
        generator: Image and style to image.
        mapping: Latent and domain to style.
        style_encoder: Image and its domain to style.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    def __init__(
        self,
        resolution: int = 256,
        num_domains: int = 2,
        latent_dim: int = 16,
        style_dim: int = 64,
        hidden: int = 512,
        channel_base: int = 16384,
        channel_max: int = 512,
    ) -> None:
        super().__init__()
        self.resolution, self.num_domains, self.latent_dim = resolution, num_domains, latent_dim
        self.generator = StarGANv2Generator(resolution, style_dim, channel_base, channel_max)
        self.mapping = StarGANv2Mapping(latent_dim, style_dim, num_domains, hidden)
        self.style_encoder = StarGANv2StyleEncoder(
            resolution, style_dim, num_domains, channel_base, channel_max
        )

    def stages(self) -> Mapping[str, nn.Module]:
        """The parts' own: ``mapping.shared`` ..., ``style_encoder.from_rgb`` ..., ``generator.to_rgb``."""
        parts: dict[str, Network] = {
            "mapping": self.mapping,
            "style_encoder": self.style_encoder,
            "generator": self.generator,
        }
        return {
            f"{part}.{name}": stage for part, net in parts.items() for name, stage in net.stages().items()
        }

    def style_layers(self) -> Mapping[str, nn.Module]:
        """The generator's."""
        return {f"generator.{name}": layer for name, layer in self.generator.style_layers().items()}

    def sample_latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents ``(count, latent_dim)`` from N(0, I), by numbers that do not depend on the device."""
        latent = torch.randn(count, self.latent_dim, generator=generator)
        return latent.to(next(self.parameters()).device)

    def forward(self, images: Tensor, labels: Tensor, guide: Tensor) -> Tensor:
        """Translate images ``(N, 3, resolution, resolution)`` in [-1, 1].

        Args:
            images: What is translated.
            labels: Numbers of the domains to translate into ``(N,)``.
            guide: Latents ``(N, latent_dim)``, or images of these domains whose style is taken.

        Returns:
            As many images, nominally in [-1, 1].
        """
        return self.generator(images, self.style(guide, labels))

    def style(self, guide: Tensor, labels: Tensor) -> Tensor:
        """Styles ``(N, style_dim)`` in the domains ``labels``, of a guide as :meth:`forward` takes it."""
        found: Tensor = (self.mapping if guide.ndim == 2 else self.style_encoder)(guide, labels)
        return found
