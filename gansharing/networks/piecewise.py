"""Scores of a piecewise linear discriminator and their gradient in the images, for half of the products.

Where a network consists of convolutions, linear layers, LeakyReLU and pooling, it is homogeneous in the
images and its biases together: with every bias times a number ``e``, Euler's theorem says of an image's score

    s(x, e) = <ds/dx, x> + e ds/de        and its gradient penalty is        |ds/dx|^2,

both functions of the first derivatives alone. So their derivative in the weights needs one pass from the
images to the scores, with the activations' slopes held, and one product a layer with the gradients that are
there already. PyTorch's way takes two such products and three passes for a score and its penalty, one of
which is through zeros: the second derivatives of LeakyReLU and pooling.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, has_torch_function_unary

from gansharing.networks.base import Discriminator

_Settings = tuple[list[int], list[int], list[int]]  # stride, padding, dilation
_Map = Callable[[Tensor], Tensor]


def scores_and_slopes(
    network: Discriminator, images: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``network(images, labels)`` and its gradient in the images.

    Both can be differentiated once, in the weights; not in the images.

    Args:
        network: A discriminator that is ``piecewise_linear``.
        images: ``(N, 3, H, W)``.
        labels: As the network takes them.

    Returns:
        Scores ``(N,)`` and, for each image, the gradient of its score ``(N, 3, H, W)``.
    """
    x = images.detach().requires_grad_(True)
    one = torch.ones(len(x), dtype=x.dtype, device=x.device, requires_grad=True)
    with _Homogeneous(one):
        found = network(x, labels)
    slopes, offsets = torch.autograd.grad(found.sum(), (x, one), create_graph=True)
    scores = (slopes * images.detach()).flatten(1).sum(1) + offsets
    # The value without the rounding of that sum.
    return scores + (found - scores).detach(), slopes


class _Homogeneous(TorchFunctionMode):
    """Inside, biases count ``one`` times, and layers keep of a forward what their slopes need."""

    def __init__(self, one: Tensor) -> None:
        super().__init__()
        self.one = one

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = _RULES.get(func)
        if rule is None:
            return func(*args, **(kwargs or {}))
        return rule(self.one, *args, **(kwargs or {}))


def _conv2d(
    one: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    assert groups == 1 and not isinstance(padding, str)
    return _Affine.apply((_pair(stride), _pair(padding), _pair(dilation)), input, _whole(weight), bias, one)


def _linear(one: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    return _Affine.apply(None, input, _whole(weight), bias, one)


def _leaky_relu(one: Tensor, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    back: Any = torch.ops.aten.leaky_relu_backward
    positive = input > 0  # a bit a number is all that is kept, and its slope is a constant

    def scaled(x: Tensor) -> Tensor:
        found: Tensor = back(x, positive.to(x.dtype), negative_slope, True)
        return found

    return _Linear.apply(scaled, scaled, input)


def _avg_pool2d(
    one: Tensor,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    back: Any = torch.ops.aten.avg_pool2d_backward
    like = _shaped(input, input.shape)
    step = kernel_size if stride is None else stride
    options = _pair(kernel_size), _pair(step), _pair(padding), ceil_mode, count_include_pad, divisor_override
    return _Linear.apply(
        lambda x: F.avg_pool2d(x, *options), lambda gradient: back(gradient, like, *options), input
    )


_RULES: dict[Any, Callable[..., Any]] = {
    F.conv2d: _conv2d,
    F.linear: _linear,
    F.leaky_relu: _leaky_relu,
    F.avg_pool2d: _avg_pool2d,
}


def _shaped(like: Tensor, shape: torch.Size) -> Tensor:
    """What stands for a tensor where its shape alone is read."""
    return like.new_empty(1).expand(shape)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _whole(weight: Tensor) -> Tensor:
    """The ordinary tensor that a weight in parts stands for."""
    return weight if type(weight) in (Tensor, torch.nn.Parameter) else torch.add(weight, 0)


def _products(settings: _Settings | None, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if settings is None:
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, *settings)


def _derivatives(
    settings: _Settings | None, gradient: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of ``<gradient, layer(x, weight)>`` in ``x`` and in ``weight``, where wanted."""
    if settings is None:
        return gradient @ weight if wanted[0] else None, gradient.T @ x if wanted[1] else None
    back: Any = torch.ops.aten.convolution_backward
    found = back(gradient, x, weight, None, *settings, False, [0, 0], 1, [*wanted, False])
    return found[0], found[1]


class _Affine(Function):
    """``layer(x) + one bias``; its backward knows no weights, which are met in the backward's backward."""

    @staticmethod
    def forward(
        ctx: Any, settings: _Settings | None, x: Tensor, weight: Tensor, bias: Tensor | None, one: Tensor
    ) -> Tensor:
        ctx.settings, ctx.shape = settings, x.shape
        ctx.save_for_backward(weight, bias)
        return _products(settings, x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        weight, bias = ctx.saved_tensors
        to_x, to_one = _Slopes.apply(ctx.settings, ctx.shape, gradients[0], weight, bias)
        return None, to_x, None, None, to_one


class _Slopes(Function):
    """Gradients of a score in a layer's inputs and in ``one``, from those in its outputs."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: _Settings | None,
        shape: torch.Size,
        gradient: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.settings = settings
        ctx.save_for_backward(gradient, weight, bias)
        ctx.set_materialize_grads(False)
        to_x, _ = _derivatives(settings, gradient, _shaped(gradient, shape), weight, [True, False])
        assert to_x is not None
        return to_x, None if bias is None else _over_pixels(gradient) @ bias

    @staticmethod
    def backward(ctx: Any, *tangents: Any) -> Any:
        (gradient, weight, bias), (of_x, of_one) = ctx.saved_tensors, tangents
        to_gradient = to_weight = to_bias = None
        if ctx.needs_input_grad[2]:
            to_gradient = _products(ctx.settings, of_x, weight, None)
            if bias is not None and of_one is not None:
                shift = of_one[:, None] * bias
                to_gradient += shift.view(*shift.shape, *[1] * (to_gradient.ndim - 2))
        if ctx.needs_input_grad[3]:
            _, to_weight = _derivatives(ctx.settings, gradient, of_x, weight, [False, True])
        if ctx.needs_input_grad[4] and of_one is not None:
            to_bias = of_one @ _over_pixels(gradient)
        return None, None, to_gradient, to_weight, to_bias


def _over_pixels(x: Tensor) -> Tensor:
    return x.flatten(2).sum(2) if x.ndim > 2 else x


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """LeakyReLU that keeps its output, as the convolution behind it does, and not its input as well."""
    # Modes and transforms of functions, and graphs, know PyTorch's.
    if not torch.is_grad_enabled() or has_torch_function_unary(x) or torch.compiler.is_compiling():
        return F.leaky_relu(x, slope)
    out: Tensor = _LeakyReLU.apply(x, slope)
    return out


class _LeakyReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        out = F.leaky_relu(x, slope)
        ctx.slope = slope
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        back: Any = torch.ops.aten.leaky_relu_backward
        out = ctx.saved_tensors[0].detach()

        def scaled(x: Tensor) -> Tensor:
            found: Tensor = back(x, out, ctx.slope, True)
            return found

        return _Linear.apply(scaled, scaled, gradients[0]), None


class _Linear(Function):
    """A linear function of one tensor, given with its transpose; nothing is kept for its derivatives."""

    @staticmethod
    def forward(ctx: Any, function: _Map, transpose: _Map, x: Tensor) -> Tensor:
        ctx.function, ctx.transpose = function, transpose
        return function(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None, _Linear.apply(ctx.transpose, ctx.function, gradients[0])
