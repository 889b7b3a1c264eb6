"""How different two images look: squared distances between normalised feature maps (Zhang et al. 2018)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.metrics.extractors.lite import LiteExtractor
from gansharing.metrics.extractors.weights import fill, hub_file, read_state

__all__ = ["LiteDistance", "LpipsDistance", "PerceptualDistance", "PerceptualName", "build_distance"]

PerceptualName = Literal["lpips_lite", "lpips_vgg", "lpips_alex"]

# torchmetrics' own: the lengths of weak features depend on it.
_EPSILON = 1e-8


class PerceptualDistance(nn.Module, ABC):
    """A frozen network that places images in a Euclidean space; subclasses give ``embed``.

    LPIPS is a sum of squared differences with non-negative weights, so an image can be embedded once and
    for all: the distance is ``|embed(a) - embed(b)|^2``, and all pairs of N images cost N forward passes.
    It is always in eval mode and ignores a surrounding autocast; gradients reach the images.

    Attributes:
        name: "lpips_lite", "lpips_vgg" or "lpips_alex"; values of different names never mix.
    """

    name: str

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever a surrounding module asks for."""
        return super().train(False)

    @abstractmethod
    def maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Feature maps (N, C, h, w) of float32 images in [-1, 1], each with its channels' weights (C,)."""

    def embed(self, images: Tensor) -> Tensor:
        """Points whose squared Euclidean distance is the perceptual one.

        Args:
            images: float (N, 3, H, W) in [-1, 1].

        Returns:
            float32 (N, D); D depends on the network, and for LPIPS on the images' size.

        Raises:
            UserError: the images are no float RGB batch.
        """
        if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 3:
            raise UserError(
                f"perceptual distances need float images (N, 3, H, W) in [-1, 1], not {images.dtype} "
                f"{tuple(images.shape)}"
            )
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([_point(*level) for level in self.maps(images.float())], 1)

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance of each pair.

        Args:
            first: float (N, 3, H, W) in [-1, 1].
            second: the same shape.

        Returns:
            float32 (N,), 0 for equal images.
        """
        return (self.embed(first) - self.embed(second)).square().sum(1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """See ``distance``."""
        return self.distance(first, second)


def _point(level: Tensor, weights: Tensor) -> Tensor:
    """Maps (N, C, h, w) to (N, C h w): channels of unit length, weighted, averaged over the places."""
    unit = level * (level.square().sum(1, keepdim=True) + _EPSILON).rsqrt()
    unit = unit * weights.sqrt().view(1, -1, 1, 1)
    return (unit / (level.shape[-2] * level.shape[-1]) ** 0.5).flatten(1)


class LiteDistance(PerceptualDistance):
    """LPIPS without learned weights on the embedded EfficientNet-Lite0 at 112 px: no download.

    Five depths, the last block at each size from 56 to 4 px, count alike; the distance is their mean and
    lies in [0, 4]. It ranks as LPIPS does, its values stand beside no paper's.
    """

    name = "lpips_lite"

    def __init__(self) -> None:
        super().__init__()
        extractor = LiteExtractor()
        self.size, self.network = extractor.input_size, extractor.network

    def maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """See ``PerceptualDistance``."""
        if images.shape[-2:] != (self.size, self.size):
            # Not clamped: a generator without tanh overshoots, and its gradient must survive.
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        net: Any = self.network
        hidden = net._swish(net._bn0(net._conv_stem(images * (127.5 / 128) + 0.5 / 128)))
        last: dict[int, Tensor] = {}
        for block in net._blocks:
            hidden = block(hidden)
            last[hidden.shape[-1]] = hidden
        return [(level, level.new_full((level.shape[1],), 1 / len(last))) for level in last.values()]


class LpipsDistance(PerceptualDistance):
    """LPIPS v0.1 with torchmetrics' learned weights on torchvision's VGG-16 or AlexNet.

    Images are taken in their own size, at least 32 px. Its values may stand beside a paper's.

    Args:
        trunk: "vgg" (what StyleGAN2 projects with) or "alex" (what most diversity figures use).
        weights: a file with torchvision's ImageNet weights of that trunk; None takes torch hub's cache, or
            downloads into it. The learned weights come with torchmetrics.

    Raises:
        UserError: the trunk's weights cannot be had, are damaged, or belong to another network.
    """

    def __init__(self, trunk: Literal["vgg", "alex"] = "vgg", weights: str | Path | None = None) -> None:
        super().__init__()
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        self.name = f"lpips_{trunk}"
        path = _hub_weights(trunk) if weights is None else Path(weights)
        with torch.random.fork_rng(devices=[]):
            # torchmetrics would download the trunk itself, and only from its host: take an empty one.
            self.network = _NoTrainLpips(net=trunk, pnet_rand=True)
        fill(self.network.net, _as_slices(self.network.net.state_dict(), read_state(path)), self.name, path)
        self.requires_grad_(False)

    def maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """See ``PerceptualDistance``.

        Raises:
            UserError: the images are smaller than 32 px.
        """
        if min(images.shape[-2:]) < 32:
            raise UserError(
                f"{self.name} needs images of at least 32 px, not {tuple(images.shape[-2:])}; "
                "use lpips_lite for smaller ones"
            )
        levels = self.network.net(self.network.scaling_layer(images))
        heads: Iterable[Any] = self.network.lins
        return [(level, head.model[-1].weight.flatten()) for level, head in zip(levels, heads, strict=True)]


def _as_slices(wanted: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of torchmetrics for those of torchvision: ``slice2.5.weight`` is ``features.5.weight``."""
    return {name: state[plain] for name in wanted if (plain := f"features.{name.partition('.')[2]}") in state}


def _hub_weights(trunk: str) -> Path:
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    known = VGG16_Weights.DEFAULT if trunk == "vgg" else AlexNet_Weights.DEFAULT
    return hub_file(known.url, f"lpips_{trunk}", "torchvision's", "lpips_lite")


def build_distance(
    name: PerceptualName = "lpips_lite", weights: str | Path | None = None
) -> PerceptualDistance:
    """Make a perceptual distance by name.

    Args:
        name: "lpips_lite" needs no download; "lpips_vgg" and "lpips_alex" give the figures of papers.
        weights: a file with the trunk's ImageNet weights, for the latter two.

    Raises:
        UserError: for an unknown name, weights for the one that carries its own, or weights that cannot
            be had.
    """
    if name == "lpips_lite":
        if weights is not None:
            raise UserError("weights: lpips_lite carries its own; leave weights out or choose lpips_vgg")
        return LiteDistance()
    if name == "lpips_vgg":
        return LpipsDistance("vgg", weights)
    if name == "lpips_alex":
        return LpipsDistance("alex", weights)
    raise UserError(f"distance {name!r} is not known: choose lpips_lite, lpips_vgg or lpips_alex")
