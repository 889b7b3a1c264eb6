"""Derivatives of layers that compute faster than they are written."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Slopes = Callable[[Sequence[Tensor], Tensor, Sequence[bool]], Sequence[Tensor | None]]


def worked_out_here(x: Tensor) -> bool:
    """It is computed on the CPU, now: in no graph that is compiled or exported, and under no transform."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def with_slopes(function: Callable[..., Tensor], slopes: Slopes, *inputs: Tensor) -> Tensor:
    """``function(*inputs)``, with gradients of its own; the inputs are kept for them.

    Args:
        function: Of tensors, computed without a graph.
        slopes: From the inputs, the gradient in the output and which inputs need one, gives a gradient or
            None for each input. What it does is recorded where gradients are to be differentiated again.
        inputs: Of the function.
    """
    out: Tensor = _WithSlopes.apply(function, slopes, *inputs)
    return out


class _WithSlopes(Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], slopes: Slopes, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.slopes = slopes
        return function(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None, *ctx.slopes(ctx.saved_tensors, gradients[0], ctx.needs_input_grad[2:])


def as_written(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Gradients as autograd takes them of the plain layer: slower, and differentiable again.

    Args:
        function: The layer, as it is written.
        inputs: Its inputs, as the graph has them.
        gradient: Of its output.
        needed: Of which inputs.

    Returns:
        A gradient for each input that needs one.
    """
    with torch.enable_grad():
        wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
        found = iter(torch.autograd.grad(function(*inputs), wanted, gradient, create_graph=True))
    return tuple(next(found) if need else None for need in needed)
