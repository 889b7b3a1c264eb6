"""What a discriminator learns from real images beside telling them from fakes (Liu et al. 2021, table 6)."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.objectives.reconstruction import AbsoluteError, Reconstruction


class SeenMaps(Protocol):
    """What an encoder sees in images; :attr:`features` is ``(N, C)``."""

    @property
    def features(self) -> Tensor:
        """A vector an image."""


class Encoder(Protocol):
    """A discriminator that shows what it sees.

    Attributes:
        feature_channels: Length of the vectors that its maps are averaged to.
    """

    feature_channels: int

    def reconstruct(self, maps: Any, quadrant: int) -> tuple[Tensor, ...]:
        """Images rebuilt from maps, each of them or one quadrant."""

    def targets(self, images: Tensor, quadrant: int) -> tuple[Tensor, ...]:
        """What these should be."""


class TrainingImages(NamedTuple):
    """What a task may know of the training set.

    Attributes:
        number: How many there are.
        sizes: Width and height in pixels that each had before it was made square, ``(number, 2)``.
    """

    number: int
    sizes: Tensor | None = None


class SelfSupervision(nn.Module, ABC):
    """A task on real images. It may have weights, which the discriminator's optimiser trains.

    Args:
        weight: Weight of its loss beside the adversarial one.
    """

    name: str

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not weight > 0:
            raise UserError(f"the weight of {type(self).__name__} is {weight}; give more than 0")
        self.weight = weight

    def prepare(self, encoder: Encoder, images: TrainingImages) -> None:
        """Make the weights that depend on the data, before training."""

    def forward(self, encoder: Encoder, images: Tensor, maps: SeenMaps, index: Tensor | None) -> Tensor:
        """The weighted loss, a scalar, which does not grow with the batch.

        Args:
            encoder: The discriminator.
            images: ``(N, 3, H, W)`` as it saw them, augmented.
            maps: What it saw.
            index: Numbers ``(N,)`` of the images in the training set, for tasks that need them.
        """
        return self.weight * self.loss(encoder, images, maps, index)

    @abstractmethod
    def loss(self, encoder: Encoder, images: Tensor, maps: SeenMaps, index: Tensor | None) -> Tensor:
        """The loss itself, a mean over the batch; see :meth:`forward`."""


class AutoEncoding(SelfSupervision):
    """Decoders rebuild the images from the discriminator's maps, whole and one quadrant (equation 2).

    One quadrant is drawn a batch. What is rebuilt is the augmented image.

    Args:
        distance: What compares an image with its reconstruction.
        weight: The original's code adds up the distances of a batch, so its weight is the batch size: 8.
    """

    name = "autoencoding"

    def __init__(
        self,
        distance: Reconstruction = AbsoluteError(),  # noqa: B008  (stateless; shows up in --print_config)
        weight: float = 8.0,
    ) -> None:
        super().__init__(weight)
        self.distance = distance

    def prepare(self, encoder: Encoder, images: TrainingImages) -> None:
        """Nothing is made.

        Raises:
            UserError: The discriminator has no decoders.
        """
        if not getattr(encoder, "has_decoders", True):
            raise UserError("AutoEncoding needs the decoders: set model.discriminator.decoders to true")

    def loss(self, encoder: Encoder, images: Tensor, maps: SeenMaps, index: Tensor | None) -> Tensor:
        """Sum of the three decoders' distances, mean over the images."""
        quadrant = int(torch.randint(4, ()))
        pairs = zip(encoder.reconstruct(maps, quadrant), encoder.targets(images, quadrant), strict=True)
        return (
            torch.stack([self.distance(rebuilt.float(), wanted) for rebuilt, wanted in pairs]).sum(0).mean()
        )


class InstanceClasses(SelfSupervision):
    """Every training image is a class of its own, which the discriminator names (table 6, setting a).

    Cross entropy on one linear layer; the paper says no more.

    Args:
        weight: Weight of the loss.
    """

    name = "instances"
    head: nn.Module  # Identity until it is prepared

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.head = nn.Identity()

    def prepare(self, encoder: Encoder, images: TrainingImages) -> None:
        """Make a layer of as many classes as there are images.

        Raises:
            UserError: There is no second image.
        """
        if images.number < 2:
            raise UserError(
                "InstanceClasses needs a data module with two training images or more, numbered by 'index'"
            )
        self.head = nn.Linear(encoder.feature_channels, images.number)

    def loss(self, encoder: Encoder, images: Tensor, maps: SeenMaps, index: Tensor | None) -> Tensor:
        """``-log p(index)``."""
        return F.cross_entropy(self.head(maps.features).float(), _known(index))


class AspectRatio(SelfSupervision):
    """The discriminator tells which shape an image had before it was made square (table 6, setting b).

    Squared error of ``log(width / height)`` by one linear layer; the paper says no more.

    Args:
        weight: Weight of the loss.
    """

    name = "aspect_ratio"
    head: nn.Module  # Identity until it is prepared
    ratios: Tensor

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.head = nn.Identity()
        self.register_buffer("ratios", torch.zeros(0), persistent=False)

    def prepare(self, encoder: Encoder, images: TrainingImages) -> None:
        """Make the layer, and keep the logarithms of the ratios.

        Raises:
            UserError: The data do not tell, or all images had one shape.
        """
        if images.sizes is None:
            raise UserError("AspectRatio needs the images' own sizes, which these data do not keep")
        width, height = images.sizes.float().unbind(1)
        self.ratios = (width / height).log()
        if (self.ratios == self.ratios[0]).all():
            raise UserError("AspectRatio has nothing to learn: all training images had the same shape")
        self.head = nn.Linear(encoder.feature_channels, 1)

    def loss(self, encoder: Encoder, images: Tensor, maps: SeenMaps, index: Tensor | None) -> Tensor:
        """Mean squared error."""
        return F.mse_loss(self.head(maps.features).flatten().float(), self.ratios[_known(index)])


def _known(index: Tensor | None) -> Tensor:
    if index is None:
        raise UserError("this task needs batches that number their images ('index'), as ImageData's do")
    return index
