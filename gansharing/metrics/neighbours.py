"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gansharing.metrics.pairwise import gram_blocks, joined, read_pairs

NEIGHBOURS = (3, 5)


class PRDC(Metric):
    """Fidelity and diversity by nearest neighbours in feature space.

    With the ball of a sample reaching to its k-th neighbour in its own set: precision is the share of
    fakes inside any real ball, recall the share of reals inside any fake ball (k = 3), density the mean
    number of real balls a fake lies in over k, coverage the share of real balls with a fake (k = 5).

    Args:
        neighbours: k of precision and recall, k of density and coverage, at most; fewer samples lower
            them to one less than there are.
        kwargs: as for ``torchmetrics.Metric``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    real_features: list[Tensor]
    fake_features: list[Tensor]

    def __init__(self, neighbours: tuple[int, int] = NEIGHBOURS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.neighbours = neighbours
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")
        self._real_radii: tuple[Tensor, tuple[int, int], Tensor] | None = None

    def update(self, features: Tensor, real: bool) -> None:
        """Add float32 (N, D) features to one side."""
        (self.real_features if real else self.fake_features).append(features)

    def reset(self) -> None:
        """Forget the fakes; the reference stays, as torchmetrics' FID and KID can."""
        empty = self._defaults.pop("real_features")
        super().reset()
        self._defaults["real_features"] = empty

    def used_neighbours(self) -> tuple[int, int]:
        """Both k after the clamp to the smaller side."""
        most = min(len(joined(self.real_features)), len(joined(self.fake_features))) - 1
        return min(self.neighbours[0], most), min(self.neighbours[1], most)

    def compute(self) -> dict[str, Tensor]:
        """Float64 scalars under precision, recall, density, coverage.

        Raises:
            RuntimeError: with fewer than two samples on a side.
        """
        estimator = self.estimator()
        read_pairs(joined(self.real_features), joined(self.fake_features), [estimator])
        return estimator.result()

    def estimator(self) -> "NeighbourEstimator":
        """What reads the pairs (a ``PairEstimator``)."""
        real, fake = joined(self.real_features), joined(self.fake_features)
        ks = self.used_neighbours()
        if min(ks) < 1:
            raise RuntimeError("precision and recall need more than one sample on both sides")
        return NeighbourEstimator(real, fake, self._radii_of_real(real, ks), ks)

    def _radii_of_real(self, real: Tensor, ks: tuple[int, int]) -> Tensor:
        # The reference stays the same from one validation to the next.
        known = self._real_radii
        if known is None or known[0] is not real or known[1] != ks:
            self._real_radii = known = (real, ks, _radii(gram_blocks(real, real), real.square().sum(1), ks))
        return known[2]


def _radii(blocks: Iterable[tuple[slice, Tensor]], norms: Tensor, ks: tuple[int, ...]) -> Tensor:
    """Squared distances (N, len(ks)) to the k-th neighbours within a set, from its Gram blocks."""
    return torch.cat([_block_radii(rows, gram, norms, ks) for rows, gram in blocks])


def _block_radii(rows: slice, gram: Tensor, norms: Tensor, ks: tuple[int, ...]) -> Tensor:
    squared = norms[rows, None] + norms - 2 * gram
    # A sample is not its own neighbour, whatever rounding makes of its distance to itself.
    own = torch.arange(len(squared), device=gram.device)
    squared[own, own + rows.start] = torch.inf
    nearest = squared.topk(max(ks), largest=False).values
    return nearest[:, [k - 1 for k in ks]]


class NeighbourEstimator:
    """Counts who lies in whose ball, block by block (a ``PairEstimator``)."""

    def __init__(self, real: Tensor, fake: Tensor, real_radii: Tensor, ks: tuple[int, int]) -> None:
        self._ks, self._n_real = ks, len(real)
        self._real_norms, self._fake_norms = real.square().sum(1), fake.square().sum(1)
        self._real_radii = real_radii
        self._radii_blocks: list[Tensor] = []
        self._fake_radii: Tensor | None = None
        self._precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
        self._recalled = self._dense = self._covered = 0

    def fake_fake(self, rows: slice, gram: Tensor) -> None:
        """See ``PairEstimator``."""
        self._radii_blocks.append(_block_radii(rows, gram, self._fake_norms, self._ks[:1]))

    def real_fake(self, rows: slice, gram: Tensor) -> None:
        """See ``PairEstimator``."""
        if self._fake_radii is None:
            self._fake_radii = torch.cat(self._radii_blocks)[:, 0]
        squared = self._real_norms[rows, None] + self._fake_norms - 2 * gram
        narrow, wide = self._real_radii[rows].unsqueeze(-1).unbind(1)
        self._precise |= (squared <= narrow).any(0)
        self._recalled += int((squared <= self._fake_radii).any(1).sum())
        # The authors' own code takes these two balls without their surface.
        inside = squared < wide
        self._dense += int(inside.sum())
        self._covered += int(inside.any(1).sum())

    def result(self) -> dict[str, Tensor]:
        """The four scores."""
        n_fake = len(self._precise)
        scores = {
            "precision": int(self._precise.sum()) / n_fake,
            "recall": self._recalled / self._n_real,
            "density": self._dense / (self._ks[1] * n_fake),
            "coverage": self._covered / self._n_real,
        }
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}
