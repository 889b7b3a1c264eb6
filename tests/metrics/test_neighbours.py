"""Precision, recall, density and coverage against loops over all pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gansharing.metrics import PRDC


def naive(real: Tensor, fake: Tensor, k: int, wide: int) -> dict[str, float]:
    def radius(own: Tensor, i: int, neighbour: int) -> float:
        distances = sorted(float((own[i] - other).norm()) for j, other in enumerate(own) if j != i)
        return distances[neighbour - 1]

    narrow_real = [radius(real, i, k) for i in range(len(real))]
    wide_real = [radius(real, i, wide) for i in range(len(real))]
    narrow_fake = [radius(fake, j, k) for j in range(len(fake))]
    apart = [[float((r - f).norm()) for f in fake] for r in real]
    reals, fakes = range(len(real)), range(len(fake))
    return {
        "precision": sum(any(apart[i][j] <= narrow_real[i] for i in reals) for j in fakes) / len(fake),
        "recall": sum(any(apart[i][j] <= narrow_fake[j] for j in fakes) for i in reals) / len(real),
        "density": sum(apart[i][j] < wide_real[i] for i in reals for j in fakes) / (wide * len(fake)),
        "coverage": sum(any(apart[i][j] < wide_real[i] for j in fakes) for i in reals) / len(real),
    }


@given(
    seed=st.integers(0, 10**6),
    n_real=st.integers(7, 25),
    n_fake=st.integers(7, 25),
    ks=st.tuples(st.integers(1, 5), st.integers(1, 6)),
)
def test_equals_loops_over_all_pairs(seed: int, n_real: int, n_fake: int, ks: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(seed)
    real = torch.randn(n_real, 3, generator=draw, dtype=torch.float64)
    fake = torch.randn(n_fake, 3, generator=draw, dtype=torch.float64) * 0.8 + 0.3
    metric = PRDC(ks)
    metric.update(real, real=True)
    for batch in fake.split(6):
        metric.update(batch, real=False)
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(
        naive(real, fake, *ks), abs=1e-12
    )


def test_more_samples_than_a_block_hold() -> None:
    draw = torch.Generator().manual_seed(0)
    real, fake = torch.randn(1100, 8, generator=draw), torch.randn(700, 8, generator=draw)
    metric = PRDC()
    metric.update(real, real=True)
    metric.update(fake, real=False)
    result = metric.compute()
    apart, inner = torch.cdist(real, fake), torch.cdist(real, real).kthvalue(6, dim=1).values
    assert float(result["coverage"]) == pytest.approx(
        float((apart.min(1).values < inner).float().mean()), abs=2e-3
    )
    assert float(result["density"]) == pytest.approx(
        float((apart < inner[:, None]).sum() / (5 * 700)), rel=2e-3
    )


def test_the_extremes_mean_what_they_say() -> None:
    real = torch.randn(40, 4)
    for fake, expected in ((real.clone(), 1.0), (real + 100, 0.0)):
        metric = PRDC()
        metric.update(real, real=True)
        metric.update(fake, real=False)
        result = metric.compute()
        assert [float(result[name]) for name in ("precision", "recall", "coverage")] == [expected] * 3
    collapsed = PRDC()
    collapsed.update(real, real=True)
    collapsed.update(real[:1] + 1e-3 * torch.randn(40, 4), real=False)
    result = collapsed.compute()
    assert float(result["precision"]) > 0.9 > 0.2 > float(result["recall"])


def test_reset_keeps_the_reference() -> None:
    metric, real = PRDC(), torch.randn(30, 4)
    metric.update(real, real=True)
    metric.update(real + 100, real=False)
    assert float(metric.compute()["precision"]) == 0
    metric.reset()
    metric.update(real, real=False)
    assert float(metric.compute()["precision"]) == 1


def test_few_samples_lower_the_neighbours() -> None:
    metric = PRDC((3, 5))
    metric.update(torch.randn(20, 4), real=True)
    metric.update(torch.randn(3, 4), real=False)
    assert metric.used_neighbours() == (2, 2)
    assert 0 <= float(metric.compute()["recall"]) <= 1
