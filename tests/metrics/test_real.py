"""The reference's features: kept, found again, and never believed when damaged."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.metrics import FeatureExtractor, RealFeatures, real_features

Make = Callable[..., Any]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANSHARING_CACHE", str(tmp_path))
    return tmp_path / "features"


def take(images: Any, extractor: FeatureExtractor) -> RealFeatures:
    return real_features(images, extractor, batch_size=4, progress=False)


def same(a: RealFeatures, b: RealFeatures) -> bool:
    return torch.equal(a.features, b.features) and all(map(torch.equal, a.moments[:2], b.moments[:2]))


def test_second_time_reads_no_image(
    cache: Path, lite: FeatureExtractor, smooth_images: Make, image_set: Make
) -> None:
    images = image_set(smooth_images(10, 32, 0, 10.0))
    first = take(images, lite)
    assert images.batches == 3
    assert same(first, take(images, lite))
    assert images.batches == 3
    features = first.features.double().numpy()
    assert np.allclose(first.moments.mu, features.mean(0), rtol=1e-9)
    assert np.allclose(first.moments.sigma, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-12)
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]


def test_other_images_are_other_features(
    cache: Path, lite: FeatureExtractor, smooth_images: Make, image_set: Make
) -> None:
    images = image_set(smooth_images(6, 32, 0, 10.0))
    first = take(images, lite)
    images.images, images.fingerprint = smooth_images(6, 32, 1, 10.0), "f" * 64
    assert not same(first, take(images, lite))
    assert len(list(cache.iterdir())) == 2


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda _: b"", lambda _: b"no safetensors at all"])
def test_damaged_cache_is_computed_again(
    damage: Callable[[bytes], bytes],
    cache: Path,
    lite: FeatureExtractor,
    smooth_images: Make,
    image_set: Make,
) -> None:
    images = image_set(smooth_images(6, 32, 0, 10.0))
    first = take(images, lite)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="damaged"):
        assert same(first, take(images, lite))
    assert file.read_bytes() == whole


def test_one_image_is_no_reference(cache: Path, lite: FeatureExtractor, image_set: Make) -> None:
    with pytest.raises(UserError, match="at least 2"):
        take(image_set(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), lite)


def test_a_cache_that_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lite: FeatureExtractor,
    smooth_images: Make,
    image_set: Make,
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("GANSHARING_CACHE", str(blocked))
    with pytest.raises(UserError, match="GANSHARING_CACHE"):
        take(image_set(smooth_images(4, 32, 0, 10.0)), lite)
    assert os.stat(blocked).st_size == 0


def test_failing_images_leave_nothing_behind(cache: Path, lite: FeatureExtractor, image_set: Make) -> None:
    images = image_set(torch.zeros(6, 3, 8, 8))  # float: refused by the extractor

    with pytest.raises(UserError, match="uint8"):
        take(images, lite)
    assert not cache.exists()


def test_share_is_a_tensor_of_all(
    cache: Path, lite: FeatureExtractor, smooth_images: Make, image_set: Make
) -> None:
    stack: Tensor = smooth_images(9, 32, 0, 10.0)
    taken = take(image_set(stack), lite)
    assert torch.allclose(taken.features, lite(stack).features, atol=1e-4)
