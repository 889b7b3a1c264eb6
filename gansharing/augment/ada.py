"""Adaptive discriminator augmentation: as strong as the discriminator's overfitting asks for."""

import math

import torch
from torch import Tensor

from gansharing.augment import transforms as t
from gansharing.augment.base import Augmentation
from gansharing.augment.warp import warp
from gansharing.errors import UserError

_EVERY = 4  # batches between two changes of p, as in the paper
_SCALE = 0.2 * math.log(2)
_SHIFT = 0.125  # of the side


class ADA(Augmentation):
    """Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data": pipe ``bgc``.

    Each transform below is applied to each image by a chance of its own, p, in this order (appendix B):

    - pixel blitting: mirroring (half of the times), 0 to 3 quarter turns, a shift by whole pixels of up to
      1/8 of the side;
    - geometry: scaling by 2^(0.2 n), rotation by any angle, scaling x by 2^(0.2 n) and y by its inverse,
      rotation again, a shift by 1/8 n of the side, with n ~ N(0, 1); the rotations with 1 - sqrt(1 - p) each,
      so that either happens with p;
    - colour: brightness x + 0.2 n, contrast x 2^(0.5 n), luma flip (half of the times), hue rotation by any
      angle, saturation 2^n.

    Every four batches p moves by the share of ``kimg`` thousand images that these batches were, up where
    ``r_t = E sign(D(real))`` exceeds ``target`` and down where it does not (section 3); it starts at 0, and
    at 0 images stay what they are, exactly. The draws come from torch's global generator on the CPU.

    Blits copy pixels apart from the general warp, so a batch without geometry stays sharp. On CUDA the
    warp's gradient sums in no fixed order: runs agree to rounding, not bit by bit.

    Args:
        target: The r_t to hold, in (-1, 1).
        kimg: Thousands of images in which p could go from 0 to 1.

    Attributes:
        p: The chance, a scalar buffer in [0, 1].
        tally: Since p was last changed: sum of the scores' signs, scores, images; a buffer (3,).

    Shape:
        input and output: (B, 3, H, H) floating point, nominally in [-1, 1]; dtype and channels_last are kept.

    Raises:
        UserError: an impossible ``target`` or ``kimg``.
    """

    p: Tensor
    tally: Tensor

    def __init__(self, target: float = 0.6, kimg: float = 500.0) -> None:
        super().__init__()
        if not -1 < target < 1:
            raise UserError(f"ADA target is {target}; give a number between -1 and 1, the paper's is 0.6")
        if kimg <= 0:
            raise UserError(f"ADA kimg is {kimg}; give a positive number of thousand images")
        self.target, self.kimg = target, kimg
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("tally", torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        """Augment each image on its own: (B, 3, H, H) to (B, 3, H, H)."""
        channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        with torch.autocast(images.device.type, enabled=False):
            x = images if images.dtype == torch.float64 else images.float()
            draw = _Draws(x, self.p)
            x = _recolour(draw, _warp(draw, _blit(draw, x)))
        return x.to(
            images.dtype, memory_format=torch.channels_last if channels_last else torch.preserve_format
        )

    @torch.no_grad()
    def observe(self, real_scores: Tensor) -> None:
        """Count the signs of the discriminator's scores of real images."""
        self.tally[0] += real_scores.sign().sum()
        self.tally[1] += real_scores.numel()

    @torch.no_grad()
    def adapt(self, step: int, images: int) -> None:
        """Move p if ``step`` is one of every four."""
        self.tally[2] += images
        if step % _EVERY == 0:
            signs, scores, seen = self.tally
            direction = (signs / scores.clamp(min=1) - self.target).sign()
            self.p.add_(direction * seen / (self.kimg * 1000)).clamp_(0, 1)
            self.tally.zero_()

    def figures(self) -> dict[str, Tensor]:
        """``ada_p``: the chance."""
        return {"ada_p": self.p.clone()}

    def extra_repr(self) -> str:
        """Show the constants where the module is printed."""
        return f"target={self.target}, kimg={self.kimg}"


class _Draws:
    """Draws for each image of a batch, made on the CPU and moved to it; nothing waits for the device."""

    def __init__(self, images: Tensor, p: Tensor) -> None:
        self.images, self.p = images, p
        self.count = len(images)

    def chance(self, p: Tensor | None = None) -> Tensor:
        """(B,) bool, true with p."""
        return torch.rand(self.count).to(self.p.device) < (self.p if p is None else p)

    def uniform(self, low: float, high: float, columns: int = 1) -> Tensor:
        """(B,), or (B, columns), uniform on [low, high)."""
        return self._like(torch.rand(self.count, columns) * (high - low) + low)

    def normal(self, deviation: float, columns: int = 1) -> Tensor:
        """(B,), or (B, columns), from N(0, deviation^2)."""
        return self._like(torch.randn(self.count, columns) * deviation)

    def integer(self, end: int) -> Tensor:
        """(B,) int64, uniform on 0 ... end - 1."""
        return torch.randint(end, (self.count,)).to(self.images.device)

    def _like(self, drawn: Tensor) -> Tensor:
        return drawn.to(self.images).squeeze(1)


def _blit(draw: _Draws, x: Tensor) -> Tensor:
    flip = draw.chance() & (draw.integer(2) == 1)
    turns = draw.chance() * draw.integer(4)
    sides = x.new_tensor([x.shape[3], x.shape[2]])
    shift = draw.chance()[:, None] * (draw.uniform(-_SHIFT, _SHIFT, 2) * sides).round().long()
    return t.blit(x, flip, turns, shift)


def _warp(draw: _Draws, x: Tensor) -> Tensor:
    either = 1 - (1 - draw.p).sqrt()
    stretch, squeeze = draw.normal(_SCALE).exp(), draw.normal(_SCALE).exp()
    before, after = draw.uniform(-math.pi, math.pi), draw.uniform(-math.pi, math.pi)
    move = draw.normal(_SHIFT, 2)
    steps = [
        (draw.chance(), t.scaling(1 / stretch, 1 / stretch)),
        (draw.chance(either), t.rotation(-before)),
        (draw.chance(), t.scaling(1 / squeeze, squeeze)),
        (draw.chance(either), t.rotation(-after)),
        (draw.chance(), t.translation(-move[:, 0] * x.shape[3], -move[:, 1] * x.shape[2])),
    ]
    inverse, chosen = t.identity(draw.count, 3, x), torch.zeros_like(steps[0][0])
    for apply, undo in steps:
        inverse = torch.where(apply.view(-1, 1, 1), inverse @ undo, inverse)
        chosen = chosen | apply
    return torch.where(chosen.view(-1, 1, 1, 1), warp(x, inverse), x)


def _recolour(draw: _Draws, x: Tensor) -> Tensor:
    flip = draw.integer(2) == 1
    steps = [
        (draw.chance(), t.brightness(draw.normal(0.2))),
        (draw.chance(), t.contrast(draw.normal(0.5 * math.log(2)).exp())),
        (draw.chance(), t.luma_flip(flip, x)),
        (draw.chance(), t.hue(draw.uniform(-math.pi, math.pi))),
        (draw.chance(), t.saturation(draw.normal(math.log(2)).exp())),
    ]
    matrix, chosen = t.identity(draw.count, 4, x), torch.zeros_like(steps[0][0])
    for apply, change in steps:
        matrix = torch.where(apply.view(-1, 1, 1), change @ matrix, matrix)
        chosen = chosen | apply
    return torch.where(chosen.view(-1, 1, 1, 1), t.recolour(x, matrix), x)
