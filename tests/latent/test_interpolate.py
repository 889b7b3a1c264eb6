import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gansharing.errors import UserError
from gansharing.latent import lerp, slerp, walk

SEEDS = st.integers(0, 10_000)
SHARES = st.floats(0, 1)


def pair(seed: int, size: int = 16) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=source), torch.randn(size, generator=source)


def angle(a: Tensor, b: Tensor) -> float:
    return math.acos(
        max(-1.0, min(1.0, float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))))
    )


@given(SEEDS, SHARES)
def test_lerp_is_the_weighted_mean(seed: int, share: float) -> None:
    a, b = pair(seed)
    torch.testing.assert_close(lerp(a, b, share), (1 - share) * a + share * b, atol=1e-6, rtol=1e-5)


@given(SEEDS, SHARES)
def test_slerp_is_the_textbook_formula_on_the_sphere(seed: int, share: float) -> None:
    a, b = (v / v.norm() for v in pair(seed))
    theta = angle(a, b)
    expected = (
        math.sin((1 - share) * theta) / math.sin(theta) * a + math.sin(share * theta) / math.sin(theta) * b
    )
    torch.testing.assert_close(slerp(a, b, share), expected, atol=2e-6, rtol=1e-5)


@given(SEEDS, SHARES)
def test_slerp_turns_evenly_and_its_norm_changes_linearly(seed: int, share: float) -> None:
    a, b = pair(seed)
    between = slerp(a, b, share)
    assert angle(a, between) == pytest.approx(share * angle(a, b), abs=1e-3)
    assert between.norm().item() == pytest.approx(float((1 - share) * a.norm() + share * b.norm()), rel=1e-5)


@given(SEEDS, SHARES)
def test_slerp_backwards_is_the_same_way(seed: int, share: float) -> None:
    a, b = pair(seed)
    torch.testing.assert_close(slerp(a, b, share), slerp(b, a, 1 - share), atol=1e-5, rtol=1e-5)


@given(SEEDS)
def test_both_reach_their_ends(seed: int) -> None:
    a, b = pair(seed)
    for way in (lerp, slerp):
        torch.testing.assert_close(way(a, b, 0.0), a)
        torch.testing.assert_close(way(a, b, 1.0), b)


@given(SEEDS, SHARES, st.sampled_from([1e-8, 1e-6, 1e-4, 1e-2]))
def test_slerp_of_nearly_opposite_latents_goes_round_the_origin(seed: int, share: float, off: float) -> None:
    a, other = pair(seed)
    between = slerp(a, -a + off * other, share)
    assert between.norm().item() == pytest.approx(a.norm().item(), rel=0.05)
    assert angle(a, between) == pytest.approx(share * math.pi, abs=0.05)


@given(SEEDS, SHARES)
def test_slerp_of_degenerate_pairs_is_the_straight_line(seed: int, share: float) -> None:
    a, _ = pair(seed)
    zero = torch.zeros_like(a)
    for start, end in ((a, a), (a, 3 * a), (a, zero), (zero, a), (zero, zero)):
        torch.testing.assert_close(slerp(start, end, share), lerp(start, end, share), atol=1e-5, rtol=1e-5)


def test_slerp_works_along_the_last_dimension_of_a_batch() -> None:
    a, b = torch.randn(3, 1, 8), torch.randn(5, 8)
    both = slerp(a, b, 0.3)
    assert both.shape == (3, 5, 8)
    torch.testing.assert_close(both[2, 4], slerp(a[2, 0], b[4], 0.3))


def test_slerp_keeps_half_precision() -> None:
    assert slerp(torch.randn(4).half(), torch.randn(4).half(), 0.5).dtype == torch.float16


@given(SEEDS, st.integers(2, 5), st.integers(1, 6), st.booleans(), st.sampled_from(["lerp", "slerp"]))
def test_a_walk_meets_its_keyframes(seed: int, number: int, steps: int, loop: bool, mode: str) -> None:
    keyframes = torch.randn(number, 8, generator=torch.Generator().manual_seed(seed))
    path = walk(keyframes, steps, mode, loop)  # type: ignore[arg-type]
    assert path.shape == (number * steps if loop else (number - 1) * steps + 1, 8)
    torch.testing.assert_close(path[::steps], keyframes)


def test_a_loop_steps_as_far_at_its_seam_as_before() -> None:
    keyframes = torch.randn(3, 8)
    path = walk(keyframes, 10, "lerp", loop=True)
    last_leg = (keyframes[0] - keyframes[-1]).norm() / 10
    assert (path[0] - path[-1]).norm().item() == pytest.approx(last_leg.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("keyframes", "steps", "mode", "hint"),
    [
        (torch.randn(1, 8), 5, "slerp", "at least 2 keyframes"),
        (torch.randn(8), 5, "slerp", "at least 2 keyframes"),
        (torch.randn(2, 8), 0, "slerp", "steps"),
        (torch.randn(2, 8), 5, "spline", "lerp, slerp"),
    ],
)
def test_bad_walks_say_how_to_mend_them(keyframes: Tensor, steps: int, mode: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        walk(keyframes, steps, mode)  # type: ignore[arg-type]
