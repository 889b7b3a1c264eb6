"""How far rebuilt images are from what they should be."""

from abc import ABC, abstractmethod

from torch import Tensor


class Reconstruction(ABC):
    """A distance of each image of a batch, so that a larger batch weighs no more."""

    @abstractmethod
    def __call__(self, rebuilt: Tensor, wanted: Tensor) -> Tensor:
        """Distances ``(N,)`` of ``(N, 3, H, W)`` in [-1, 1]; gradients reach ``rebuilt`` only."""


class AbsoluteError(Reconstruction):
    """L1: mean absolute difference of an image's values."""

    def __call__(self, rebuilt: Tensor, wanted: Tensor) -> Tensor:
        """``mean |a - b|`` of each image."""
        return (rebuilt - wanted.detach()).abs().flatten(1).mean(1)


class SquaredError(Reconstruction):
    """MSE: mean squared difference of an image's values."""

    def __call__(self, rebuilt: Tensor, wanted: Tensor) -> Tensor:
        """``mean (a - b)^2`` of each image."""
        return (rebuilt - wanted.detach()).square().flatten(1).mean(1)
