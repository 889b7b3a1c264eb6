"""The warp against its matrix, its transpose, and exact moves; the filter against what defines it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gansharing.augment.transforms import rotation, scaling, translation
from gansharing.augment.warp import SYM6, downsample, fold, sample, upsample, warp

DOUBLE = torch.float64


def smooth(count: int, height: int, width: int) -> Tensor:
    """Waves of a few pixels' length, other ones in each image and channel."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=DOUBLE), torch.arange(width, dtype=DOUBLE), indexing="ij"
    )
    a, b, c = torch.rand(3, count, 3, 1, 1, dtype=DOUBLE)
    return torch.sin(0.3 * a * x + 0.3 * b * y + 6 * c)


def test_the_filter_is_an_orthonormal_wavelet_with_six_vanishing_moments() -> None:
    taps = torch.tensor(SYM6, dtype=DOUBLE)
    for shift in range(6):
        overlap = (taps[2 * shift :] * taps[: 12 - 2 * shift]).sum().item()
        assert overlap == pytest.approx(float(shift == 0), abs=1e-11)
    assert taps.sum().item() == pytest.approx(math.sqrt(2))
    high_pass = taps.flip(0) * (-1.0) ** torch.arange(12)
    place = torch.arange(12, dtype=DOUBLE) - 5.5
    for moment in range(6):
        assert (high_pass * place**moment).sum().item() == pytest.approx(0, abs=1e-9)


def test_up_and_down_again_is_the_image_off_the_border() -> None:
    images = torch.randn(2, 3, 12, 17, dtype=DOUBLE)
    again = downsample(F.pad(upsample(images), (5, 5, 5, 5)))
    inside = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(again[inside], images[inside], rtol=0, atol=1e-10)


def test_sampling_reads_as_grid_sample_does() -> None:
    images, grid = torch.randn(2, 3, 5, 6), torch.rand(2, 7, 4, 2) * 3 - 1.5
    expected = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    assert torch.equal(sample(images, grid), expected)


def test_sampling_can_be_differentiated_as_often_as_asked() -> None:
    images = torch.randn(2, 2, 4, 5, dtype=DOUBLE, requires_grad=True)
    grid = torch.rand(2, 3, 4, 2, dtype=DOUBLE) * 3 - 1.5
    assert torch.autograd.gradcheck(lambda x: sample(x, grid), images)
    assert torch.autograd.gradgradcheck(lambda x: sample(x, grid).square(), images)


def test_the_derivative_is_the_transposed_matrix() -> None:
    grid = torch.rand(1, 3, 3, 2, dtype=DOUBLE) * 2 - 1

    def flat(x: Tensor) -> Tensor:
        return sample(x.view(1, 1, 4, 4), grid).flatten()

    matrix = torch.stack([flat(unit) for unit in torch.eye(16, dtype=DOUBLE)], dim=1)
    x, y = torch.randn(16, dtype=DOUBLE, requires_grad=True), torch.randn(9, dtype=DOUBLE)
    (gradient,) = torch.autograd.grad(flat(x) @ y, x)
    torch.testing.assert_close(gradient, matrix.T @ y)


def test_fold_reflects_at_the_edges() -> None:
    folded = fold(torch.arange(-5, 9), 4).tolist()
    assert folded == [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]


def moved(images: Tensor, matrix: Tensor) -> Tensor:
    """Content moved by a matrix (3, 3): the inverse taken by a solver, not by the pipe's own composition."""
    return warp(images, torch.linalg.inv(matrix).expand(len(images), 3, 3))


def one(*values: float) -> list[Tensor]:
    return [torch.tensor([value], dtype=DOUBLE) for value in values]


def inside(images: Tensor, margin: int = 8) -> Tensor:
    return images[..., margin:-margin, margin:-margin]


def test_whole_shifts_and_right_angles_are_exact_moves() -> None:
    images = smooth(2, 32, 32)
    shifted = moved(images, translation(*one(3, -2))[0])
    torch.testing.assert_close(inside(shifted), inside(images.roll((-2, 3), (2, 3))), rtol=0, atol=2e-3)
    # Clockwise, as seen with y down.
    turned = moved(images, rotation(*one(math.pi / 2))[0])
    torch.testing.assert_close(inside(turned), inside(torch.rot90(images, -1, (2, 3))), rtol=0, atol=0.02)


def test_half_a_pixel_is_half_a_pixel() -> None:
    x = torch.arange(32, dtype=DOUBLE)
    wave = torch.sin(0.3 * x).expand(1, 3, 32, 32)
    expected = torch.sin(0.3 * (x - 0.5)).expand(1, 3, 32, 32)
    torch.testing.assert_close(
        inside(moved(wave, translation(*one(0.5, 0))[0])), inside(expected), rtol=0, atol=0.01
    )


def test_scaling_stretches_about_the_centre() -> None:
    x = torch.arange(32, dtype=DOUBLE) - 15.5
    wave = torch.cos(0.4 * x).expand(1, 3, 32, 32)
    expected = torch.cos(0.2 * x).expand(1, 3, 32, 32)
    torch.testing.assert_close(
        inside(moved(wave, scaling(*one(2, 1))[0])), inside(expected), rtol=0, atol=0.02
    )


def test_there_and_back_again() -> None:
    images = smooth(3, 48, 48)
    matrix = (rotation(*one(0.7)) @ scaling(*one(1.2, 1 / 1.2)) @ translation(*one(1.3, -0.6)))[0]
    again = warp(moved(images, matrix), matrix.expand(3, 3, 3))
    torch.testing.assert_close(inside(again, 14), inside(images, 14), rtol=0, atol=0.03)


def test_the_whole_warp_twice_differentiated() -> None:
    images = torch.randn(1, 1, 3, 4, dtype=DOUBLE, requires_grad=True)
    inverse = rotation(*one(0.5)) @ translation(*one(0.3, 5.0))
    assert torch.autograd.gradcheck(lambda x: warp(x, inverse), images)
    assert torch.autograd.gradgradcheck(lambda x: warp(x, inverse).square(), images)
