"""Where StarGAN v2's styles come from (Choi et al. 2020, section 2.1): latents, or images."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gansharing.networks.base import Network, require_positive
from gansharing.networks.starganv2_layers import he_init, of_domains, trunk


class StarGANv2Mapping(Network):
    """Maps latents to the styles of a domain: 796,672 parameters, and 820,800 a domain.

    Four layers that all domains share, then four of each domain's own, with ReLU between them.

    Args:
        latent_dim: Length of a latent, drawn from N(0, I).
        style_dim: Length of a style.
        num_domains: Number of domains.
        hidden: Width of the layers between; 512 in the original.

    Raises:
        UserError: A size is less than 1.
    """

    def __init__(
        self, latent_dim: int = 16, style_dim: int = 64, num_domains: int = 2, hidden: int = 512
    ) -> None:
        super().__init__()
        require_positive(latent_dim=latent_dim, style_dim=style_dim, num_domains=num_domains, hidden=hidden)
        self.latent_dim, self.num_domains = latent_dim, num_domains
        self.shared = nn.Sequential(*_layers([latent_dim, *[hidden] * 4]), nn.ReLU())
        self.unshared = nn.ModuleList(
            nn.Sequential(*_layers([*[hidden] * 4, style_dim])) for _ in range(num_domains)
        )
        he_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """``shared``, then ``domain0`` ..."""
        return {"shared": self.shared} | {f"domain{n}": head for n, head in enumerate(self.unshared)}

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents ``(N, latent_dim)`` to styles ``(N, style_dim)`` of the domains ``labels`` ``(N,)``.

        Raises:
            UserError: There are no labels.
        """
        x = self.shared(latent)
        return of_domains(torch.stack([head(x) for head in self.unshared], 1), labels)


class StarGANv2StyleEncoder(Network):
    """Reads the style of images as of their domain: 20,982,592 parameters at 256 px with four domains.

    Args:
        resolution: 32 to 1024 px.
        style_dim: Length of a style.
        num_domains: Number of domains.
        channel_base: Divided by the resolution, the channels at full resolution; 16384 in the original.
        channel_max: Most channels behind them; 512 in the original.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    def __init__(
        self,
        resolution: int = 256,
        style_dim: int = 64,
        num_domains: int = 2,
        channel_base: int = 16384,
        channel_max: int = 512,
    ) -> None:
        super().__init__()
        require_positive(style_dim=style_dim, num_domains=num_domains)
        self.resolution, self.num_domains = resolution, num_domains
        layers, features = trunk(resolution, channel_base, channel_max)
        self.shared = nn.Sequential(*layers)
        self.unshared = nn.ModuleList(nn.Linear(features, style_dim) for _ in range(num_domains))
        he_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """``from_rgb``, ``block0`` ..., ``features``, then ``domain0`` ..."""
        heads = {f"domain{number}": head for number, head in enumerate(self.unshared)}
        return trunk_stages(self.shared) | heads

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map images ``(N, 3, resolution, resolution)`` in [-1, 1] to styles ``(N, style_dim)``.

        Args:
            images: The images.
            labels: Numbers of their domains ``(N,)``.

        Raises:
            UserError: There are no labels.
        """
        x = self.shared(images).flatten(1)
        return of_domains(torch.stack([head(x) for head in self.unshared], 1), labels)


def trunk_stages(layers: nn.Sequential) -> dict[str, nn.Module]:
    """The stages of what :func:`~gansharing.networks.starganv2_layers.trunk` gives, by name."""
    first, *blocks, before, last, after = layers
    stages: dict[str, nn.Module] = {"from_rgb": first}
    stages |= {f"block{number}": block for number, block in enumerate(blocks)}
    return stages | {"features": nn.ModuleList([before, last, after])}


def _layers(widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]
