"""How layers multiply with a weight of many domains."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from gansharing.networks.winograd import conv3x3
from gansharing.sharing.composed import Convolution, Transposed
from gansharing.sharing.segments import RULES, Parts, Piece, every, first

Op = Callable[[Tensor, Tensor], Tensor]


class _OverSegments(Function):
    """``function(x, *tensors)`` on the whole batch, from inside ``vmap``."""

    @staticmethod
    def forward(function: Any, row: Tensor, x: Tensor, *tensors: Tensor) -> Tensor:
        raise RuntimeError("several domains are served under torch.vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: weights that are served are not trained."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: Any, row: Tensor, x: Tensor, *tensors: Tensor) -> Any:
        dim = in_dims[2]
        batch = x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        return function(batch, *tensors), 0


def _product(
    op: Op, x: Tensor, weight: Parts, inputs: int, pixels: int = 1, split: Callable[..., Tensor] | None = None
) -> Tensor:
    """``op(x, weight)`` for a bilinear ``op`` that sums over x's dimension 1.

    Args:
        op: The layer's product; dimension 0 of its first argument are samples.
        x: Inputs of one sample, the batch being ``vmap``'s.
        weight: The layer's weight.
        inputs: The weight's dimension that is summed over.
        pixels: Places of the output, in each of which the weight is applied.
        split: A better way than :func:`_split` for this ``op``.
    """
    pieces = weight.pieces if weight.axis == inputs or len(weight.pieces) == 1 else [weight.joined()]
    tensors = [tensor for piece in pieces for tensor in every(piece)]

    def over_batch(batch: Tensor, *tensors: Tensor) -> Tensor:
        each, left = batch.shape[1], iter(tensors)  # each: samples that one of vmap's samples holds
        given: list[Piece] = [
            next(left) if isinstance(piece, Tensor) else [next(left) for _ in piece] for piece in pieces
        ]
        lengths = [length * each for length in weight.segments.lengths]
        # Putting a domain's weight together costs a pass over its filters, a second product one over the
        # output: the first is the less where a segment has many pixels. Measured on StyleGAN2 at 64 px.
        filter_size = weight.numel() // weight.shape[1 - inputs]
        joins = 2 * pixels * sum(lengths) >= filter_size * len(lengths)
        compute = _split if not weight.varies else _joined if joins else split or _split
        return compute(op, batch.flatten(0, 1), given, inputs, lengths).unflatten(0, (-1, each))

    return _OverSegments.apply(over_batch, weight.segments.row, x, *tensors)


def _joined(op: Op, x: Tensor, pieces: list[Piece], inputs: int, lengths: list[int]) -> Tensor:
    """Segment by segment, each with its whole weight: one buffer in which only a domain's columns change."""
    whole = first(pieces[0])
    places: list[tuple[Tensor, list[Tensor]]] = []
    if len(pieces) > 1:
        whole = torch.cat([first(piece) for piece in pieces], inputs)
        columns = whole.split([first(piece).shape[inputs] for piece in pieces], inputs)
        pairs = zip(columns, pieces, strict=True)
        places = [(place, piece) for place, piece in pairs if not isinstance(piece, Tensor)]
    total: Tensor | None = None
    start = 0
    for domain, segment in enumerate(x.split(lengths)):
        for place, parts in places:
            place.copy_(parts[domain])
        y = op(segment, whole if places else every(pieces[0])[domain])
        total = y.new_empty(len(x), *y.shape[1:]) if total is None else total
        total[start : start + len(segment)] = y
        start += len(segment)
    assert total is not None
    return total


def _split(op: Op, x: Tensor, pieces: list[Piece], inputs: int, lengths: list[int]) -> Tensor:
    """The shared columns for all samples at once, and each domain's own for its segment on top."""
    total: Tensor | None = None
    for piece, start in _shared_first(pieces, inputs):
        columns = x.narrow(1, start, first(piece).shape[inputs])
        if isinstance(piece, Tensor):
            share = op(columns, piece)
            total = share if total is None else total.add_(share)
        elif total is None:
            total = _joined(op, columns, [piece], inputs, lengths)
        else:
            for segment, sums, own in zip(columns.split(lengths), total.split(lengths), piece, strict=True):
                sums.add_(op(segment, own))
    assert total is not None
    return total


def _spread(
    op: Op, x: Tensor, pieces: list[Piece], inputs: int, lengths: list[int], **folding: Any
) -> Tensor:
    """A transposed convolution as matrix products that add up, shared and own, before one overlapping sum."""
    samples, _, *size = x.shape
    pixels = size[0] * size[1]
    flat = x.transpose(0, 1).flatten(1)  # inputs by pixels of all samples
    products = x.new_zeros(first(pieces[0])[0].numel(), flat.shape[1])
    for piece, start in _shared_first(pieces, inputs):
        columns = flat.narrow(0, start, first(piece).shape[inputs])
        ends = [len(x)] if isinstance(piece, Tensor) else lengths
        spans = [pixels * length for length in ends]
        for sums, segment, own in zip(
            products.split(spans, 1), columns.split(spans, 1), every(piece), strict=True
        ):
            sums.addmm_(own.flatten(1).T, segment)
    return F.fold(products.unflatten(1, (samples, pixels)).transpose(0, 1), **folding)


def _shared_first(pieces: list[Piece], inputs: int) -> list[tuple[Piece, int]]:
    """Pieces with the input at which each starts: first those that are computed for all samples."""
    sizes = [first(piece).shape[inputs] for piece in pieces]
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return sorted(zip(pieces, starts, strict=True), key=lambda term: isinstance(term[0], list))


def _with_bias(y: Tensor, bias: Any, shape: tuple[int, ...]) -> Tensor:
    if bias is None:
        return y
    return y + (bias.own() if isinstance(bias, Parts) else bias).view(shape).to(y.dtype)


def _conv3x3(x: Any, weight: Any, whole: Any = None) -> Any:
    if not _is_layer(x, weight, 4):
        return NotImplemented
    op = partial(conv3x3, whole=weight.shape[1])
    return _product(op, x, weight, 1, x.shape[2] * x.shape[3])


def _conv2d(input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    options = Convolution(*args, **kwargs)
    if not _is_layer(input, weight, 4) or options.groups != 1:
        return NotImplemented

    def op(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w, None, *options)

    return _with_bias(_product(op, input, weight, 1, input.shape[2] * input.shape[3]), bias, (-1, 1, 1))


def _conv_transpose2d(input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
    options = Transposed(*args, **kwargs)
    if not _is_layer(input, weight, 4) or options.groups != 1:
        return NotImplemented

    step, margin, more = (_pair(v) for v in options[:3])
    spacing, size, kernel = _pair(options.dilation), input.shape[2:], weight.shape[2:]
    out = [
        (size[d] - 1) * step[d] - 2 * margin[d] + spacing[d] * (kernel[d] - 1) + more[d] + 1 for d in (0, 1)
    ]

    def op(x: Tensor, w: Tensor) -> Tensor:
        return F.conv_transpose2d(x, w, None, *options)

    cast = torch.is_autocast_enabled(input.device.type)  # casts whole layers, not the products they are of
    split = (
        None
        if cast
        else partial(
            _spread, output_size=out, kernel_size=kernel, dilation=spacing, padding=margin, stride=step
        )
    )
    pixels = size[0] * size[1] * step[0] * step[1]
    return _with_bias(_product(op, input, weight, 0, pixels, split), bias, (-1, 1, 1))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    if not _is_layer(input, weight, 2):
        return NotImplemented
    return _with_bias(_product(F.linear, input, weight, 1), bias, (-1,))


def _is_layer(input: Any, weight: Any, ndim: int) -> bool:
    mixed = isinstance(weight, Parts) and isinstance(input, Tensor) and not isinstance(input, Parts)
    return mixed and input.ndim == weight.ndim == ndim


def _cat(tensors: Any, dim: int = 0) -> Any:
    if not all(isinstance(tensor, Parts) and len(tensor.pieces) == 1 for tensor in tensors):
        return NotImplemented
    return Parts([tensor.pieces[0] for tensor in tensors], dim % tensors[0].ndim, tensors[0].segments)


RULES |= {
    conv3x3: _conv3x3,
    F.conv2d: _conv2d,
    F.conv_transpose2d: _conv_transpose2d,
    F.linear: _linear,
    torch.cat: _cat,
}
