"""Nearest upsampling and a 3x3 convolution in one, by a quarter of the products.

The two rows that an input row becomes see, through the taps ``a, b, c``, ::

    even = a x[i-1] + (b + c) x[i] = (a + b + c) x[i] + a (x[i-1] - x[i])
    odd  = (a + b) x[i] + c x[i+1] = (a + b + c) x[i] - c (x[i] - x[i+1])

Three products where the enlarged map takes six, by sums of the taps and differences of neighbours; columns
alike: nine instead of thirty-six. Summed over channels they are four matrix products: of the map, and of its
differences down, across, and both. It is exact, and rounding errors are those of the plain convolution.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import has_torch_function

from gansharing.networks.derivatives import as_written, with_slopes, worked_out_here

# Products that are worked on at a time: enough for full speed, little enough for the caches.
_BLOCK = 1 << 20


def up_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """``conv2d(interpolate(x, scale_factor=2), weight, padding=1)``; differentiable any number of times.

    Args:
        x: ``(N, I, H, W)``.
        weight: ``(O, I, 3, 3)``.

    Returns:
        ``(N, O, 2H, 2W)``; channels-last where the faster way was taken.
    """
    if not has_torch_function((x, weight)) and worthwhile(x, weight):
        return with_slopes(_convolve, _slopes, x, weight)
    return _plain(x, weight)


def worthwhile(x: Tensor, weight: Tensor) -> bool:
    """Many channels in full precision on the CPU, and no graph that is to be exported."""
    return (
        worked_out_here(x)
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and min(weight.shape[:2]) >= 32
    )


def _plain(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)


class _Filters(NamedTuple):
    """Matrices by which the map and its differences are multiplied: ``(k O, I)`` with k 1, 2, 2, 4."""

    plain: Tensor
    down: Tensor
    across: Tensor
    both: Tensor


def _filters(weight: Tensor) -> _Filters:
    taps = weight.permute(2, 3, 0, 1)
    rows, columns = taps.sum(1), taps.sum(0)
    ends = taps[::2, ::2].contiguous()
    ends[0, 1].neg_()
    ends[1, 0].neg_()
    inputs = weight.shape[1]
    down, across = torch.stack([rows[0], -rows[2]]), torch.stack([columns[0], -columns[2]])
    return _Filters(rows.sum(0), down.view(-1, inputs), across.view(-1, inputs), ends.view(-1, inputs))


def _to_weight(slopes: _Filters, weight: Tensor) -> Tensor:
    """The transpose of :func:`_filters`."""
    shape = weight.shape[:2]
    down, across = (slope.view(2, *shape) for slope in (slopes.down, slopes.across))
    gradient = torch.empty_like(weight)
    taps = gradient.permute(2, 3, 0, 1)
    taps.copy_(slopes.plain)
    taps[0] += down[0]
    taps[2] -= down[1]
    taps[:, 0] += across[0]
    taps[:, 2] -= across[1]
    for row, sign in zip(slopes.both.view(2, 2, *shape), (1, -1), strict=True):
        corner = taps[1 - sign]
        corner[0].add_(row[0], alpha=sign)
        corner[2].add_(row[1], alpha=-sign)
    return gradient


def _blocks(shape: torch.Size, outputs: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows to work on at a time: whole samples where they are small."""
    samples, height, width, _ = shape
    row = 9 * outputs * width
    some, rows = max(1, _BLOCK // (row * height)), max(1, _BLOCK // row)
    for first in range(0, samples, some):
        for top in range(0, height, rows):
            yield slice(first, min(first + some, samples)), slice(top, min(top + rows, height))


def _padded(x: Tensor) -> Tensor:
    """``(N, H + 2, W + 2, I)``, zeros around."""
    return F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))


def _around(rows: slice) -> slice:
    return slice(rows.start, rows.stop + 2)


def _differences(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a padded map: itself, and its differences down, across, both; of a pixel and the one after."""
    down, inner = x[:, :-1] - x[:, 1:], x[:, 1:-1]
    both = down[:, :, :-1] - down[:, :, 1:]
    return inner[:, :, 1:-1], down[:, :, 1:-1], inner[:, :, :-1] - inner[:, :, 1:], both


def _pixels(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    n, _, h, w = x.shape
    out = x.new_empty(n, len(weight), 2 * h, 2 * w).to(memory_format=torch.channels_last)
    phases = out.permute(0, 2, 3, 1).view(n, h, 2, w, 2, -1)
    padded, filters = _padded(x), _filters(weight)
    for some, rows in _blocks(padded[:, 1:-1, 1:-1].shape, len(weight)):
        _fill(phases[some, rows], padded[some, _around(rows)], filters)
    return out


def _fill(out: Tensor, x: Tensor, filters: _Filters) -> None:
    """Write ``(N, R, 2, W, 2, O)``, the pixels that each of R rows becomes, from R + 2 rows."""
    n, r, _, w, _, o = out.shape
    products = [F.linear(_pixels(d), f) for d, f in zip(_differences(x), filters, strict=True)]
    plain, down = products[0].view(n, r, w, o), products[1].view(n, r + 1, w, 2, o)
    across, both = products[2].view(n, r, w + 1, 2, o), products[3].view(n, r + 1, w + 1, 2, 2, o)
    for e in (0, 1):
        middle, sides = plain + down[:, e : e + r, :, e], both[:, e : e + r, :, e].add_(across)
        for f in (0, 1):
            torch.add(middle, sides[:, :, f : f + w, f], out=out[:, :, e, :, f])


def _gathered(slope: Tensor) -> list[Tensor]:
    """Gradients of the four products ``(N, R, 2, W, 2, O)`` comes from: the transpose of :func:`_fill`."""
    n, r, _, w, _, o = slope.shape
    both, across = slope.new_zeros(n, r + 1, w + 1, 2, 2, o), slope.new_zeros(n, r, w + 1, 2, o)
    down = slope.new_zeros(n, r + 1, w, 2, o)
    for e in (0, 1):
        torch.add(slope[:, :, e, :, 0], slope[:, :, e, :, 1], out=down[:, e : e + r, :, e])
        torch.add(slope[:, :, 0, :, e], slope[:, :, 1, :, e], out=across[:, :, e : e + w, e])
        for f in (0, 1):
            both[:, e : e + r, f : f + w, e, f] = slope[:, :, e, :, f]
    plain = down[:, :r, :, 0] + down[:, 1:, :, 1]
    return [part.view(-1, k * o) for part, k in zip((plain, down, across, both), (1, 2, 2, 4), strict=True)]


def _spread(place: Tensor, slopes: list[Tensor], filters: _Filters) -> None:
    """Add what goes back to a padded map: the transpose of :func:`_differences`."""
    n, r, w, i = place.shape
    plain, down, across, both = (s @ f for s, f in zip(slopes, filters, strict=True))
    inner = place[:, 1:-1]
    inner[:, :, 1:-1] += plain.view(n, r - 2, w - 2, i)
    shares = both.view(n, r - 1, w - 1, i)
    steps = place.new_zeros(n, r - 1, w, i)
    steps[:, :, 1:-1] = down.view(n, r - 1, w - 2, i)
    steps[:, :, :-1] += shares
    steps[:, :, 1:] -= shares
    place[:, :-1] += steps
    place[:, 1:] -= steps
    sideways = across.view(n, r - 2, w - 1, i)
    inner[:, :, :-1] += sideways
    inner[:, :, 1:] -= sideways


def _slopes(inputs: Sequence[Tensor], gradient: Tensor, needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        return as_written(_plain, inputs, gradient, needed)
    (x, weight), (for_x, for_weight) = inputs, needed
    n, _, h, w = x.shape
    phases = gradient.permute(0, 2, 3, 1).contiguous().view(n, h, 2, w, 2, -1)
    padded, filters = _padded(x), _filters(weight)
    to_x = torch.zeros_like(padded)
    to_filters = _Filters(*map(torch.zeros_like, filters))
    for some, rows in _blocks(padded[:, 1:-1, 1:-1].shape, len(weight)):
        slopes = _gathered(phases[some, rows])
        around = some, _around(rows)
        if for_weight:
            for total, slope, d in zip(to_filters, slopes, _differences(padded[around]), strict=True):
                total.addmm_(slope.T, _pixels(d))
        if for_x:
            _spread(to_x[around], slopes, filters)
    image = to_x[:, 1:-1, 1:-1].permute(0, 3, 1, 2) if for_x else None
    return image, _to_weight(to_filters, weight) if for_weight else None
