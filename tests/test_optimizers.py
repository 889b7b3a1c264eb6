"""Adam without a first moment is PyTorch's Adam whose first moment is switched off."""

import copy

import pytest
import torch
from torch import nn

from gansharing.objectives.lazy import correct_rates
from gansharing.optimizers import MomentumFreeAdam


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_adams_bit_for_bit_with_half_the_state(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(7, 2)).to(dtype, memory_format=torch.channels_last)
    theirs = copy.deepcopy(ours)
    options = {"lr": 1e-2, "betas": (0.0, 0.9), "eps": 1e-8}
    mine = MomentumFreeAdam(ours.parameters(), **options)
    other = torch.optim.Adam(theirs.parameters(), fused=True, **options)
    for step in range(6):
        if step == 3:  # resumed from what was saved
            state = copy.deepcopy(mine.state_dict())
            mine = MomentumFreeAdam(ours.parameters(), **options)
            mine.load_state_dict(state)
            correct_rates(mine, 0.5)
            correct_rates(other, 0.5)
        for number, (p, q) in enumerate(zip(ours.parameters(), theirs.parameters(), strict=True)):
            p.grad = None if (number + step) % 4 == 0 else torch.randn_like(p)  # some join later
            q.grad = None if p.grad is None else p.grad.clone()
        kept = [None if p.grad is None else p.grad.clone() for p in ours.parameters()]
        mine.step()
        other.step()
        for p, q, gradient in zip(ours.parameters(), theirs.parameters(), kept, strict=True):
            assert torch.equal(p, q)
            assert gradient is None or torch.equal(p.grad, gradient)
    held = [sum(t.numel() for s in o.state.values() for t in s.values() if t.ndim) for o in (mine, other)]
    assert held[1] == 2 * held[0] > 0


def test_it_says_what_it_does_not_do() -> None:
    parameters = [nn.Parameter(torch.zeros(2))]
    with pytest.raises(ValueError, match="no first moment; use torch.optim.Adam"):
        MomentumFreeAdam(parameters, betas=(0.5, 0.99))
    with pytest.raises(ValueError, match="is negative"):
        MomentumFreeAdam(parameters, lr=-1.0)
    assert MomentumFreeAdam(parameters).step(lambda: 3.0) == 3.0
