"""How alike a slimmable generator's widths make the same latent's image (Hou et al. 2021, Evaluation)."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gansharing.errors import UserError


class InceptionConsistency(Metric):
    """Inception consistency of every pair of widths, IC, and its mean over the pairs, mIC; 0 is the best.

    ``IC(i, j) = E_z ||Φ(G_i(z)) - Φ(G_j(z))||²`` with Φ an extractor's features: a sum over the features, not
    divided by their number, without a root. The paper averages over ordered pairs, which come in equal twos.
    Sums are of float64. Under ``torch.distributed`` every rank feeds its own latents, any number of them.

    Args:
        widths: Of the generator; at least two.
        suffix: Ends the names, as the extractor's suffix ends those of its other scores.
        kwargs: As for ``torchmetrics.Metric``.

    Raises:
        UserError: There are fewer than two widths.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    sums: Tensor
    count: Tensor

    def __init__(self, widths: Sequence[float], suffix: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(widths) < 2:
            raise UserError(f"consistency compares widths: give two at least, not {list(widths)}")
        self.widths, self.suffix = list(widths), suffix
        self.pairs = list(itertools.combinations(range(len(widths)), 2))
        self.add_state("sums", torch.zeros(len(self.pairs), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, features: Sequence[Tensor]) -> None:
        """Add a batch of latents.

        Args:
            features: At each width the features ``(N, D)`` of the images of the same N latents.

        Raises:
            UserError: There is not one tensor a width, or they differ in shape.
        """
        shapes = [tuple(x.shape) for x in features]
        if len(shapes) != len(self.widths) or len(set(shapes)) > 1 or len(shapes[0]) != 2:
            raise UserError(
                f"consistency of {len(self.widths)} widths needs as many features (N, D) of the same "
                f"latents; got {shapes}"
            )
        wide = [x.to(self.sums) for x in features]
        self.sums += torch.stack([(wide[i] - wide[j]).square().sum() for i, j in self.pairs])
        self.count += len(wide[0])

    def compute(self) -> dict[str, Tensor]:
        """float64 scalars: ``mic``, and ``ic/0.25-0.5`` for each pair; the suffix follows the first word.

        Raises:
            UserError: Nothing was added.
        """
        if not self.count:
            raise UserError("consistency has seen no images: there is nothing to compare")
        values = self.sums / self.count
        named = {
            f"ic{self.suffix}/{self.widths[i]:g}-{self.widths[j]:g}": value
            for (i, j), value in zip(self.pairs, values, strict=True)
        }
        return {f"mic{self.suffix}": values.mean(), **named}
