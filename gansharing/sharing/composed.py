"""Weights that are put together from parts, and the functions of torch that keep them apart."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor


class Composed(torch.Tensor):
    """A tensor that stands for others joined along an axis; there is no memory behind it.

    Attributes:
        axis: The dimension along which they are joined.
    """

    axis: int

    @classmethod
    def make(cls, axis: int, tensors: list[Tensor]) -> Self:
        """One that stands for ``tensors``, which agree in all sizes but that of ``axis``."""
        shape = list(tensors[0].shape)
        if shape:
            shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        wrap: Any = torch.Tensor._make_wrapper_subclass
        self: Self = wrap(cls, shape, dtype=tensors[0].dtype, device=tensors[0].device)
        self.axis = axis
        return self

    def map(self, function: Callable[[Tensor], Tensor], axis: int | None = None) -> Self:
        """Apply ``function`` to every tensor; ``axis`` is where it puts the joined dimension."""
        raise TypeError(f"{type(self).__name__} does not define map")

    def first(self, count: int) -> Tensor:
        """The first ``count`` along the joined dimension."""
        raise TypeError(f"{type(self).__name__} does not define first")

    @classmethod
    def handle(cls, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Compute a function of torch that asks for more than shape, type and place."""
        raise TypeError(f"{cls.__name__} does not define handle")

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer what asks for shape, type or place; leave the rest to :meth:`handle`."""
        kwargs = kwargs or {}
        if asks_for_metadata(func):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        return cls.handle(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse what reached torch's kernels unrouted."""
        raise RuntimeError(f"{func} cannot be computed of a weight in parts")


class Convolution(NamedTuple):
    """What ``F.conv2d`` takes behind the bias, in its order."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


class Transposed(NamedTuple):
    """What ``F.conv_transpose2d`` takes behind the bias, in its order."""

    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    groups: int = 1
    dilation: Any = 1


_TENSOR_VALUED = {"T", "mT", "H", "mH", "data", "real", "imag", "grad"}
_ASKING = {"size", "dim", "numel", "stride", "is_floating_point", "is_complex", "__len__", "__hash__"}


def asks_for_metadata(func: Any) -> bool:
    """Whether a function of torch looks at shape, type or place of a tensor only."""
    if getattr(func, "__name__", "") == "__get__":
        return func.__self__.__name__ not in _TENSOR_VALUED
    return getattr(func, "__name__", "") in _ASKING


def leaves(values: Any) -> list[Any]:
    """Arguments, those within lists and dictionaries too."""
    return torch.utils._pytree.tree_leaves(values)


def replaced(values: Any, choose: Callable[[Any], Tensor]) -> Any:
    """Arguments with a tensor chosen for everything composed."""
    tree_map: Any = torch.utils._pytree.tree_map
    return tree_map(lambda value: choose(value) if isinstance(value, Composed) else value, values)


def _transpose(input: Any, dim0: int, dim1: int) -> Any:
    first, second = dim0 % input.ndim, dim1 % input.ndim
    moved = {first: second, second: first}.get(input.axis, input.axis)
    return input.map(lambda part: part.transpose(first, second), moved)


def _sum(input: Any, dim: Any = None, keepdim: bool = False, **other: Any) -> Any:
    if dim is None or other:
        return NotImplemented
    dims = sorted({d % input.ndim for d in ([dim] if isinstance(dim, int) else dim)})
    if input.axis in dims:
        return NotImplemented
    lost = 0 if keepdim else sum(d < input.axis for d in dims)
    return input.map(lambda part: part.sum(dims, keepdim), input.axis - lost)


def _narrow(input: Any, dim: int, start: Any, length: int) -> Any:
    if dim % input.ndim != input.axis:
        return input.map(lambda part: part.narrow(dim, start, length))
    return input.first(length) if start == 0 else NotImplemented


def _elementwise(func: Any) -> Callable[..., Any]:
    def rule(input: Any, *rest: Any, **kwargs: Any) -> Any:
        if not isinstance(input, Composed) or any(isinstance(v, Tensor) for v in leaves((rest, kwargs))):
            return NotImplemented
        return input.map(lambda part: func(part, *rest, **kwargs))

    return rule


_SINGLY = (
    torch.mul, torch.div, torch.square, torch.neg, torch.abs, torch.pow, torch.clone, Tensor.mul, Tensor.div,
    Tensor.square, Tensor.neg, Tensor.abs, Tensor.pow, Tensor.clone, Tensor.detach, Tensor.contiguous,
    Tensor.to, Tensor.float, Tensor.double, Tensor.__mul__, Tensor.__rmul__, Tensor.__truediv__,
    Tensor.__neg__, Tensor.__pow__,
)  # fmt: skip
_DIMENSIONS: dict[Any, Callable[..., Any]] = {
    torch.transpose: _transpose,
    Tensor.transpose: _transpose,
    torch.sum: _sum,
    Tensor.sum: _sum,
    torch.narrow: _narrow,
    Tensor.narrow: _narrow,
}
#: Functions of one composed tensor that are done part by part; NotImplemented where they do not apply.
KEEPING: dict[Any, Callable[..., Any]] = _DIMENSIONS | {func: _elementwise(func) for func in _SINGLY}
