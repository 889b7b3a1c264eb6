"""A delta in fewer numbers: what a sharing puts beside frozen weights, as products of thin matrices.

GAN Memory (Cong et al. 2020) compresses its scales and shifts so: of each matrix the largest singular values
are kept, until they are a given share of the sum of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.sharing.delta import Delta

Shapes = Mapping[str, Sequence[tuple[str, torch.Size]]]
_FACTORS = "factors."


@dataclass(frozen=True)
class LowRankDelta:
    """The tensors of a delta, some of them factored.

    Attributes:
        tensors: As a delta's, without what is factored, and the factors beside them: ``factors.<kind>``.
        pieces: For each kind what is factored, in order: its first number in the delta's flat tensor, rows,
            columns, and rank.
    """

    tensors: dict[str, Tensor]
    pieces: dict[str, list[list[int]]]

    def numbers(self) -> int:
        """How many numbers it holds."""
        return sum(tensor.numel() for tensor in self.tensors.values())


@torch.no_grad()
def compress(delta: Delta, shapes: Shapes, energy: float) -> LowRankDelta:
    """Keep the largest singular values of what a sharing puts beside frozen weights.

    A tensor counts as a matrix of its outputs by all the rest. What two factors would not make smaller, and
    what the domain owns whole, is kept as it is.

    Args:
        delta: The whole one.
        shapes: Names and shapes of its tensors in their order, of each kind: what ``Slots.shapes`` says.
        energy: Share of the sum of a matrix's singular values that is kept at least.

    Raises:
        UserError: ``energy`` is not in (0, 1], or the sharing adds no matrix.
    """
    if not 0 < energy <= 1:
        raise UserError(f"energy is {energy}; give a share of the singular values in (0, 1], such as 0.9")
    found = LowRankDelta({}, {})
    candidates = 0
    for kind, flat in delta.tensors.items():
        rest: list[Tensor] = []
        factors: list[Tensor] = []
        start = 0
        for name, shape in shapes[kind]:
            piece = flat[start : start + shape.numel()]
            if ".parametrizations." in name and min(shape[:1].numel(), shape[1:].numel()) > 1:
                candidates += 1
                two = _factored(piece.view(shape[0], -1), energy)
                if two is not None:
                    factors += two
                    rows, columns = len(two[0]), two[1].shape[1]
                    found.pieces.setdefault(kind, []).append([start, rows, columns, len(two[1])])
                    piece = piece[:0]
            rest.append(piece)
            start += shape.numel()
        found.tensors[kind] = torch.cat(rest)
        if factors:
            found.tensors[_FACTORS + kind] = torch.cat([factor.reshape(-1) for factor in factors])
    if not candidates:
        raise UserError("this delta holds no matrix beside frozen weights; leave the energy out")
    return found


def _factored(matrix: Tensor, energy: float) -> list[Tensor] | None:
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = values.cumsum(0) / values.sum()
    rank = int((kept < energy - 1e-12).sum()) + 1 if values[0] > 0 else 0
    if rank * sum(matrix.shape) >= matrix.numel():
        return None
    root = values[:rank].sqrt()
    return [(left[:, :rank] * root).to(matrix.dtype), (root[:, None] * right[:rank]).to(matrix.dtype)]


@torch.no_grad()
def expand(compressed: LowRankDelta) -> dict[str, Tensor]:
    """The flat tensors of an ordinary delta.

    Raises:
        ValueError: The pieces do not fit the tensors.
    """
    whole: dict[str, Tensor] = {}
    for kind, flat in compressed.tensors.items():
        if kind.startswith(_FACTORS):
            continue
        pieces = compressed.pieces.get(kind, [])
        factors, done, used = compressed.tensors.get(_FACTORS + kind, flat[:0]), 0, 0
        parts: list[Tensor] = []
        for start, rows, columns, rank in pieces:
            before = start - sum(part.numel() for part in parts)
            sizes = [rows * rank, rank * columns]
            if min(before, *sizes) < 0 or done + before > len(flat) or used + sum(sizes) > len(factors):
                raise ValueError(f"{kind}: a factored piece at {start} lies outside of the numbers")
            left, right = factors[used : used + sum(sizes)].split(sizes)
            product = left.view(rows, rank).double() @ right.view(rank, columns).double()
            parts += [flat[done : done + before], product.reshape(-1).to(flat.dtype)]
            done, used = done + before, used + sum(sizes)
        if used != len(factors):
            raise ValueError(f"{kind}: {len(factors):,} numbers of factors, {used:,} have a place")
        whole[kind] = torch.cat([*parts, flat[done:]])
    return whole


def low_rank_of(tensors: dict[str, Tensor], pieces: Any) -> LowRankDelta:
    """What a file holds, checked to be made as :class:`LowRankDelta` is.

    Raises:
        ValueError: It is not.
    """
    fits = isinstance(pieces, dict) and pieces.keys() <= tensors.keys()
    rows = [row for rows in pieces.values() for row in rows] if fits else [None]
    if not all(isinstance(row, list) and [type(n) for n in row] == [int] * 4 for row in rows):
        raise ValueError("its list of factors is none")
    return LowRankDelta(tensors, pieces)
