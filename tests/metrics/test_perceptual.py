"""Perceptual distances against torchmetrics, naive formulas and finite differences."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchvision.models import alexnet

from gansharing.errors import UserError
from gansharing.metrics.perceptual import PerceptualDistance, build_distance


def pair(size: int = 48, count: int = 2) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(5)
    coarse = torch.rand(2 * count, 3, 6, 6, generator=source) * 2 - 1
    first, second = F.interpolate(coarse, (size, size), mode="bilinear").chunk(2)
    return first, second


@pytest.fixture(scope="module")
def lite_distance() -> PerceptualDistance:
    return build_distance("lpips_lite")


@pytest.fixture(scope="module")
def alex_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under torchvision's names; the classifier is left out, it is not asked for."""
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    state = {name: value for name, value in alexnet(weights=None).state_dict().items() if "features" in name}
    torch.save(state, path)
    return path


def test_lpips_is_torchmetrics_own(alex_file: Path) -> None:
    ours = build_distance("lpips_alex", alex_file)
    theirs: Any = _NoTrainLpips(net="alex", pnet_rand=True)
    theirs.net.load_state_dict(ours.network.net.state_dict())  # type: ignore[union-attr,operator]
    state = torch.load(alex_file, weights_only=True)
    assert torch.equal(theirs.net.slice3[1].weight, state["features.6.weight"])
    first, second = pair(64)
    expected = theirs(first, second).flatten()
    assert float(expected.min()) > 1e-4
    torch.testing.assert_close(ours.distance(first, second), expected, rtol=1e-4, atol=1e-7)


def test_lite_is_the_mean_over_depths_of_cosine_differences(lite_distance: PerceptualDistance) -> None:
    first, second = pair(112)
    levels = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: levels.append(out))
        for block in lite_distance.network._blocks  # type: ignore[union-attr]
    ]
    pixels = torch.cat([first, second]).add(1).mul(127.5)
    lite_distance.network.extract_features((pixels - 127) / 128)  # type: ignore[union-attr,operator]
    for hook in hooks:
        hook.remove()
    # Unit vectors differ by 2 - 2 cos; the last map of each size counts.
    chosen = {level.shape[-1]: level for level in levels}
    assert sorted(chosen) == [4, 7, 14, 28, 56]
    per_level = [
        2 - 2 * F.cosine_similarity(*level.chunk(2), dim=1).mean((1, 2)) for level in chosen.values()
    ]
    expected = torch.stack(per_level).mean(0)
    torch.testing.assert_close(lite_distance.distance(first, second), expected, rtol=1e-4, atol=1e-6)


def test_equal_images_are_nowhere_apart_and_worse_ones_further(lite_distance: PerceptualDistance) -> None:
    image, _ = pair(64, 1)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    rising = [float(lite_distance.distance(image, image + s * noise)) for s in (0.0, 0.1, 0.3, 1.0)]
    assert rising[0] == 0
    assert rising == sorted(rising) and rising[3] > 2 * rising[1]


def test_it_is_symmetric_one_number_a_pair_and_blind_to_its_batch(lite_distance: PerceptualDistance) -> None:
    first, second = pair(40, 3)
    forth, back = lite_distance.distance(first, second), lite_distance.distance(second, first)
    assert forth.shape == (3,)
    torch.testing.assert_close(forth, back)
    alone = lite_distance.distance(first[1:2], second[1:2])
    torch.testing.assert_close(alone, forth[1:2], rtol=1e-4, atol=1e-6)


def test_its_gradient_is_the_finite_difference(lite_distance: PerceptualDistance) -> None:
    image, target = pair(32, 1)
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(lite_distance.distance(image, target).sum(), image)
    step = 0.01 * gradient / gradient.norm()
    with torch.no_grad():
        risen = lite_distance.distance(image + step, target) - lite_distance.distance(image - step, target)
    assert float(risen) / 0.02 == pytest.approx(float(gradient.norm()), rel=0.02)


def test_images_beyond_the_range_keep_their_gradient(lite_distance: PerceptualDistance) -> None:
    image, target = pair(32, 1)
    image = (image + 3).requires_grad_()
    lite_distance.distance(image, target).sum().backward()
    assert float(image.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_it_stays_in_eval_mode_and_trains_nothing(lite_distance: PerceptualDistance) -> None:
    lite_distance.train()
    assert not any(module.training for module in lite_distance.modules())
    assert not any(parameter.requires_grad for parameter in lite_distance.parameters())


def test_building_one_leaves_the_random_state_alone(alex_file: Path) -> None:
    before = torch.get_rng_state()
    build_distance("lpips_alex", alex_file)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_of_another_network_are_refused(alex_file: Path) -> None:
    with pytest.raises(UserError, match="does not fit lpips_vgg.*slice1"):
        build_distance("lpips_vgg", alex_file)


def test_without_weights_and_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="name it with weights, or use lpips_lite") as caught:
        build_distance("lpips_vgg")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ssim"}, "not known"),
        ({"name": "lpips_lite", "weights": "x.pth"}, "carries its own"),
        ({"name": "lpips_alex", "weights": "nowhere.pth"}, "there is no file nowhere.pth"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_distance(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8)])
def test_what_is_no_batch_of_float_images_is_refused(
    lite_distance: PerceptualDistance, images: Tensor
) -> None:
    with pytest.raises(UserError, match="float images"):
        lite_distance.distance(images, images)


def test_images_too_small_for_alexnet_are_refused(alex_file: Path) -> None:
    with pytest.raises(UserError, match="at least 32 px.*lpips_lite"):
        build_distance("lpips_alex", alex_file).distance(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
