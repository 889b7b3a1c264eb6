"""KID from one kernel matrix against torchmetrics on the very same subsets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from gansharing.metrics import KernelDistance, LogitScore
from gansharing.metrics.kernel import (
    MatrixEstimator,
    SubsetEstimator,
    Subsets,
    SubsetSums,
    draw_subsets,
)
from gansharing.metrics.pairwise import gram_blocks, read_pairs


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
@given(
    seed=st.integers(0, 10**6),
    n_real=st.integers(4, 40),
    n_fake=st.integers(4, 40),
    subsets=st.integers(1, 6),
    size=st.integers(2, 4),
)
def test_matrix_equals_torchmetrics_on_the_subsets_it_draws(
    seed: int, n_real: int, n_fake: int, subsets: int, size: int
) -> None:
    real, fake = torch.randn(n_real, 5, dtype=torch.float64), torch.randn(n_fake, 5, dtype=torch.float64) + 1
    theirs = KernelInceptionDistance(nn.Identity(), subsets=subsets, subset_size=size)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    torch.manual_seed(seed)
    mean, std = theirs.compute()
    # torchmetrics' draws, in torchmetrics' order.
    torch.manual_seed(seed)
    drawn = [(torch.randperm(n_real)[:size], torch.randperm(n_fake)[:size]) for _ in range(subsets)]
    draws = Subsets(*(torch.stack(side) for side in zip(*drawn, strict=True)))
    sums = SubsetSums(draws.real, n_real, draws.real, n_real, 5)
    for rows, gram in gram_blocks(real, real):
        sums.read(rows, gram)
    matrix = MatrixEstimator(real, fake, draws, sums.total - sums.diagonal(real))
    read_pairs(real, fake, [matrix])
    for estimator in (matrix, SubsetEstimator(real, fake, draws)):
        assert [float(v) for v in estimator.result()] == pytest.approx(
            [float(mean), float(std)], rel=1e-9, abs=1e-9
        )


def filled(subsets: int, size: int, n: int = 1200, dim: int = 4) -> KernelDistance:
    metric = KernelDistance(dim, subsets=subsets, subset_size=size)
    metric.update(torch.randn(n, dim), real=True)
    metric.update(torch.randn(n, dim) * 1.1, real=False)
    return metric


@pytest.mark.parametrize(("subsets", "size", "kind"), [(40, 1000, MatrixEstimator), (2, 10, SubsetEstimator)])
def test_the_cheaper_way_is_taken_and_gives_the_same(subsets: int, size: int, kind: type) -> None:
    metric = filled(subsets, size)
    assert isinstance(metric.estimator(gram_is_free=False), kind)
    draws = draw_subsets(1200, 1200, subsets, size)
    real, fake = metric.real_features[0].double(), metric.fake_features[0].double()
    values = torch.stack([poly_mmd(real[r], fake[f]) for r, f in zip(*draws, strict=True)])
    mean, std = metric.compute()
    assert float(mean) == pytest.approx(float(values.mean()), rel=1e-5)
    assert float(std) == pytest.approx(float(values.std(unbiased=False)), rel=1e-4)


def test_global_random_state_is_neither_read_nor_changed() -> None:
    metric, logits = filled(5, 20, n=50), LogitScore(6)
    logits.update(torch.randn(30, 6))
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        metric._computed = logits._computed = None
        results.append((metric.compute(), logits.compute()))
        assert torch.equal(before, torch.get_rng_state())
    assert results[0] == results[1]


def test_subset_size_is_clamped_to_the_smaller_side() -> None:
    metric = KernelDistance(4, subsets=3, subset_size=1000)
    metric.update(torch.randn(30, 4), real=True)
    assert metric.used_subset_size() == 0  # a run stopped in its first validation reports that far
    metric.update(torch.randn(20, 4), real=False)
    assert metric.used_subset_size() == 20
    assert float(metric.compute()[0]) == pytest.approx(0, abs=1)


def test_a_new_reference_is_not_compared_by_the_old_one() -> None:
    metric = filled(5, 50, n=100)
    first = metric.compute()[0]
    metric.reset()
    metric.real_features = [torch.randn(100, 4) + 3]
    metric.update(torch.randn(100, 4), real=False)
    fresh = KernelDistance(4, subsets=5, subset_size=50)
    fresh.update(metric.real_features[0], real=True)
    fresh.update(metric.fake_features[0], real=False)
    second = metric.compute()[0]
    assert torch.equal(second, fresh.compute()[0])
    assert second > first
