"""StarGAN v2's terms against their formulas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gansharing.objectives.translation import decayed, difference, diversity


def test_terms_and_whom_they_reach() -> None:
    one, other = torch.tensor([[1.0, -2.0], [0.0, 4.0]]), torch.tensor([[0.0, 1.0], [0.5, 4.5]])
    for value in (one, other):
        value.requires_grad_(True)
    assert difference(one, other).item() == (1 + 3 + 0.5 + 0.5) / 4
    difference(one, other).backward()
    assert one.grad is not None and other.grad is not None
    assert torch.equal(one.grad, torch.tensor([[0.25, -0.25], [-0.25, -0.25]]))
    assert torch.equal(other.grad, -one.grad)
    one, other = one.detach().requires_grad_(True), other.detach().requires_grad_(True)
    found = diversity(one, other)
    assert found.item() == -1.25
    found.backward()
    assert one.grad is not None and other.grad is None
    assert torch.equal(one.grad, torch.tensor([[-0.25, 0.25], [0.25, 0.25]]))


@given(st.floats(0, 10), st.integers(1, 200), st.integers(0, 400))
def test_the_weight_falls_by_the_same_amount_each_step(weight: float, steps: int, step: int) -> None:
    expected = weight
    for _ in range(step):  # as the original's loop has it
        expected -= weight / steps
    assert decayed(weight, step, steps) == pytest.approx(max(expected, 0), abs=1e-9)
