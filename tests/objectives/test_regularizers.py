"""Gradient penalties against gradients worked out by hand and by finite differences."""

import pytest
import torch
from torch import Tensor, nn

from gansharing.objectives import R1, R2, GradientPenalty


def linear_scorer(weight: Tensor):  # noqa: ANN201
    return lambda x: x.flatten(1) @ weight.flatten()


def test_a_linear_scorer_has_its_weight_as_gradient() -> None:
    torch.manual_seed(0)
    weight, real, fake = torch.randn(3, 4, 4), torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    squared = weight.square().sum()
    score = linear_scorer(weight)
    torch.testing.assert_close(R1(weight=7.0, every=3)(score, real, fake), 7 * 3 * squared / 2)
    torch.testing.assert_close(R2(weight=7.0, every=1)(score, real, fake), 7 * squared / 2)
    expected = 10 * (squared.sqrt() - 1) ** 2
    torch.testing.assert_close(GradientPenalty()(score, real, fake), expected)


def test_r1_reads_reals_and_r2_reads_fakes() -> None:
    real, fake = torch.full((2, 1, 2, 2), 3.0), torch.full((2, 1, 2, 2), 5.0)

    def score(x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1) / 2  # gradient x, squared norm 4 v^2

    assert R1(1.0, 1)(score, real, fake).item() == pytest.approx(4 * 9 / 2)
    assert R2(1.0, 1)(score, real, fake).item() == pytest.approx(4 * 25 / 2)


def test_gradient_penalty_stays_between_real_and_fake() -> None:
    torch.manual_seed(0)
    seen: list[Tensor] = []

    def score(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    GradientPenalty()(score, torch.zeros(64, 1, 2, 2), torch.ones(64, 1, 2, 2))
    values = seen[0].flatten(1)
    assert (values == values[:, :1]).all()
    assert 0 <= values.min() < 0.2
    assert 0.8 < values.max() <= 1


def test_r1_trains_the_scorer_by_the_second_derivative() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real = torch.randn(3, 3, 2, 2, dtype=torch.float64)
    r1 = R1(2.0, 1)
    r1(net, real, real).backward()
    weight = net[1].weight
    analytic = weight.grad[1, 2].item()
    step = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[1, 2] += sign * step
        values.append(r1(net, real, real).item())
        with torch.no_grad():
            weight[1, 2] -= sign * step
    assert analytic == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_laziness() -> None:
    r1 = R1(every=4)
    assert [step for step in range(9) if r1.due(step)] == [0, 4, 8]
    with pytest.raises(ValueError, match="every"):
        R1(every=0)
