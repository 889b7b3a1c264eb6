"""Interpolation between latents, and walks along several of them."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from gansharing.errors import UserError

# Below this sine the ends do not determine a great circle: parallel, opposite or zero.
_DEGENERATE = 1e-7


def lerp(start: Tensor, end: Tensor, share: float | Tensor) -> Tensor:
    """The point a share of the straight way from start to end.

    Args:
        start: (..., D).
        end: (..., D), broadcast against ``start``.
        share: 0 gives start, 1 gives end; a tensor is broadcast against the latents.

    Returns:
        (..., D).
    """
    return torch.lerp(start, end, torch.as_tensor(share, dtype=start.dtype, device=start.device))


def slerp(start: Tensor, end: Tensor, share: float | Tensor) -> Tensor:
    """Spherical interpolation along the last dimension (White 2016, "Sampling Generative Networks").

    The direction turns at an even pace along the great circle and the norm changes linearly, so a walk
    between two Gaussian latents stays where Gaussian latents lie. Parallel and zero vectors fix no great
    circle: they are joined by the straight line. Opposite vectors have many: a fixed one is taken.

    Args:
        start: (..., D).
        end: (..., D), broadcast against ``start``.
        share: 0 gives start, 1 gives end; a tensor is broadcast against the latents.

    Returns:
        (..., D) in the dtype of ``start``; computed in float64.
    """
    first, last = torch.broadcast_tensors(start.double(), end.double())
    share = torch.as_tensor(share, dtype=first.dtype, device=first.device)
    norm_first, unit_first = _norm_and_unit(first)
    norm_last, unit_last = _norm_and_unit(last)
    cosine = (unit_first * unit_last).sum(-1, keepdim=True)
    rest = unit_last - cosine * unit_first
    sine = rest.norm(dim=-1, keepdim=True)
    across = torch.where(sine > _DEGENERATE, rest / sine.clamp_min(_DEGENERATE), _perpendicular(unit_first))
    angle = torch.atan2(sine, cosine) * share
    turned = (unit_first * angle.cos() + across * angle.sin()) * torch.lerp(norm_first, norm_last, share)
    parallel = (sine <= _DEGENERATE) & (cosine >= 0)
    straight = parallel | (norm_first == 0) | (norm_last == 0)
    return torch.where(straight, torch.lerp(first, last, share), turned).to(start.dtype)


def _norm_and_unit(vector: Tensor) -> tuple[Tensor, Tensor]:
    norm = vector.norm(dim=-1, keepdim=True)
    return norm, vector / norm.clamp_min(torch.finfo(vector.dtype).tiny)


def _perpendicular(unit: Tensor) -> Tensor:
    """Some unit vector at right angles: the axis the vector leans on least, made orthogonal to it."""
    axis = torch.zeros_like(unit).scatter(-1, unit.abs().argmin(-1, keepdim=True), 1.0)
    rest = axis - (axis * unit).sum(-1, keepdim=True) * unit
    return rest / rest.norm(dim=-1, keepdim=True).clamp_min(_DEGENERATE)


_MODES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"lerp": lerp, "slerp": slerp}


def walk(
    keyframes: Tensor, steps: int, mode: Literal["lerp", "slerp"] = "slerp", loop: bool = False
) -> Tensor:
    """Visit keyframes in order with evenly spaced latents between them.

    Args:
        keyframes: (K, D) latents with K >= 2.
        steps: latents from one keyframe (included) to the next (excluded); at least 1.
        mode: ``slerp`` for Gaussian latents, ``lerp`` for spaces without a preferred norm (StyleGAN's w).
        loop: go back to the first keyframe, so that the walk repeats without a jump.

    Returns:
        ((K - 1) steps + 1, D) with both ends, or (K steps, D) for a loop, which ends one step before
        its start.

    Raises:
        UserError: fewer than two keyframes, fewer than one step, or an unknown mode.
    """
    if keyframes.dim() != 2 or len(keyframes) < 2:
        raise UserError(
            f"walk: needs at least 2 keyframes of shape (K, D), got shape {tuple(keyframes.shape)}"
        )
    if steps < 1:
        raise UserError(f"walk: steps must be at least 1, got {steps}")
    if mode not in _MODES:
        raise UserError(f"walk: unknown mode {mode!r}; choose from {', '.join(_MODES)}")
    ends = torch.roll(keyframes, -1, dims=0)
    starts = keyframes if loop else keyframes[:-1]
    shares = torch.arange(steps, dtype=keyframes.dtype, device=keyframes.device) / steps
    path = _MODES[mode](starts[:, None], ends[: len(starts), None], shares[None, :, None]).flatten(0, 1)
    return path if loop else torch.cat([path, keyframes[-1:]])
