"""One pass over the products of all pairs of features, for every score that needs pairs."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor

_BLOCK = 512


class PairEstimator(Protocol):
    """Reads Gram matrices block by block, in order of the rows; all fake pairs come first.

    A block is ``x[rows] @ y.T``, float32 (B, M), shared by several estimators: it must not be changed.
    """

    def fake_fake(self, rows: slice, gram: Tensor) -> None:
        """Take products of ``fake[rows]`` with every fake."""
        ...

    def real_fake(self, rows: slice, gram: Tensor) -> None:
        """Take products of ``real[rows]`` with every fake."""
        ...


def gram_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``(rows, x[rows] @ y.T)`` for float (N, D) and (M, D): memory stays at B x M whatever N is."""
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(x)))
        yield rows, x[rows] @ y.T


def read_pairs(real: Tensor, fake: Tensor, estimators: Sequence[PairEstimator]) -> None:
    """Show every estimator the fake-fake and the real-fake products, computing each once."""
    if not estimators:
        return
    for rows, gram in gram_blocks(fake, fake):
        for estimator in estimators:
            estimator.fake_fake(rows, gram)
    for rows, gram in gram_blocks(real, fake):
        for estimator in estimators:
            estimator.real_fake(rows, gram)


def joined(state: "list[Tensor] | Tensor") -> Tensor:
    """A metric's list state as one tensor, the very same one where the list holds just one."""
    if isinstance(state, Tensor):
        return state
    if len(state) == 1:
        return state[0]
    from torchmetrics.utilities.data import dim_zero_cat

    return dim_zero_cat(state)
