"""Batch norm with the batch's statistics and a gated linear unit in one.

The normalised map is made sample by sample and never kept: on the way back it is computed again from what
goes in. That is half of what a generator of gated layers holds, and less traffic with the memory.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from gansharing.networks.derivatives import as_written, worked_out_here


def norm_gate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running: tuple[Tensor, Tensor] | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """``glu(batch_norm(x, *running, weight, bias, True, momentum, eps), 1)``.

    Args:
        x: ``(N, 2C, H, W)``.
        weight: ``(2C,)``.
        bias: ``(2C,)``.
        running: Mean and variance ``(2C,)``, brought up to date; or None.
        momentum: By which they follow.
        eps: Added to the variance.

    Returns:
        ``(N, C, H, W)``, channels-last where the leaner way was taken; differentiable any number of times.
    """
    mean, variance = running or (None, None)
    if worthwhile(x):
        out: Tensor = _NormGate.apply(x, weight, bias, mean, variance, momentum, eps)
        return out
    return F.glu(F.batch_norm(x, mean, variance, weight, bias, True, momentum, eps), dim=1)


def worthwhile(x: Tensor) -> bool:
    """What is trained on the CPU, in no graph that is to be exported."""
    return torch.is_grad_enabled() and worked_out_here(x)


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


class _NormGate(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_variance: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        given, x = x, x.contiguous(memory_format=torch.channels_last)
        mean, variance = torch.batch_norm_update_stats(x, running_mean, running_variance, momentum)
        ctx.save_for_backward(given, weight, bias, mean, variance)
        ctx.eps = eps
        out = torch.empty_like(x[:, : x.shape[1] // 2], memory_format=torch.channels_last)
        for sample, place in zip(x.split(1), _last(out).split(1), strict=True):
            normal = F.batch_norm(sample, mean, variance, weight, bias, False, 0.0, eps)
            torch.ops.aten.glu.out(_last(normal), -1, out=place)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, bias, mean, variance = ctx.saved_tensors
        eps = ctx.eps
        if torch.is_grad_enabled():

            def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                return F.glu(F.batch_norm(x, None, None, weight, bias, True, 0.0, eps), dim=1)

            found = as_written(plain, (x, weight, bias), gradients[0], ctx.needs_input_grad[:3])
            return *found, None, None, None, None
        x = x.contiguous(memory_format=torch.channels_last)
        slope = torch.empty_like(x)
        above = _last(gradients[0]).contiguous()
        for sample, outer, place in zip(x.split(1), above.split(1), _last(slope).split(1), strict=True):
            normal = F.batch_norm(sample, mean, variance, weight, bias, False, 0.0, eps)
            torch.ops.aten.glu_backward(outer, _last(normal), -1, grad_input=place)
        found = torch.ops.aten.native_batch_norm_backward(
            slope, x, weight, None, None, mean, (variance + eps).rsqrt(), True, eps, ctx.needs_input_grad[:3]
        )
        return *found, None, None, None, None
