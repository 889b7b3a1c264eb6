"""The Inception score (Salimans et al. 2016) from logits."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.inception import InceptionScore

from gansharing.metrics.kernel import SEED
from gansharing.metrics.pairwise import joined
from gansharing.metrics.passthrough import Passthrough, keeping_features


class LogitScore(InceptionScore):
    """torchmetrics' Inception score, fed with logits, split as torch-fidelity does from the same seed.

    Args:
        num_logits: K.
        splits: number of parts whose scores are averaged, at most one per sample.
        seed: of the shuffle before the split; the global random state is left alone.
        kwargs: as for ``torchmetrics.Metric``.
    """

    def __init__(self, num_logits: int, splits: int = 10, seed: int = SEED, **kwargs: Any) -> None:
        with keeping_features():
            super().__init__(Passthrough(num_logits), splits, **kwargs)
        self.seed = seed
        self.add_state("features", [], dist_reduce_fx="cat")

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and population standard deviation over the parts, float64 scalars."""
        logits = joined(self.features)
        order = torch.from_numpy(np.random.RandomState(self.seed).permutation(len(logits)))
        logs = logits[order.to(logits.device)].double().log_softmax(1)
        splits = min(self.splits, len(logs))
        edges = [i * len(logs) // splits for i in range(splits + 1)]
        values = torch.stack([_score(logs[a:b]) for a, b in zip(edges, edges[1:], strict=False)])
        return values.mean(), values.std(unbiased=False)


def _score(logs: Tensor) -> Tensor:
    """``exp(mean KL(p(y|x) || p(y)))`` of float64 (N, K) log-probabilities."""
    marginal = (logs.logsumexp(0, keepdim=True)) - torch.tensor(
        len(logs), dtype=logs.dtype, device=logs.device
    ).log()
    return (logs.exp() * (logs - marginal)).sum(1).mean().exp()
