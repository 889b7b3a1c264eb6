"""Colour matrices against their formulas pixel by pixel; blits against torch's own flips and turns."""

import colorsys
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gansharing.augment import transforms as t

DOUBLE = torch.float64
PIXELS = torch.rand(4, 3, 5, 6, dtype=DOUBLE)
FACTORS = torch.tensor([0.3, 1.0, 1.7, 2.5], dtype=DOUBLE)


def luma(images: Tensor) -> Tensor:
    return images.mean(1, keepdim=True)


def wide(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (t.brightness(FACTORS), PIXELS + wide(FACTORS)),
        (t.contrast(FACTORS), PIXELS * wide(FACTORS)),
        (t.saturation(FACTORS), luma(PIXELS) + (PIXELS - luma(PIXELS)) * wide(FACTORS)),
        (t.luma_flip(torch.tensor([True] * 4), PIXELS), PIXELS - 2 * luma(PIXELS)),
        (t.luma_flip(torch.tensor([False] * 4), PIXELS), PIXELS),
    ],
    ids=["brightness", "contrast", "saturation", "luma flip", "no luma flip"],
)
def test_colours_follow_the_formula(matrix: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(t.recolour(PIXELS, matrix), expected)


def test_hue_by_a_third_of_a_turn_moves_red_to_green_to_blue() -> None:
    turned = t.recolour(PIXELS, t.hue(torch.full((4,), 2 * math.pi / 3, dtype=DOUBLE)))
    torch.testing.assert_close(turned, PIXELS.roll(1, dims=1))


def test_hue_keeps_brightness_and_distance_from_grey() -> None:
    turned = t.recolour(PIXELS, t.hue(FACTORS))
    torch.testing.assert_close(luma(turned), luma(PIXELS))
    torch.testing.assert_close((turned - luma(turned)).norm(dim=1), (PIXELS - luma(PIXELS)).norm(dim=1))


def test_hue_turns_the_way_of_the_colour_wheel() -> None:
    red = torch.tensor([1.0, 0, 0], dtype=DOUBLE).view(1, 3, 1, 1)
    turned = t.recolour(red, t.hue(torch.tensor([0.5], dtype=DOUBLE))).flatten()
    angle, *_ = colorsys.rgb_to_hsv(*(turned - turned.min()).tolist())
    assert 0 < angle < 1 / 3


@pytest.mark.parametrize(
    ("move", "back"),
    [
        (t.scaling(FACTORS, 1 / FACTORS), t.scaling(1 / FACTORS, FACTORS)),
        (t.rotation(FACTORS), t.rotation(-FACTORS)),
        (t.translation(FACTORS, 2 * FACTORS), t.translation(-FACTORS, -2 * FACTORS)),
    ],
)
def test_moves_and_their_inverses(move: Tensor, back: Tensor) -> None:
    torch.testing.assert_close(move @ back, torch.eye(3, dtype=DOUBLE).expand(4, 3, 3))
    assert not torch.allclose(move, back)


def naive_shift(image: Tensor, right: int, down: int) -> Tensor:
    """Content moved; behind it the image seen in mirrors at its edges."""
    height, width = image.shape[1:]
    mirrored = torch.cat([image.flip(2), image, image.flip(2)], dim=2)
    mirrored = torch.cat([mirrored.flip(1), mirrored, mirrored.flip(1)], dim=1)
    return mirrored[:, height - down : 2 * height - down, width - right : 2 * width - right]


@given(st.booleans(), st.integers(0, 3), st.integers(-6, 6), st.integers(-6, 6), st.integers(6, 7))
def test_blits_copy_pixels(flip: bool, turns: int, right: int, down: int, side: int) -> None:
    images = torch.arange(2.0 * 3 * side * side).view(2, 3, side, side)
    changed = t.blit(
        images,
        torch.tensor([flip, False]),
        torch.tensor([turns, 0]),
        torch.tensor([[right, down], [0, 0]]),
    )
    expected = images[0].flip(2) if flip else images[0]
    expected = naive_shift(torch.rot90(expected, turns, (1, 2)), right, down)
    assert torch.equal(changed[0], expected)
    assert torch.equal(changed[1], images[1])


def test_blits_of_images_that_are_not_square() -> None:
    images = torch.arange(2.0 * 3 * 4 * 7).view(2, 3, 4, 7)
    changed = t.blit(
        images, torch.tensor([True, True]), torch.zeros(2).long(), torch.tensor([[2, -1], [0, 3]])
    )
    for image, result, (right, down) in zip(images, changed, [(2, -1), (0, 3)], strict=True):
        assert torch.equal(result, naive_shift(image.flip(2), right, down))
