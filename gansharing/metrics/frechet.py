"""Fréchet distance between feature sets (FID; Heusel et al. 2017), and its bootstrap interval."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from gansharing.metrics.passthrough import Passthrough


class Moments(NamedTuple):
    """Mean and unbiased covariance of n features: float64 (D,), float64 (D, D)."""

    mu: Tensor
    sigma: Tensor
    n: int

    def to(self, device: torch.device) -> "Moments":
        """The same on another device."""
        return Moments(self.mu.to(device), self.sigma.to(device), self.n)


def moments(features: Tensor) -> Moments:
    """Moments in float64 of float (N, D) features, N > 1."""
    wide = features.double()
    mu = wide.mean(0)
    centred = wide - mu
    return Moments(mu, centred.T @ centred / (len(wide) - 1), len(wide))


class FrechetDistance(FrechetInceptionDistance):
    """torchmetrics' FID, fed with features, with the trace of the root through symmetric eigenvalues.

    ``tr sqrt(S_r S_f) = tr sqrt(S_r^1/2 S_f S_r^1/2)``: the right-hand matrix is symmetric, so its
    eigenvalues are real and cost a fifth of torchmetrics' nonsymmetric ones; the root of the real
    covariance is kept between computations.

    Args:
        num_features: D.
        kwargs: as for ``torchmetrics.Metric``.
    """

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(feature=Passthrough(num_features), reset_real_features=False, **kwargs)
        self._root_of: tuple[Tensor, Tensor] | None = None

    def set_real(self, real: Moments) -> None:
        """Take the real side from its moments instead of from features."""
        outer = torch.outer(real.mu, real.mu)
        self.real_features_sum = (real.mu * real.n).to(self.device)
        self.real_features_cov_sum = (real.sigma * (real.n - 1) + real.n * outer).to(self.device)
        self.real_features_num_samples = torch.tensor(real.n, device=self.device)

    def compute(self) -> Tensor:
        """FID as a float64 scalar.

        Raises:
            RuntimeError: with fewer than two samples on a side.
        """
        real = _moments_of_sums(
            self.real_features_sum, self.real_features_cov_sum, int(self.real_features_num_samples)
        )
        fake = _moments_of_sums(
            self.fake_features_sum, self.fake_features_cov_sum, int(self.fake_features_num_samples)
        )
        return frechet_distance(real, fake, self._root(real.sigma))

    def _root(self, sigma: Tensor) -> Tensor:
        known = self._root_of
        if known is None or known[0].device != sigma.device or not torch.equal(known[0], sigma):
            self._root_of = known = (sigma, symmetric_root(sigma))
        return known[1]


def _moments_of_sums(total: Tensor, products: Tensor, count: int) -> Moments:
    if count < 2:
        raise RuntimeError("FID needs more than one sample on both sides")
    mu = total / count
    return Moments(mu, (products - count * torch.outer(mu, mu)) / (count - 1), count)


def symmetric_root(sigma: Tensor) -> Tensor:
    """Root of a positive semi-definite matrix; eigenvalues below zero are rounding and count as zero."""
    values, vectors = torch.linalg.eigh(sigma)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(real: Moments, fake: Moments, root: Tensor | None = None) -> Tensor:
    """``|mu_r - mu_f|^2 + tr(S_r + S_f - 2 sqrt(S_r S_f))`` as a float64 scalar.

    Args:
        real: moments of one side.
        fake: moments of the other.
        root: ``symmetric_root(real.sigma)`` where it is known already.
    """
    root = symmetric_root(real.sigma) if root is None else root
    middle = root @ fake.sigma @ root
    overlap = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp(min=0).sqrt().sum()
    return (real.mu - fake.mu).square().sum() + real.sigma.trace() + fake.sigma.trace() - 2 * overlap
