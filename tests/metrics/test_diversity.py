"""The few-shot watches against sums written out pair by pair."""

import itertools
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gansharing.errors import UserError
from gansharing.metrics import diversity
from gansharing.metrics.diversity import Diversity, mean_of_pairs, mean_within, pairwise
from gansharing.metrics.perceptual import PerceptualDistance, build_distance


class Pixels(PerceptualDistance):
    """Squared distance of the pixels: sums that can be written out."""

    name = "lpips_pixels"

    def maps(self, images: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        raise AssertionError("pixels are compared as they are: nobody asks for maps")

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def noise(count: int, seed: int, size: int = 4) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=draw, dtype=torch.uint8)


def written_out(a: Tensor, b: Tensor) -> float:
    return float(((a.double() - b.double()) / 127.5).square().sum())


def expected(samples: Tensor, real: Tensor, centres: list[int]) -> dict[str, float]:
    pairs = list(itertools.combinations(range(len(samples)), 2))
    d = {(i, j): written_out(samples[i], samples[j]) for i, j in pairs}
    home = [min(centres, key=lambda c: written_out(x, real[c])) for x in samples]
    within = []
    for centre in centres:
        inside = [d[i, j] for i, j in pairs if home[i] == home[j] == centre]
        within += [statistics.mean(inside)] if inside else []
    nearest = [min(written_out(x, r) for r in real) for x in samples]
    return {
        "lpips_pixels": statistics.mean(d.values()),
        "intra_lpips_pixels": statistics.mean(within),
        "nearest_real_pixels": statistics.median_low(nearest),
    }


@given(st.integers(5, 12), st.integers(2, 6), st.integers(0, 99))
def test_equals_the_sums_written_out(count: int, reals: int, seed: int) -> None:
    samples, real = noise(count, seed), noise(reals, seed + 1000)
    metric = Diversity(Pixels(), real, clusters=3)
    metric.update(samples)
    found = metric.compute()
    for name, value in expected(samples, real, metric.centres.tolist()).items():
        assert found[name].item() == pytest.approx(value, rel=1e-4), name


def test_copies_of_the_training_images_are_seen() -> None:
    real = noise(40, 0)
    copies, fresh = real[torch.arange(40) % 20], noise(40, 1)
    results = []
    for samples in (copies, fresh):
        metric = Diversity(Pixels(), real, clusters=5)
        metric.update(samples)
        results.append(metric.compute())
    copied, new = results
    assert copied["copied_pixels"] == 1
    assert copied["nearest_real_pixels"] == pytest.approx(0, abs=1e-4)
    assert new["copied_pixels"] < 0.2
    assert new["nearest_real_pixels"] == pytest.approx(float(new["nearest_real_pixels_loo"]), rel=0.1)
    assert new["nearest_real_pixels_low"] <= new["nearest_real_pixels"]


def test_one_image_per_cluster_repeated_has_no_diversity_within() -> None:
    real = noise(4, 0)
    metric = Diversity(Pixels(), real, clusters=4)
    metric.update(real.repeat(3, 1, 1, 1))
    found = metric.compute()
    assert found["intra_lpips_pixels"] == pytest.approx(0, abs=1e-4)
    assert found["lpips_pixels"] > 1


def test_batches_and_empty_ones_make_no_difference() -> None:
    samples, real = noise(9, 2), noise(3, 3)
    whole, parts = (Diversity(Pixels(), real, clusters=2) for _ in range(2))
    whole.update(samples)
    for part in (samples[:4], samples[:0], samples[4:]):
        parts.update(part)
    assert all(torch.equal(v, parts.compute()[k]) for k, v in whole.compute().items())
    parts.reset()
    parts.update(samples)
    assert all(torch.equal(v, parts.compute()[k]) for k, v in whole.compute().items())


def test_blocks_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = noise(19, 0), noise(21, 1)
    whole = pairwise(Pixels(), x, y)
    monkeypatch.setattr(diversity, "_BYTES", 1)
    torch.testing.assert_close(pairwise(Pixels(), x, y), whole, rtol=1e-5, atol=1e-3)


def test_against_the_distance_of_each_pair() -> None:
    lite = build_distance("lpips_lite")
    x, y = noise(3, 0, 32), noise(4, 1, 32)
    table = pairwise(lite, x, y)
    for i, j in itertools.product(range(3), range(4)):
        single = lite(x[i : i + 1].float() / 127.5 - 1, y[j : j + 1].float() / 127.5 - 1)
        assert table[i, j].item() == pytest.approx(single.item(), rel=1e-4)
    metric = Diversity(lite, y, clusters=2)
    metric.update(x)
    assert set(metric.compute()) == {
        *("lpips_lite", "intra_lpips_lite", "nearest_real_lite", "copied_lite"),
        *("nearest_real_lite_low", "nearest_real_lite_loo"),
    }


def test_a_cluster_without_a_pair_is_left_out() -> None:
    d = torch.tensor([[0.0, 2, 8], [2, 0, 6], [8, 6, 0]])
    assert mean_of_pairs(d) == pytest.approx(16 / 3)
    assert mean_within(d, torch.tensor([4, 4, 1])) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"real": noise(1, 0)}, "at least 2 training images"),
        ({"real": noise(3, 0), "clusters": 0}, "1 cluster"),
        ({"real": noise(3, 0).float()}, "uint8"),
    ],
)
def test_bad_references_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Diversity(Pixels(), **options)


def test_too_few_samples_are_refused() -> None:
    metric = Diversity(Pixels(), noise(6, 0), clusters=4)
    metric.update(noise(4, 1))
    with pytest.raises(UserError, match="more samples"):
        metric.compute()
