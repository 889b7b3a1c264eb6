"""Gradient regularisers of the discriminator, evaluated lazily."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from gansharing.objectives.lazy import Lazy

Scorer = Callable[[Tensor], Tensor]


class Regularizer(Lazy, ABC):
    """A penalty evaluated every ``every`` discriminator steps that then weighs ``every`` times as much.

    Args:
        weight: Weight per step.
        every: Interval in discriminator steps; 1 makes it part of every step.
    """

    def __call__(self, score: Scorer, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalty; a scalar.

        Args:
            score: The discriminator; it must allow differentiating twice.
            real: Images ``(N, 3, H, W)``, before augmentation where ``score`` augments.
            fake: Images of the same shape.
        """
        return self.weight * self.every * self.penalty(score, real, fake)

    @abstractmethod
    def penalty(self, score: Scorer, real: Tensor, fake: Tensor) -> Tensor:
        """The penalty itself, mean over the batch; a scalar."""


def squared_gradient_norm(score: Scorer, images: Tensor) -> Tensor:
    """``|| d sum(score(x)) / dx ||^2`` per image, differentiable; shape ``(N,)``."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(images).sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1)


class SlopePenalty(Regularizer):
    """``1/2 E ||grad D(x)||^2`` at images of one kind."""

    #: Which images.
    at: Literal["real", "fake"]

    def penalty(self, score: Scorer, real: Tensor, fake: Tensor) -> Tensor:
        """``1/2`` mean squared gradient norm at the images."""
        return squared_gradient_norm(score, real if self.at == "real" else fake).mean() / 2

    def of(self, slopes: Tensor) -> Tensor:
        """The weighted penalty of known gradients of the scores in the images, ``(N, 3, H, W)``."""
        return self.weight * self.every * slopes.square().flatten(1).sum(1).mean() / 2


class R1(SlopePenalty):
    """Gradient penalty on real images, ``1/2 E ||grad D(x)||^2`` (Mescheder et al. 2018, eq. 9).

    Args:
        weight: The paper's gamma. The factor 1/2 is part of the penalty, as in StyleGAN2.
        every: Interval in discriminator steps.
    """

    at = "real"

    def __init__(self, weight: float = 10.0, every: int = 16) -> None:
        super().__init__(weight, every)


class R2(SlopePenalty):
    """R1's twin on fake images (Mescheder et al. 2018, eq. 10; R3GAN uses both).

    Args:
        weight: The paper's gamma.
        every: Interval in discriminator steps.
    """

    at = "fake"

    def __init__(self, weight: float = 10.0, every: int = 16) -> None:
        super().__init__(weight, every)


class GradientPenalty(Regularizer):
    """WGAN-GP: ``E (||grad D(x_hat)|| - 1)^2`` on lines between real and fake (Gulrajani et al. 2017, eq. 3).

    Args:
        weight: The paper's lambda.
        every: Interval in discriminator steps.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def penalty(self, score: Scorer, real: Tensor, fake: Tensor) -> Tensor:
        """Mean squared distance of the gradient norm from 1 at random points between the two."""
        mix = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = mix * real.detach() + (1 - mix) * fake.detach()
        return (squared_gradient_norm(score, between).add(1e-12).sqrt() - 1).square().mean()
