"""Weights that differ by domain, in one forward of a batch whose samples are of several domains.

The forward runs under ``torch.vmap``, so that it is written for one sample and PyTorch itself keeps track of
what varies over the batch. A weight is a :class:`Parts`: of some of its columns all domains share one tensor,
of others each domain has its own. A convolution or linear layer with such a weight is computed for the whole
batch at once where the columns are shared, and segment by segment, a segment being the samples of one domain,
where they are not: ``conv(x, [W_D | W_S]) = conv(x_D, W_D) + conv(x_S, W_S)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gansharing.sharing.composed import KEEPING, Composed, leaves, replaced


@dataclass(frozen=True)
class Segments:
    """How a batch, sorted by domain, falls into segments.

    Attributes:
        lengths: Samples of each domain that is present.
        row: Under ``vmap``: which of these domains the sample belongs to, a scalar.
    """

    lengths: list[int]
    row: Tensor


#: What to do for a function of torch with a :class:`Parts` among its arguments; NotImplemented if it does not
#: apply to these. Filled by :mod:`gansharing.sharing.layer_rules`.
RULES: dict[Any, Callable[..., Any]] = dict(KEEPING)

Piece = Tensor | list[Tensor]  # shared by all domains, or one tensor for each that is present


def first(piece: Piece) -> Tensor:
    """The tensor of a piece, or its first domain's."""
    return piece if isinstance(piece, Tensor) else piece[0]


def every(piece: Piece) -> list[Tensor]:
    """All tensors of a piece."""
    return [piece] if isinstance(piece, Tensor) else piece


class Parts(Composed):
    """A tensor that is put together from pieces along an axis, some of which differ by domain.

    Functions of it alone stay divided. A function that also takes a tensor of the batch sees, where it knows
    no better, each sample's own whole weight: right for every function, but without the savings.

    Attributes:
        pieces: In their order along the axis, which means nothing for a single piece.
        axis: The dimension along which they are joined.
        segments: The batch.
    """

    pieces: list[Piece]
    segments: Segments

    @staticmethod
    def __new__(cls: type[Any], pieces: list[Piece], axis: int, segments: Segments) -> "Parts":
        """Join ``pieces``, which agree in all sizes but that of ``axis``."""
        self: Parts = cls.make(axis, [first(piece) for piece in pieces])
        self.pieces, self.segments = pieces, segments
        return self

    @property
    def varies(self) -> bool:
        """Whether any piece differs by domain."""
        return any(not isinstance(piece, Tensor) for piece in self.pieces)

    def joined(self) -> Piece:
        """The whole as a single piece."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        if not self.varies:
            return torch.cat([piece for piece in self.pieces if isinstance(piece, Tensor)], self.axis)
        return [self.of(domain) for domain in range(len(self.segments.lengths))]

    def of(self, domain: int) -> Tensor:
        """The whole for one of the domains that are present."""
        tensors = [piece if isinstance(piece, Tensor) else piece[domain] for piece in self.pieces]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors, self.axis)

    def own(self) -> Tensor:
        """Under ``vmap``: the sample's own whole."""
        piece = self.joined()
        return piece if isinstance(piece, Tensor) else torch.stack(piece)[self.segments.row]

    def map(self, function: Callable[[Tensor], Tensor], axis: int | None = None) -> "Parts":
        """Apply ``function`` to every tensor; ``axis`` is where it puts the joined dimension."""
        pieces: list[Piece] = [
            function(piece) if isinstance(piece, Tensor) else [function(part) for part in piece]
            for piece in self.pieces
        ]
        return Parts(pieces, self.axis if axis is None else axis, self.segments)

    def first(self, count: int) -> "Parts":
        """The first ``count`` of the joined dimension: whole pieces, and the beginning of the next."""
        kept: list[Piece] = []
        for piece in self.pieces:
            if count > 0:
                size = min(count, first(piece).shape[self.axis])
                parts = [part.narrow(self.axis, 0, size) for part in every(piece)]
                kept.append(parts[0] if isinstance(piece, Tensor) else parts)
                count -= size
        return Parts(kept, self.axis, self.segments)

    @classmethod
    def handle(cls, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Route a function of torch: by its rule, or per domain, or per sample."""
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], Parts):
            raise RuntimeError(f"{name} would write into the weights of a domain that is being served")
        rule = RULES.get(func)
        result = NotImplemented if rule is None else rule(*args, **kwargs)
        if result is NotImplemented and not _plain_tensors(args, kwargs):
            result = _per_domain(func, args, kwargs)
        return _per_sample(func, args, kwargs) if result is NotImplemented else result


def _plain_tensors(args: Any, kwargs: Any) -> bool:
    """Whether tensors are among the arguments that may vary over the batch."""
    return any(isinstance(v, Tensor) and not isinstance(v, Parts) for v in leaves((args, kwargs)))


def _per_sample(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*replaced(args, Parts.own), **replaced(kwargs, Parts.own))


def _per_domain(func: Any, args: Any, kwargs: Any) -> Any:
    """A function of weights alone, for each domain that is present."""
    parts: list[Parts] = [value for value in leaves((args, kwargs)) if isinstance(value, Parts)]
    segments = parts[0].segments
    count = len(segments.lengths) if any(part.varies for part in parts) else 1
    results = []
    for domain in range(count):
        given, named = replaced((args, kwargs), partial(Parts.of, domain=domain))
        results.append(func(*given, **named))
    return _regrouped(func, results, segments)


def _regrouped(func: Any, results: list[Any], segments: Segments) -> Any:
    first = results[0]
    if isinstance(first, Tensor):
        return Parts([first if len(results) == 1 else results], 0, segments)
    if isinstance(first, tuple | list):
        return type(first)(_regrouped(func, list(each), segments) for each in zip(*results, strict=True))
    if any(result != first for result in results):
        raise RuntimeError(f"{func} gives another value for each domain, and a program can follow only one")
    return first
