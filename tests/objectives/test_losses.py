"""Losses against their published formulas, score by score."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gansharing.objectives import (
    AdversarialLoss,
    BinaryCrossEntropy,
    Hinge,
    LeastSquares,
    NonSaturating,
    Relativistic,
    Wasserstein,
)

Formula = Callable[[float], float]
SCORES = st.lists(st.floats(-8, 8), min_size=1, max_size=6)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


FORMULAS = [
    (BinaryCrossEntropy(), lambda s: -log_sigmoid(s), lambda s: -log_sigmoid(-s), lambda s: -log_sigmoid(s)),
    (
        BinaryCrossEntropy(average=True),
        lambda s: -log_sigmoid(s) / 2,
        lambda s: -log_sigmoid(-s) / 2,
        lambda s: -log_sigmoid(s),
    ),
    (NonSaturating(), lambda s: -log_sigmoid(s), lambda s: -log_sigmoid(-s), lambda s: -log_sigmoid(s)),
    (Hinge(), lambda s: max(0.0, 1 - s), lambda s: max(0.0, 1 + s), lambda s: -s),
    (Wasserstein(), lambda s: -s, lambda s: s, lambda s: -s),
    (LeastSquares(), lambda s: (s - 1) ** 2 / 2, lambda s: s**2 / 2, lambda s: (s - 1) ** 2 / 2),
]


@pytest.mark.parametrize(("loss", "real", "fake", "generator"), FORMULAS, ids=lambda v: type(v).__name__)
@given(reals=SCORES, fakes=SCORES)
def test_formulas(
    loss: AdversarialLoss,
    real: Formula,
    fake: Formula,
    generator: Formula,
    reals: list[float],
    fakes: list[float],
) -> None:
    r, f = torch.tensor(reals, dtype=torch.float64), torch.tensor(fakes, dtype=torch.float64)
    expected = mean([real(s) for s in reals]) + mean([fake(s) for s in fakes])
    assert loss.discriminator(r, f).item() == pytest.approx(expected, abs=1e-9)
    assert loss.generator(f).item() == pytest.approx(mean([generator(s) for s in fakes]), abs=1e-9)


@given(st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8)), min_size=1, max_size=6))
def test_relativistic_pairs(pairs: list[tuple[float, float]]) -> None:
    real, fake = torch.tensor(pairs, dtype=torch.float64).T
    loss = Relativistic()
    assert loss.discriminator(real, fake).item() == pytest.approx(
        mean([-log_sigmoid(r - f) for r, f in pairs])
    )
    assert loss.generator(fake, real).item() == pytest.approx(mean([-log_sigmoid(f - r) for r, f in pairs]))


def test_relativistic_needs_both_sides() -> None:
    loss, scores = Relativistic(), torch.zeros(3)
    with pytest.raises(ValueError, match="real"):
        loss.generator(scores)
    with pytest.raises(ValueError, match="discriminator"):
        loss.real(scores)


@pytest.mark.parametrize("loss", [row[0] for row in FORMULAS], ids=lambda v: type(v).__name__)
def test_bce_extremes_stay_finite(loss: AdversarialLoss) -> None:
    scores = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(loss.discriminator(scores, scores))
    assert torch.isfinite(loss.generator(scores))
