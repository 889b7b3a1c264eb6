"""A perceptual distance as the loss of decoders."""

import torch
from torch import Tensor

from gansharing.metrics.perceptual import PerceptualDistance, PerceptualName, build_distance
from gansharing.objectives.reconstruction import Reconstruction


class PerceptualError(Reconstruction):
    """How different two images look to a frozen network.

    The network is no part of the trained module and of no checkpoint.

    Args:
        distance: ``lpips_vgg``, which FastGAN's code trains with; ``lpips_alex``; or ``lpips_lite``, features
            of the embedded EfficientNet-Lite0, which needs no download.
        weights: File with the ImageNet weights of the former two; downloaded when omitted.

    Raises:
        UserError: The weights cannot be had.
    """

    def __init__(self, distance: PerceptualName = "lpips_lite", weights: str | None = None) -> None:
        self._distance: PerceptualDistance = build_distance(distance, weights).requires_grad_(False)
        self._wanted: tuple[Tensor, Tensor] | None = None

    def __call__(self, rebuilt: Tensor, wanted: Tensor) -> Tensor:
        """Squared distances of the features ``(N,)``."""
        seen = self._distance.to(rebuilt.device).embed(rebuilt)
        return (seen - self._embedded(wanted)).square().sum(1)

    @torch.no_grad()
    def _embedded(self, wanted: Tensor) -> Tensor:
        # Several decoders are to give the same images: they are looked at once.
        if self._wanted is None or self._wanted[0] is not wanted:
            self._wanted = wanted, self._distance.embed(wanted)
        return self._wanted[1]
