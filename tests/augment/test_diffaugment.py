import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.augmentation import RandomBrightness
from torch import Tensor

from gansharing.augment import DiffAugment
from gansharing.augment.operations import RandomContrast, RandomCutout, RandomSaturation
from gansharing.errors import UserError

SIDES = st.integers(2, 13)


def last(operation: torch.nn.Module, name: str) -> Tensor:
    return operation._params[name]


def ramp(batch: int, height: int, width: int) -> Tensor:
    """Images of distinct values, so that where a pixel came from can be read off."""
    return torch.arange(1.0, 1 + batch * 3 * height * width).view(batch, 3, height, width)


@given(SIDES, SIDES)
def test_saturation_is_the_formula(height: int, width: int) -> None:
    images, operation = torch.randn(3, 3, height, width), RandomSaturation()
    out = operation(images)
    for image, result, factor in zip(images, out, last(operation, "factor"), strict=True):
        grey = (image[0] + image[1] + image[2]) / 3
        expected = torch.stack([(channel - grey) * factor + grey for channel in image])
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@given(SIDES, SIDES)
def test_contrast_is_the_formula(height: int, width: int) -> None:
    images, operation = torch.randn(3, 3, height, width), RandomContrast()
    out = operation(images)
    for image, result, factor in zip(images, out, last(operation, "factor"), strict=True):
        mean = image.sum() / image.numel()
        torch.testing.assert_close(result, (image - mean) * factor + mean, atol=1e-5, rtol=1e-5)


def test_brightness_adds_one_number_per_image_and_clamps_nothing() -> None:
    images = torch.randn(64, 3, 8, 8) * 5
    operation = DiffAugment("color")._operations[0]
    assert isinstance(operation, RandomBrightness)
    added = operation(images) - images
    shift = added.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(added, shift.expand_as(added), atol=1e-5, rtol=0)
    assert shift.min() < -0.4 and shift.max() > 0.4 and shift.abs().max() <= 0.5


@pytest.mark.parametrize(("operation", "low", "high"), [(RandomSaturation, 0, 2), (RandomContrast, 0.5, 1.5)])
def test_factors_are_uniform(operation: type[RandomSaturation], low: float, high: float) -> None:
    drawn = operation()
    drawn(torch.zeros(4000, 3, 1, 1))
    shares = torch.histc(last(drawn, "factor"), bins=4, min=low, max=high) / 4000
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)


def naive_shift(image: Tensor, down: int, right: int) -> Tensor:
    out = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                out[:, row, column] = image[:, row + down, column + right]
    return out


@given(SIDES, SIDES)
def test_translation_is_a_whole_shift_with_zeros(height: int, width: int) -> None:
    images = ramp(4, height, width)
    rows, columns = int(height / 8 + 0.5), int(width / 8 + 0.5)
    for image, result in zip(images, DiffAugment("translation")(images), strict=True):
        assert any(
            torch.equal(result, naive_shift(image, down, right))
            for down in range(-rows, rows + 1)
            for right in range(-columns, columns + 1)
        )


def test_translation_is_uniform_with_its_ends() -> None:
    # One bright pixel in the middle of 16 x 24: shifts of at most 2 down and 3 across.
    images = torch.zeros(7000, 1, 16, 24)
    images[:, :, 8, 12] = 1
    place = DiffAugment("translation")(images).flatten(1).argmax(1)
    down, across = place // 24 - 8, place % 24 - 12
    for shift, most in ((down, 2), (across, 3)):
        shares = torch.bincount(shift + most, minlength=2 * most + 1) / 7000
        assert len(shares) == 2 * most + 1
        torch.testing.assert_close(shares, torch.full_like(shares, 1 / len(shares)), atol=0.02, rtol=0)


@given(SIDES, SIDES)
def test_cutout_fills_the_box_clamped_to_the_border(height: int, width: int) -> None:
    images, operation = ramp(6, height, width), RandomCutout()
    out = operation(images)
    for image, result, centre in zip(images, out, last(operation, "centre").tolist(), strict=True):
        expected = image.clone()
        for row in range(int(height / 2 + 0.5)):
            for column in range(int(width / 2 + 0.5)):
                at_row = min(max(centre[0] - int(height / 2 + 0.5) // 2 + row, 0), height - 1)
                at_column = min(max(centre[1] - int(width / 2 + 0.5) // 2 + column, 0), width - 1)
                expected[:, at_row, at_column] = 0
        assert torch.equal(result, expected)


@pytest.mark.parametrize(
    ("side", "last_centre", "smallest", "mean"), [(32, 32, 1 / 16, 0.1864), (30, 29, 0.0711, 0.1917)]
)
def test_cutout_covers_a_sixteenth_to_a_quarter(
    side: int, last_centre: int, smallest: float, mean: float
) -> None:
    operation = RandomCutout()
    area = (operation(torch.ones(6000, 1, side, side)) == 0).float().mean((1, 2, 3))
    assert last(operation, "centre").min() == 0 and last(operation, "centre").max() == last_centre
    assert area.max() == 0.25 and area.min() == pytest.approx(smallest, abs=0.003)
    assert area.mean().item() == pytest.approx(mean, abs=0.004)


@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "color,translation,cutout"])
@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradients_twice(policy: str, size: tuple[int, int]) -> None:
    augment = DiffAugment(policy)

    def fixed(images: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(images)

    images = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fixed, images)
    # Each operation is linear in the image; a square makes the second derivative something to get wrong.
    assert torch.autograd.gradgradcheck(lambda x: fixed(x).square(), images)


def test_order_is_the_policys() -> None:
    images = torch.full((8, 3, 16, 16), 5.0)
    torch.manual_seed(1)
    cut_last = DiffAugment("color,cutout")(images)
    torch.manual_seed(1)
    cut_first = DiffAugment("cutout, color")(images)
    # A hole is 0 where it is cut last, and 0 + brightness (then contrast) where it is cut first.
    assert (cut_last == 0).flatten(1).any(1).all()
    assert not (cut_first == 0).any()


def test_each_image_has_its_own_draw() -> None:
    out = DiffAugment()(torch.randn(1, 3, 16, 16).expand(8, -1, -1, -1))
    assert all(not torch.equal(out[i], out[j]) for i in range(8) for j in range(i))


def test_restored_random_state_repeats_the_draws() -> None:
    augment, images = DiffAugment(), torch.randn(4, 3, 16, 16)
    augment(images)
    state = torch.get_rng_state()
    first = augment(images)
    torch.set_rng_state(state)
    assert torch.equal(first, augment(images))
    torch.set_rng_state(state)
    assert torch.equal(first, pickle.loads(pickle.dumps(copy.deepcopy(augment)))(images))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtype_and_layout_stay(dtype: torch.dtype, autocast: bool) -> None:
    images = torch.randn(4, 3, 16, 16).to(dtype).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = DiffAugment()(images)
    assert out.dtype == dtype
    assert out.shape == images.shape
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert DiffAugment()(images.contiguous()).is_contiguous()


def test_no_state_enters_checkpoints() -> None:
    assert not DiffAugment().state_dict()


def test_empty_policy_changes_nothing() -> None:
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(DiffAugment("")(images), images)


@pytest.mark.parametrize(
    ("policy", "hint"),
    [
        ("colour", "did you mean 'color'"),
        ("color,translate", "did you mean 'translation'"),
        ("cutout,cutout", "twice"),
        ("xyz", "choose from color, translation, cutout"),
    ],
)
def test_bad_policy_says_how_to_mend_it(policy: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        DiffAugment(policy)
