"""The pipe at both ends of p, how often each transform happens, and p's way worked out by hand."""

import copy
import math

import pytest
import torch
from torch import Tensor

from gansharing.augment import ADA, Augmentation
from gansharing.errors import UserError


def at(p: float) -> ADA:
    ada = ADA()
    ada.p.fill_(p)
    return ada


def test_it_starts_as_the_identity_exactly() -> None:
    images = torch.randn(16, 3, 16, 16)
    assert torch.equal(ADA()(images), images)


def test_at_one_every_image_changes_in_its_own_way() -> None:
    images = torch.randn(1, 3, 16, 16).expand(8, -1, -1, -1)
    changed = at(1.0)(images)
    assert changed.isfinite().all()
    distances = (changed[:, None] - changed[None]).abs().amax((2, 3, 4))
    assert (distances + torch.eye(8) > 1e-2).all()
    assert ((changed - images).abs().amax((1, 2, 3)) > 1e-2).all()


def test_the_chance_that_nothing_happens() -> None:
    # Three blits (one of which does nothing half of the times, one a quarter), three moves,
    # either rotation, five colours (one of which does nothing half of the times); shifts may round to 0.
    p, count = 0.1, 4000
    images = torch.randn(1, 3, 8, 8).expand(count, -1, -1, -1)
    same = (at(p)(images) == images).flatten(1).all(1).double().mean().item()
    # On 8 px a shift rounds to 0 with half a chance each way: 1/4 of all do nothing.
    still = (1 - p / 2) * (1 - 3 * p / 4) * (1 - 3 * p / 4) * (1 - p) ** 3 * (1 - p) * (1 - p) ** 4
    still *= 1 - p / 2
    assert same == pytest.approx(still, abs=4 * math.sqrt(still / count))


def test_a_flat_grey_image_shows_the_colours_alone() -> None:
    # Geometry leaves 0.5 grey as it is; brightness, contrast and luma flip change it, and it stays flat.
    changed = at(1.0)(torch.full((400, 3, 16, 16), 0.5))
    level = changed.mean((1, 2, 3))
    torch.testing.assert_close(changed, level.view(-1, 1, 1, 1).expand_as(changed), rtol=0, atol=1e-4)
    size = level.abs()  # a luma flip makes it negative: half of the images
    assert (level < 0).double().mean().item() == pytest.approx(0.5, abs=0.1)
    # (0.5 + 0.2 n) 2^(0.5 m): the median is 0.5.
    assert size.median().item() == pytest.approx(0.5, abs=0.06)


def test_gradients_twice_through_the_pipe() -> None:
    ada = at(1.0)

    def fixed(images: Tensor) -> Tensor:
        torch.manual_seed(5)
        return ada(images)

    images = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fixed, images)
    assert torch.autograd.gradgradcheck(lambda x: fixed(x).square(), images)


def test_p_goes_up_and_down_by_the_images_seen() -> None:
    ada = ADA(target=0.6, kimg=1.0)
    way = []
    # 80 % of the signs are positive: r_t = 0.6 is not reached by 0.5, is by 1, and is passed by 1.
    for step, positive in enumerate([10, 10, 10, 10, 8, 8, 7, 8, 2, 2, 2, 2, 0, 0, 0, 0], start=1):
        scores = torch.cat([torch.ones(positive), -torch.ones(10 - positive)])
        ada.observe(scores)
        ada.adapt(step, 10)
        way.append(ada.p.item())
    assert way[:3] == [0, 0, 0]
    assert way[3] == way[6] == pytest.approx(0.04)  # r_t = 1: up by 40 of 1,000 images
    assert way[7] == pytest.approx(0)  # r_t = 0.55: down
    assert way[11] == way[15] == 0  # never below 0
    assert ada.tally.tolist() == [0, 0, 0]


def test_p_stops_at_one() -> None:
    ada = ADA(kimg=0.1)
    for step in range(1, 13):
        ada.observe(torch.ones(30))
        ada.adapt(step, 30)
    assert ada.p.item() == 1
    assert ada.figures()["ada_p"] == 1


def test_state_goes_on_in_the_middle_of_four_batches() -> None:
    whole, first, second = ADA(kimg=1.0), ADA(kimg=1.0), ADA(kimg=1.0)
    for step in range(1, 5):
        scores = torch.full((10,), 1.0 if step < 3 else -0.5)
        if step == 3:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        for ada in (whole, first if step < 3 else second):
            ada.observe(scores)
            ada.adapt(step, 10)
    assert torch.equal(whole.p, second.p)
    assert whole.p == 0  # r_t = 0, not the 1 of the first two batches nor the -1 of the last two


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtype_and_layout_stay(dtype: torch.dtype, autocast: bool) -> None:
    images = torch.randn(4, 3, 16, 16).to(dtype).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = at(0.5)(images)
    assert (out.dtype, out.shape) == (dtype, images.shape)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert at(0.5)(images.contiguous()).is_contiguous()


def test_restored_random_state_repeats_the_draws() -> None:
    ada, images = at(0.7), torch.randn(4, 3, 16, 16)
    state = torch.get_rng_state()
    first = ada(images)
    assert not torch.equal(first, ada(images))
    torch.set_rng_state(state)
    assert torch.equal(first, ada(images))


@pytest.mark.parametrize(
    ("options", "hint"), [({"target": 1.0}, "between -1 and 1"), ({"kimg": 0.0}, "positive number")]
)
def test_impossible_arguments(options: dict[str, float], hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        ADA(**options)


def test_the_base_changes_nothing_and_learns_nothing() -> None:
    images, base = torch.randn(2, 3, 8, 8), Augmentation()
    base.observe(torch.ones(4))
    base.adapt(1, 4)
    assert base(images) is images
    assert not base.figures() and not base.state_dict()
