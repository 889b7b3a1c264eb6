"""Kernel distance between feature sets (KID; Binkowski et al. 2018) with all subsets from one matrix."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from gansharing.metrics.pairwise import gram_blocks, joined, read_pairs
from gansharing.metrics.passthrough import Passthrough, keeping_features

SEED = 2020


class Subsets(NamedTuple):
    """Indices of the samples in each subset: int64 (S, m) each."""

    real: Tensor
    fake: Tensor


def draw_subsets(n_real: int, n_fake: int, subsets: int, size: int, seed: int = SEED) -> Subsets:
    """Draw as torch-fidelity does from the same seed (fakes as its first input): values can be compared."""
    rng = np.random.RandomState(seed)
    real = np.empty((subsets, size), dtype=np.int64)
    fake = np.empty((subsets, size), dtype=np.int64)
    for i in range(subsets):
        fake[i] = rng.choice(n_fake, size, replace=False)
        real[i] = rng.choice(n_real, size, replace=False)
    return Subsets(torch.from_numpy(real), torch.from_numpy(fake))


class KernelDistance(KernelInceptionDistance):
    """torchmetrics' KID, fed with features, with own reproducible subsets and without its cost.

    The kernel is ``(x.y / D + 1)^3``. A subset's kernel sum is ``s' K s`` with its indicator vector s, so
    one N x N kernel matrix serves all subsets; where that costs more than the subsets one by one, they
    are taken one by one. The global random state is neither read nor changed, so all ranks agree.

    Args:
        num_features: D.
        subsets: number of subsets S.
        subset_size: samples per subset m, at most; fewer samples make smaller subsets.
        seed: of the subsets.
        kwargs: as for ``torchmetrics.Metric``.
    """

    def __init__(
        self, num_features: int, subsets: int = 100, subset_size: int = 1000, seed: int = SEED, **kwargs: Any
    ) -> None:
        with keeping_features():
            super().__init__(
                Passthrough(num_features), subsets, subset_size, reset_real_features=False, **kwargs
            )
        self.seed = seed
        # torchmetrics leaves these unreduced, which hangs where ranks have unequal numbers of batches.
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")
        self._real_sums: tuple[Tensor, int, Tensor] | None = None

    def used_subset_size(self) -> int:
        """Samples per subset after the clamp to the smaller side; 0 before there are any on both."""
        sides = [self.real_features, self.fake_features]
        return min(self.subset_size, *(len(joined(side)) if len(side) else 0 for side in sides))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and population standard deviation over the subsets, float64 scalars.

        Raises:
            RuntimeError: with fewer than two samples on a side.
        """
        real, fake = joined(self.real_features), joined(self.fake_features)
        estimator = self.estimator(gram_is_free=False)
        if isinstance(estimator, MatrixEstimator):
            read_pairs(real, fake, [estimator])
        return estimator.result()

    def estimator(self, gram_is_free: bool) -> "MatrixEstimator | SubsetEstimator":
        """The cheaper way to the value.

        Args:
            gram_is_free: whether the products of all pairs are computed anyway, for another score.
        """
        real, fake = joined(self.real_features), joined(self.fake_features)
        size = self.used_subset_size()
        if size < 2:
            raise RuntimeError("KID needs more than one sample on both sides")
        draws = draw_subsets(len(real), len(fake), self.subsets, size, self.seed)
        draws = Subsets(draws.real.to(real.device), draws.fake.to(real.device))
        dim = 0 if gram_is_free else real.shape[1]
        matrix = len(fake) * (len(fake) + len(real)) * (dim + 2 * self.subsets)
        if matrix > 3 * self.subsets * size**2 * real.shape[1]:
            return SubsetEstimator(real, fake, draws)
        return MatrixEstimator(real, fake, draws, self._sums_of_real(real, draws, len(fake)))

    def _sums_of_real(self, real: Tensor, draws: Subsets, n_fake: int) -> Tensor:
        # The draws depend on both counts; the reference stays the same from one validation to the next.
        known = self._real_sums
        if known is None or known[0] is not real or known[1] != n_fake:
            sums = SubsetSums(draws.real, len(real), draws.real, len(real), real.shape[1])
            for rows, gram in gram_blocks(real, real):
                sums.read(rows, gram)
            self._real_sums = known = (real, n_fake, sums.total - sums.diagonal(real))
        return known[2]


class SubsetSums:
    """Sums of the kernel over the pairs (row, column) of each subset, collected block by block.

    Args:
        rows: int64 (S, m), the rows of each subset.
        n_rows: number of rows N.
        columns: int64 (S, m).
        n_columns: number of columns M.
        dim: D of the features.
    """

    def __init__(self, rows: Tensor, n_rows: int, columns: Tensor, n_columns: int, dim: int) -> None:
        self.rows = _indicator(rows, n_rows)
        self.columns = self.rows if columns is rows else _indicator(columns, n_columns)
        self.dim = dim
        self.total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)

    def read(self, rows: slice, gram: Tensor) -> None:
        """Add a block ``x[rows] @ y.T``."""
        # The estimate is a small difference of large sums: only the products are float32.
        sums = _kernel(gram, self.dim).double() @ self.columns
        self.total += (self.rows[rows] * sums).sum(0)

    def diagonal(self, features: Tensor) -> Tensor:
        """Each subset's sum of ``k(x, x)``, which the unbiased estimate leaves out."""
        return _kernel(features.square().sum(1), self.dim).double() @ self.rows


def _kernel(products: Tensor, dim: int) -> Tensor:
    base = products / dim + 1
    return base * base * base


def _indicator(subsets: Tensor, count: int) -> Tensor:
    """float64 (count, S): whether a sample is in a subset."""
    zeros = torch.zeros(count, len(subsets), dtype=torch.float64, device=subsets.device)
    return zeros.scatter_(0, subsets.T, 1.0)


class MatrixEstimator:
    """All subsets from the full kernel matrices (a ``PairEstimator``)."""

    def __init__(self, real: Tensor, fake: Tensor, draws: Subsets, sums_of_real: Tensor) -> None:
        dim = fake.shape[1]
        self._fake, self._real_real = fake, sums_of_real
        self._fake_fake = SubsetSums(draws.fake, len(fake), draws.fake, len(fake), dim)
        self._real_fake = SubsetSums(draws.real, len(real), draws.fake, len(fake), dim)
        self._size = draws.fake.shape[1]

    def fake_fake(self, rows: slice, gram: Tensor) -> None:
        """See ``PairEstimator``."""
        self._fake_fake.read(rows, gram)

    def real_fake(self, rows: slice, gram: Tensor) -> None:
        """See ``PairEstimator``."""
        self._real_fake.read(rows, gram)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the subsets."""
        m = self._size
        fake_fake = self._fake_fake.total - self._fake_fake.diagonal(self._fake)
        values = (self._real_real + fake_fake) / (m * (m - 1)) - 2 * self._real_fake.total / m**2
        return values.mean(), values.std(unbiased=False)


class SubsetEstimator:
    """Subset by subset, for sets so large that the full kernel matrices cost more."""

    def __init__(self, real: Tensor, fake: Tensor, draws: Subsets) -> None:
        self._real, self._fake, self._draws = real, fake, draws

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the subsets."""
        real, fake = self._draws
        pairs = zip(real, fake, strict=True)
        values = torch.stack([poly_mmd(self._real[r].double(), self._fake[f].double()) for r, f in pairs])
        return values.mean(), values.std(unbiased=False)
