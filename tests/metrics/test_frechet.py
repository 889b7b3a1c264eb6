"""FID through symmetric eigenvalues against torchmetrics, and its interval against real resampling."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from gansharing.metrics import FrechetDistance
from gansharing.metrics.bootstrap import fid_influence, fid_interval
from gansharing.metrics.frechet import frechet_distance, moments


class Given(nn.Identity):
    num_features = 12


def sides(seed: int, n_real: int, n_fake: int, dim: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=draw)
    real = torch.randn(n_real, dim, generator=draw) @ mix
    return real, torch.randn(n_fake, dim, generator=draw) @ (mix + 0.3) + 0.5


@given(seed=st.integers(0, 10**6), n_real=st.integers(3, 60), n_fake=st.integers(3, 60))
def test_equals_torchmetrics_also_with_fewer_samples_than_features(
    seed: int, n_real: int, n_fake: int
) -> None:
    real, fake = sides(seed, n_real, n_fake, 12)
    ours, theirs = FrechetDistance(12), FrechetInceptionDistance(Given())
    theirs.set_dtype(torch.float64)
    for metric in (ours, theirs):
        metric.update(real.double(), real=True)
        for batch in fake.double().split(7):
            metric.update(batch, real=False)
    assert float(ours.compute()) == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_moments_serve_as_well_as_features() -> None:
    real, fake = sides(1, 50, 40, 12)
    by_moments, by_features = FrechetDistance(12), FrechetDistance(12)
    by_moments.set_real(moments(real))
    by_features.update(real, real=True)
    for metric in (by_moments, by_features):
        metric.update(fake, real=False)
    assert float(by_moments.compute()) == pytest.approx(float(by_features.compute()), rel=1e-9)


def test_a_new_reference_is_not_compared_by_the_old_one() -> None:
    real, fake = sides(1, 50, 40, 12)
    metric = FrechetDistance(12)
    for reference in (real, fake):
        metric.set_real(moments(reference))
        metric.reset()
        metric.update(fake, real=False)
        last = float(metric.compute())
    assert last == pytest.approx(0, abs=1e-9)


def test_equal_gaussians_have_no_distance_and_moved_ones_the_square_of_the_move() -> None:
    real, _ = sides(2, 200, 2, 6)
    assert float(frechet_distance(moments(real), moments(real))) == pytest.approx(0, abs=1e-9)
    assert float(frechet_distance(moments(real), moments(real + 2))) == pytest.approx(6 * 4, rel=1e-6)


def test_influence_is_the_derivative_of_fid_at_a_samples_weight() -> None:
    real, fake = sides(3, 300, 200, 5)
    reference = moments(real)
    influence = fid_influence(reference, moments(fake), fake)

    def weighted(weights: Tensor) -> float:
        wide = fake.double()
        shares = weights / weights.sum()
        mu = shares @ wide
        sigma = (wide - mu).T @ (shares[:, None] * (wide - mu)) * len(fake) / (len(fake) - 1)
        return float(frechet_distance(reference, type(reference)(mu, sigma, len(fake))))

    step = 1e-4
    for i in range(0, 200, 37):
        up, down = torch.ones(2, 200, dtype=torch.float64)
        up[i] += step * 200
        down[i] -= step * 200
        slope = (weighted(up) - weighted(down)) / (2 * step)
        assert float(influence[i]) == pytest.approx(slope, rel=2e-2, abs=2e-2)
    assert float(influence.mean()) == pytest.approx(0, abs=1e-9)


def test_interval_is_as_wide_as_that_of_fid_computed_on_every_resample() -> None:
    real, fake = sides(4, 2000, 1000, 6)
    reference, fid = moments(real), float(frechet_distance(moments(real), moments(fake)))
    low, high = fid_interval(fid, fid_influence(reference, moments(fake), fake), 400, seed=0)
    draw = torch.Generator().manual_seed(1)
    values = [
        float(frechet_distance(reference, moments(fake[torch.randint(1000, (1000,), generator=draw)])))
        for _ in range(400)
    ]
    slow_low, slow_high = torch.tensor(values).quantile(torch.tensor([0.025, 0.975])).tolist()
    assert low < fid < high
    assert high - low == pytest.approx(slow_high - slow_low, rel=0.15)


def test_interval_covers_the_value_of_other_samples_of_the_same_generator() -> None:
    real, _ = sides(5, 4000, 2, 4)
    reference, covered = moments(real), 0
    # The truth: the value on samples so many that nothing is left to chance.
    truth = float(frechet_distance(reference, moments(sides(5, 4000, 200_000, 4)[1])))
    population = sides(5, 4000, 40_000, 4)[1]
    for fake in population.split(1000):
        fid = float(frechet_distance(reference, moments(fake)))
        low, high = fid_interval(fid, fid_influence(reference, moments(fake), fake), 200, seed=0)
        covered += low <= truth <= high
    assert covered >= 33  # of 40; 95 % promised


def test_interval_with_fewer_fakes_than_features_is_finite_and_around_the_value() -> None:
    real, fake = sides(6, 100, 20, 32)
    fid = float(frechet_distance(moments(real), moments(fake)))
    low, high = fid_interval(fid, fid_influence(moments(real), moments(fake), fake), 100, seed=0)
    assert 0 <= low < fid < high < 10 * fid
