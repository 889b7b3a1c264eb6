"""Derivatives of layers that compute faster than they are written."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


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
