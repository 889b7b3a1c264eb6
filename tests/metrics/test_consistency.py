"""IC and mIC against the paper's sums written out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gansharing.errors import UserError
from gansharing.metrics import FeatureExtractor, InceptionConsistency

WIDTHS = [0.25, 0.5, 0.75, 1.0]


def features(count: int, dim: int, widths: int, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(count, dim, generator=draw) for _ in range(widths)]


def written_out(given: list[Tensor]) -> tuple[dict[tuple[int, int], float], float]:
    """IC of all ordered pairs, and their mean: a loop over pairs, latents and features."""
    held = [x.double().numpy() for x in given]
    number, ic = len(held), {}
    for i in range(number):
        for j in range(number):
            if i != j:
                ic[i, j] = float(
                    np.mean([np.dot(a - b, a - b) for a, b in zip(held[i], held[j], strict=True)])
                )
    return ic, sum(ic.values()) / (number * (number - 1))


@given(st.integers(1, 7), st.integers(1, 9), st.integers(2, 4), st.integers(0, 99))
def test_is_the_papers_formula(count: int, dim: int, widths: int, seed: int) -> None:
    held = features(count, dim, widths, seed)
    ic, mic = written_out(held)
    metric = InceptionConsistency(WIDTHS[:widths])
    metric.update(held)
    found = metric.compute()
    assert float(found.pop("mic")) == pytest.approx(mic, rel=1e-12)
    assert len(found) == widths * (widths - 1) // 2
    for i in range(widths):
        for j in range(i + 1, widths):
            value = float(found[f"ic/{WIDTHS[i]:g}-{WIDTHS[j]:g}"])
            assert value == pytest.approx(ic[i, j], rel=1e-12) == pytest.approx(ic[j, i], rel=1e-12)


def test_is_a_sum_over_features_not_their_mean() -> None:
    metric = InceptionConsistency([0.5, 1], suffix="_lite")
    metric.update([torch.zeros(3, 10), torch.full((3, 10), 2.0)])
    assert {name: float(value) for name, value in metric.compute().items()} == {
        "mic_lite": 40,
        "ic_lite/0.5-1": 40,
    }


def test_batches_and_ranks_of_any_size_make_no_difference() -> None:
    held = features(9, 4, 3, 0)
    whole, parts, other = (InceptionConsistency(WIDTHS[:3]) for _ in range(3))
    whole.update(held)
    for part in (slice(0, 2), slice(2, 2), slice(2, 6)):
        parts.update([x[part] for x in held])
    other.update([x[6:] for x in held])
    parts.sums += other.sums  # what the ranks' reduction does
    parts.count += other.count
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts.compute()[name], value, rtol=1e-12, atol=0)
    whole.reset()
    whole.update([x[:0] for x in held])
    with pytest.raises(UserError, match="no images"):
        whole.compute()


def test_of_an_extractors_features(
    lite: FeatureExtractor, smooth_images: Callable[[int, int, int, float], Tensor]
) -> None:
    pictures = [smooth_images(3, 32, 0, noise) for noise in (0.0, 5.0, 60.0)]
    metric = InceptionConsistency(WIDTHS[:3], lite.suffix)
    metric.update([lite(images).features for images in pictures])
    found = metric.compute()
    assert found["ic_lite/0.25-0.5"] < found["ic_lite/0.25-0.75"]
    assert float(found["mic_lite"]) == pytest.approx(
        written_out([lite(images).features for images in pictures])[1], rel=1e-12
    )


@pytest.mark.parametrize(
    "given",
    [
        features(3, 4, 2, 0),
        [*features(3, 4, 2, 0), torch.zeros(2, 4)],
        [torch.zeros(3)] * 3,
    ],
)
def test_what_does_not_fit_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="3 widths needs as many") as caught:
        InceptionConsistency(WIDTHS[:3]).update(given)
    assert "\n" not in str(caught.value)


def test_one_width_is_refused() -> None:
    with pytest.raises(UserError, match="two at least"):
        InceptionConsistency([1.0])
