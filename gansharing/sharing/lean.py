"""Layers whose weight is partly frozen, without the gradient of the frozen part.

``cat([θ_D, θ_S])`` as an ordinary tensor has PyTorch compute the gradient of the whole weight and throw most
of it away. :class:`Halves` stands for the same tensor; a layer computes its output from the whole, bit for
bit, and on the way back the weight's gradient from the domain's inputs alone. Any number of derivatives is
right.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from gansharing.networks.winograd import conv3x3
from gansharing.sharing.composed import KEEPING, Composed, Convolution, Transposed, replaced


class Halves(Composed):
    """``torch.cat([domain, shared], axis)``, of which only ``domain`` is trained.

    Attributes:
        domain: The trained part.
        shared: The frozen part.
    """

    domain: Tensor
    shared: Tensor

    @staticmethod
    def __new__(cls: type[Any], domain: Tensor, shared: Tensor, axis: int) -> "Halves":
        """Join two parts that agree in all sizes but that of ``axis``."""
        self: Halves = cls.make(axis, [domain, shared])
        self.domain, self.shared = domain, shared
        return self

    def map(self, function: Callable[[Tensor], Tensor], axis: int | None = None) -> "Halves":
        """Apply ``function`` to both; ``axis`` is where it puts the joined dimension."""
        return Halves(function(self.domain), function(self.shared), self.axis if axis is None else axis)

    def first(self, count: int) -> Tensor:
        """The first ``count`` of the joined dimension: as many of the domain's as there are, then shared."""
        rest = count - self.domain.shape[self.axis]
        if rest <= 0:
            return self.domain.narrow(self.axis, 0, count)
        return Halves(self.domain, self.shared.narrow(self.axis, 0, rest), self.axis)

    def whole(self) -> Tensor:
        """The ordinary tensor."""
        return torch.cat([self.domain, self.shared], self.axis)

    @classmethod
    def handle(cls, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """By its rule, or else on the ordinary tensor."""
        rule = _RULES.get(func)
        result = NotImplemented if rule is None else rule(*args, **kwargs)
        if result is not NotImplemented:
            return result
        return func(*replaced(args, Halves.whole), **replaced(kwargs, Halves.whole))


class _Layer(NamedTuple):
    """A layer and its two derivatives; what they are given first is the gradient of the output."""

    output: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    to_input: Callable[[Tensor, Tensor, Tensor], Tensor]
    to_weight: Callable[[Tensor, Tensor, Tensor], Tensor]


class _Divided(Function):
    @staticmethod
    def forward(
        ctx: Any, layer: _Layer, axis: int, x: Tensor, domain: Tensor, shared: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.layer, ctx.axis = layer, axis
        ctx.save_for_backward(x, domain, shared)
        return layer.output(x, torch.cat([domain, shared], axis), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (x, domain, shared) = gradients, ctx.saved_tensors
        _, _, needs_x, needs_domain, _, needs_bias = ctx.needs_input_grad
        to_x = to_domain = to_bias = None
        if needs_x:
            to_x = ctx.layer.to_input(gradient, x, torch.cat([domain, shared], ctx.axis))
        if needs_domain:
            to_domain = ctx.layer.to_weight(gradient, x.narrow(1, 0, domain.shape[ctx.axis]), domain)
        if needs_bias:
            to_bias = gradient.sum([d for d in range(gradient.ndim) if d != 1])
        return None, None, to_x, to_domain, None, to_bias


def _apply(layer: _Layer, axis: int, x: Any, weight: Any, bias: Any = None) -> Any:
    plain = isinstance(weight, Halves) and not isinstance(x, Composed) and not isinstance(bias, Composed)
    if not plain or weight.axis != axis or x.ndim != weight.ndim:
        return NotImplemented
    given = [x, weight.domain, weight.shared, bias]
    if torch.is_autocast_enabled(x.device.type):  # as it would cast the layer's arguments
        dtype = torch.get_autocast_dtype(x.device.type)
        given = [None if tensor is None else tensor.to(dtype) for tensor in given]
    return _Divided.apply(layer, axis, *given)


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    return _apply(_LINEAR, 1, input, weight, bias)


_LINEAR = _Layer(F.linear, lambda g, x, w: g @ w, lambda g, x, w: g.T @ x)


def _convolution(
    output: Any, stride: Any, padding: Any, dilation: Any, extra: Any = 0, transposed: bool = False
) -> _Layer:
    settings = (_pair(stride), _pair(padding), _pair(dilation), transposed, _pair(extra), 1)
    derivative: Any = torch.ops.aten.convolution_backward

    def to_input(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return derivative(gradient, x, weight, None, *settings, [True, False, False])[0]

    def to_weight(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return derivative(gradient, x, weight, None, *settings, [False, True, False])[1]

    return _Layer(output, to_input, to_weight)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


_CONV3X3 = _convolution(lambda x, w, bias: conv3x3(x, w), 1, 1, 1)._replace(
    to_input=lambda g, x, w: conv3x3(g, w.flip(2, 3).transpose(0, 1))
)


def _conv3x3(x: Any, weight: Any, whole: Any = None) -> Any:
    return _apply(_CONV3X3, 1, x, weight)


def _conv2d(input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    options = Convolution(*args, **kwargs)
    if options.groups != 1 or isinstance(options.padding, str):
        return NotImplemented

    def output(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return F.conv2d(x, w, b, *options)

    layer = _convolution(output, options.stride, options.padding, options.dilation)
    return _apply(layer, 1, input, weight, bias)


def _conv_transpose2d(input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    options = Transposed(*args, **kwargs)
    if options.groups != 1:
        return NotImplemented

    def output(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return F.conv_transpose2d(x, w, b, *options)

    stride, padding, extra, _, dilation = options
    return _apply(
        _convolution(output, stride, padding, dilation, extra, transposed=True), 0, input, weight, bias
    )


_RULES: dict[Any, Callable[..., Any]] = KEEPING | {
    F.linear: _linear,
    conv3x3: _conv3x3,
    F.conv2d: _conv2d,
    F.conv_transpose2d: _conv_transpose2d,
}
