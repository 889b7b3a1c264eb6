"""The features of all generated images of a validation, over all ranks."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gansharing.metrics.extractors.base import Features
from gansharing.metrics.pairwise import joined


class FeatureBank(Metric):
    """Collects features and logits; ``compute`` gives those of all ranks, in the order of the ranks.

    Every score is computed from this one gathering. Ranks may hold unequal numbers, or nothing.

    Args:
        num_features: D.
        num_logits: K; 0 to keep no logits.
        kwargs: as for ``torchmetrics.Metric``.
    """

    full_state_update = False

    features: list[Tensor]
    logits: list[Tensor]

    def __init__(self, num_features: int, num_logits: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widths = (num_features, num_logits)
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("logits", [], dist_reduce_fx="cat")

    def update(self, seen: Features) -> None:
        """Keep what the extractor saw in a batch."""
        self.features.append(seen.features)
        nothing = seen.features.new_empty(len(seen.features), 0)
        self.logits.append(nothing if seen.logits is None or self.widths[1] == 0 else seen.logits)

    def add_nothing(self) -> None:
        """Take part in the gathering without a sample: an empty list has no width to be gathered by."""
        self.update(Features(*(torch.empty(0, width, device=self.device) for width in self.widths)))

    def compute(self) -> Features:
        """Float32 (N, D) and (N, K) of all ranks."""
        return Features(joined(self.features), joined(self.logits))
