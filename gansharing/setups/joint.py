"""Scores and gradient penalties of a piecewise linear discriminator out of one pass, also over both steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gansharing.networks import Discriminator
from gansharing.networks.piecewise import scores_and_slopes
from gansharing.objectives import AdversarialLoss, Regularizer, SlopePenalty


class JointPasses:
    """The losses of both steps from scores and their gradients in the images, each computed once.

    The generator's loss reaches the images through these gradients. Where the discriminator's step follows on
    the same images, as in Zhao et al.'s code (2020), it needs no other pass over them: its weights are the
    same as in the generator's step.

    Args:
        discriminator: A ``piecewise_linear`` one.
        loss: What the players minimise; it does not compare.
        penalties: Of the discriminator, part of its every main step.
    """

    def __init__(
        self, discriminator: Discriminator, loss: AdversarialLoss, penalties: Sequence[SlopePenalty]
    ) -> None:
        self.discriminator, self.loss, self.penalties = discriminator, loss, penalties
        self._kept: tuple[Tensor, Tensor] | None = None

    def generator(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """The generator's loss, to be differentiated in its weights; :meth:`fake` on these images is next.

        Args:
            images: ``(N, 3, H, W)`` with their graph.
            labels: As the discriminator takes them.
        """
        self._kept = scores_and_slopes(self.discriminator, images, labels)
        scores = self._kept[0].detach().requires_grad_(True)
        value = self.loss.generator(scores)
        (steepness,) = torch.autograd.grad(value, scores)
        change = (steepness * (images * self._kept[1].detach()).flatten(1).sum(1)).sum()
        return change + (value - change).detach()

    def fake(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The discriminator's losses on fakes ``(N, 3, H, W)``, by name; one graph."""
        kept, self._kept = self._kept, None
        if kept is None and not any(penalty.at == "fake" for penalty in self.penalties):
            return {"loss_d_fake": self.loss.fake(self.discriminator(images, labels))}
        scores, slopes = kept or scores_and_slopes(self.discriminator, images, labels)
        return {"loss_d_fake": self.loss.fake(scores), **self._penalised("fake", slopes)}

    def real(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The discriminator's losses on real images ``(N, 3, H, W)``, by name; one graph."""
        scores, slopes = scores_and_slopes(self.discriminator, images, labels)
        return {"loss_d_real": self.loss.real(scores), **self._penalised("real", slopes)}

    def _penalised(self, kind: str, slopes: Tensor) -> dict[str, Tensor]:
        return {type(p).__name__.lower(): p.of(slopes) for p in self.penalties if p.at == kind}


def joint_passes(
    discriminator: Discriminator, loss: AdversarialLoss, regularizers: Sequence[Regularizer]
) -> JointPasses | None:
    """Them where they apply: a piecewise linear discriminator with penalties in its every main step."""
    penalties = [r for r in regularizers if isinstance(r, SlopePenalty) and r.every == 1]
    if not penalties or len(penalties) < len(regularizers) or loss.compares:
        return None
    return JointPasses(discriminator, loss, penalties) if discriminator.piecewise_linear else None


def in_full_precision(images: Tensor) -> bool:
    """Whether layers compute in their inputs' type: squared gradients lose small values in half."""
    return not torch.is_autocast_enabled(images.device.type)
