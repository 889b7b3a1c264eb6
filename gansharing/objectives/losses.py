"""Adversarial losses on logits.

All reduce by the mean over every score, so a patch discriminator's scores ``(N, K)`` weigh the same.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F


class AdversarialLoss(ABC):
    """A pair of objectives for the two players, both to be minimised.

    Attributes:
        compares: The loss of either player needs the scores of real *and* fake images together, so the
            two cannot be back-propagated one after the other.
    """

    compares = False

    @abstractmethod
    def real(self, scores: Tensor) -> Tensor:
        """Discriminator's loss on real images' scores; a scalar."""

    @abstractmethod
    def fake(self, scores: Tensor) -> Tensor:
        """Discriminator's loss on fake images' scores; a scalar."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Generator's loss on fake images' scores (and, where :attr:`compares`, the real ones'); a scalar."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Discriminator's loss on both; a scalar."""
        return self.real(real) + self.fake(fake)


class BinaryCrossEntropy(AdversarialLoss):
    """Cross entropy with logits (Goodfellow et al. 2014), the generator's in its non-saturating form.

    Args:
        average: Take the mean of the real and the fake half of the discriminator's loss, as Spectral
            Style-DCGAN's code does, instead of their sum, as DCGAN does.
    """

    def __init__(self, average: bool = False) -> None:
        self.weight = 0.5 if average else 1.0

    def real(self, scores: Tensor) -> Tensor:
        """``-log sigmoid(s)``."""
        return self.weight * F.softplus(-scores).mean()

    def fake(self, scores: Tensor) -> Tensor:
        """``-log(1 - sigmoid(s))``."""
        return self.weight * F.softplus(scores).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``-log sigmoid(s)`` of the fakes."""
        return F.softplus(-fake).mean()


class NonSaturating(BinaryCrossEntropy):
    """The non-saturating loss as StyleGAN names it: cross entropy, real and fake summed."""

    def __init__(self) -> None:
        super().__init__(average=False)


class Hinge(AdversarialLoss):
    """Hinge loss (Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17).

    Args:
        smoothing: The discriminator's margin is drawn from [1 - ``smoothing``, 1) for each score; 0.2 in
            FastGAN's code.

    Raises:
        ValueError: ``smoothing`` is not in [0, 1].
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing is {smoothing}; give 0 to 1")
        self.smoothing = smoothing

    def _margin(self, scores: Tensor) -> Tensor | float:
        if self.smoothing == 0:
            return 1.0
        # Drawn on the CPU, so that a seed gives the same margins on every device.
        return 1 - self.smoothing * (1 - torch.rand(scores.shape).to(scores.device))

    def real(self, scores: Tensor) -> Tensor:
        """``max(0, m - s)`` with the margin m."""
        return F.relu(self._margin(scores) - scores).mean()

    def fake(self, scores: Tensor) -> Tensor:
        """``max(0, m + s)``."""
        return F.relu(self._margin(scores) + scores).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``-s`` of the fakes."""
        return -fake.mean()


class Wasserstein(AdversarialLoss):
    """Wasserstein critic (Arjovsky et al. 2017, eq. 2); pair it with a gradient penalty."""

    def real(self, scores: Tensor) -> Tensor:
        """``-s``."""
        return -scores.mean()

    def fake(self, scores: Tensor) -> Tensor:
        """``s``."""
        return scores.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``-s`` of the fakes."""
        return -fake.mean()


class LeastSquares(AdversarialLoss):
    """Least squares with targets 1 and 0 (Mao et al. 2017, eq. 9)."""

    def real(self, scores: Tensor) -> Tensor:
        """``(s - 1)^2 / 2``."""
        return (scores - 1).square().mean() / 2

    def fake(self, scores: Tensor) -> Tensor:
        """``s^2 / 2``."""
        return scores.square().mean() / 2

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``(s - 1)^2 / 2`` of the fakes."""
        return (fake - 1).square().mean() / 2


class Relativistic(AdversarialLoss):
    """Relativistic pairing loss (Jolicoeur-Martineau 2018, section 4; R3GAN 2024, eq. 2).

    The i-th real is paired with the i-th fake of the batch.
    """

    compares = True

    def real(self, scores: Tensor) -> Tensor:
        """Undefined without the fakes."""
        raise ValueError(
            "the relativistic loss compares real and fake scores: call discriminator(real, fake)"
        )

    fake = real

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """``softplus(-(s_real - s_fake))``."""
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``softplus(-(s_fake - s_real))``."""
        if real is None:
            raise ValueError("the relativistic loss needs the scores of real images for the generator too")
        return F.softplus(real - fake).mean()
