"""Regularisers of the generator: path length."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.objectives.lazy import Lazy


class GeneratorRegularizer(nn.Module, Lazy, ABC):
    """A penalty on the generator, evaluated every ``every`` generator steps and then as many times heavier.

    What it remembers lies in buffers: it enters checkpoints, and processes average it.

    Args:
        weight: Weight per step.
        every: Interval in generator steps; 1 makes it part of every step.
    """

    def __init__(self, weight: float, every: int) -> None:
        nn.Module.__init__(self)
        Lazy.__init__(self, weight, every)

    def check(self, generator: nn.Module) -> None:  # noqa: B027  (most ask nothing of a generator)
        """Refuse a generator to which the penalty does not apply.

        Raises:
            UserError: The penalty needs what ``generator`` lacks.
        """

    def forward(self, generator: nn.Module, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """The weighted penalty; a scalar.

        Args:
            generator: It must allow differentiating twice.
            latent: ``(N, latent_dim)``.
            labels: Classes of the images to generate, as the generator takes them.
        """
        return self.weight * self.every * self.penalty(generator, latent, labels)

    @abstractmethod
    def penalty(self, generator: nn.Module, latent: Tensor, labels: Tensor | None) -> Tensor:
        """The penalty itself, mean over the batch; a scalar."""


class PathLength(GeneratorRegularizer):
    """Path length: a step of fixed size in w should change the image by a fixed amount.

    Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", equation 4:
    ``E (|J^T y| - a)^2``, J the image's Jacobian in w, y an image of normal noise divided by ``sqrt(H W)``,
    a the moving average of the lengths. As in StyleGAN2-ADA the length of an image is the root of the mean
    over its layers' styles of their squared gradient, and the penalty's gradient also flows through the part
    of a that this batch adds.

    Args:
        weight: Weight per generator step.
        every: Interval in generator steps.
        decay: Weight of the newest batch in the moving average.
        batch_shrink: Use the first ``N // batch_shrink`` latents of a batch, at least one, to save memory.

    Attributes:
        pl_mean: The moving average a, a scalar buffer that starts at 0.
    """

    pl_mean: Tensor

    def __init__(
        self, weight: float = 2.0, every: int = 4, decay: float = 0.01, batch_shrink: int = 2
    ) -> None:
        super().__init__(weight, every)
        if batch_shrink < 1:
            raise ValueError(f"batch_shrink must be at least 1, not {batch_shrink}")
        self.decay, self.batch_shrink = decay, batch_shrink
        self.register_buffer("pl_mean", torch.zeros(()))

    def check(self, generator: nn.Module) -> None:
        """Refuse a generator without styles.

        Raises:
            UserError: ``generator`` has no ``style(latent, labels)`` or no ``synthesis(ws)``.
        """
        if not all(callable(getattr(generator, name, None)) for name in ("style", "synthesis")):
            raise UserError(
                f"model.generator_regularizers: PathLength needs a generator with styles, and "
                f"{type(generator).__name__} has none; leave it out or use StyleGAN2Generator"
            )

    def penalty(self, generator: nn.Module, latent: Tensor, labels: Tensor | None) -> Tensor:
        """Mean squared distance of the lengths from their moving average, which it moves on."""
        count = max(1, len(latent) // self.batch_shrink)
        styles = generator.style(latent[:count], None if labels is None else labels[:count])  # type: ignore[operator]
        lengths = path_lengths(generator.synthesis(styles), styles)  # type: ignore[operator]
        mean = self.pl_mean.lerp(lengths.mean(), self.decay)
        self.pl_mean.copy_(mean.detach())
        return (lengths - mean).square().mean()


def path_lengths(images: Tensor, styles: Tensor) -> Tensor:
    """Length of each image's gradient in w along one random direction in image space, differentiable.

    Args:
        images: ``(N, C, H, W)``, computed from ``styles``.
        styles: ``(N, num_ws, w_dim)``.

    Returns:
        Lengths ``(N,)``: root of the mean over num_ws of the sum over w_dim of the squared gradient.
    """
    # Not randn_like, whose numbers would depend on the memory layout.
    noise = torch.randn(images.shape, dtype=images.dtype, device=images.device)
    direction = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * direction).sum(), styles, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
