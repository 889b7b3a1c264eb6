"""Corrections of the optimiser against counts of its steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gansharing.objectives import R1, R2
from gansharing.objectives.lazy import after_main_step, correct_rates, main_share, with_main_step


@pytest.mark.parametrize(("every", "share"), [(1, 1.0), (4, 4 / 5), (16, 16 / 17)])
def test_the_papers_share(every: int, share: float) -> None:
    assert main_share([R1(every=every)]) == pytest.approx(share)
    assert main_share([]) == 1


@given(st.lists(st.integers(1, 6), max_size=4))
def test_the_share_is_that_of_the_steps_taken(intervals: list[int]) -> None:
    penalties = [R1(every=every) for every in intervals]
    period = 60  # a multiple of all of them
    extra = sum(bool(after_main_step(penalties, step)) for step in range(period))
    assert main_share(penalties) == pytest.approx(period / (period + extra))


def test_a_penalty_is_in_one_step_or_the_other() -> None:
    always, often, seldom = R1(every=1), R2(every=2), R2(every=3)
    penalties = [always, often, seldom]
    assert with_main_step(penalties) == [always]
    due = [after_main_step(penalties, step) for step in range(4)]
    assert due == [[often, seldom], [], [often], [seldom]]


def test_adam_gets_rate_and_betas_to_the_share() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.1, "betas": (0.9, 0.99)}]
    adam = torch.optim.Adam(groups, lr=0.0025, betas=(0.0, 0.99))
    correct_rates(adam, 16 / 17)
    # StyleGAN2-ADA's discriminator: 0.0025 -> 0.00235294, 0.99 -> 0.990586.
    assert adam.param_groups[0]["lr"] == pytest.approx(0.00235294, rel=1e-5)
    assert adam.param_groups[0]["betas"] == pytest.approx((0.0, 0.990586), rel=1e-5)
    assert adam.param_groups[1]["lr"] == pytest.approx(1.6 / 17)
    assert adam.param_groups[1]["betas"] == pytest.approx((0.9 ** (16 / 17), 0.99 ** (16 / 17)))


def test_an_optimiser_without_betas_keeps_what_it_has() -> None:
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    correct_rates(sgd, 0.8)
    assert (sgd.param_groups[0]["lr"], sgd.param_groups[0]["momentum"]) == (0.8, 0.9)


def test_k_corrected_steps_decay_a_moment_as_far_as_the_steps_they_stand_for() -> None:
    share = main_share([R1(every=4)])
    assert (0.99**share) ** 5 == pytest.approx(0.99**4)
