"""StarGAN v2's discriminator (Choi et al. 2020, section 2.1): one real-or-fake score for each domain."""

from collections.abc import Mapping

from torch import Tensor, nn

from gansharing.networks.base import Discriminator, require_positive
from gansharing.networks.starganv2_layers import he_init, of_domains, trunk
from gansharing.networks.starganv2_styles import trunk_stages


class StarGANv2Discriminator(Discriminator):
    """Multi-task discriminator: 20,853,316 parameters at 256 px with four domains.

    Args:
        resolution: 32 to 1024 px.
        num_domains: Number of domains.
        channel_base: Divided by the resolution, the channels at full resolution; 16384 in the original.
        channel_max: Most channels behind them; 512 in the original.

    Raises:
        UserError: There is no such resolution, or a size leaves a layer empty.
    """

    piecewise_linear = True

    def __init__(
        self,
        resolution: int = 256,
        num_domains: int = 2,
        channel_base: int = 16384,
        channel_max: int = 512,
    ) -> None:
        super().__init__()
        require_positive(num_domains=num_domains)
        self.resolution, self.num_domains = resolution, num_domains
        layers, features = trunk(resolution, channel_base, channel_max)
        self.main = nn.Sequential(*layers, nn.Conv2d(features, num_domains, 1))
        he_init(self)

    def stages(self) -> Mapping[str, nn.Module]:
        """``from_rgb``, ``block0`` ..., ``features``, ``to_scores``."""
        *trunk_, last = self.main
        return trunk_stages(nn.Sequential(*trunk_)) | {"to_scores": last}

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images as of their domains.

        Args:
            images: ``(N, 3, resolution, resolution)`` in [-1, 1].
            labels: Numbers of the domains ``(N,)``.

        Returns:
            Logits ``(N,)``.

        Raises:
            UserError: There are no labels.
        """
        return of_domains(self.main(images).flatten(1), labels)
