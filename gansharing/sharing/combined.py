"""Several sharings on one network."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing.base import Sharing, build_sharing


class Combined(Sharing):
    """The domain owns what any of several sharings gives it.

    They are applied in turn, and a weight that one has divided is left alone by the next. The generator of
    Zhao et al. (2020), a trained head and modulated filters behind it, is
    ``[AdaFM([resnet_*.conv_[01].weight]), FreezeLower(4)]`` on a ``SmallHeadGenerator``.

    Args:
        sharings: At least one; those that choose whole tensors (``FreezeLower``, ``LayerWise``, ...) last.

    Raises:
        UserError: There is none.
    """

    def __init__(self, sharings: Sequence[Sharing]) -> None:
        # From a file they come as configurations, and a file they go to.
        self.sharings = [build_sharing(s) if isinstance(s, Mapping) else s for s in sharings]
        if not self.sharings:
            raise UserError("Combined.sharings is empty; give at least one sharing")
        self.config: dict[str, Any] = self.config | {
            "init_args": {"sharings": [sharing.config for sharing in self.sharings]}
        }
        self.merges = all(sharing.merges for sharing in self.sharings)

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Apply each in turn.

        Raises:
            UserError: One divides a weight that the domain owned whole already.
        """
        domain: list[nn.Parameter] = []
        for sharing in self.sharings:
            domain += sharing.divide(network)
        there = {id(parameter) for parameter in network.parameters()}
        if any(id(parameter) not in there for parameter in domain):
            raise UserError(
                "Combined: a later sharing divides weights that an earlier one gave away whole; put those "
                "that choose whole tensors last"
            )
        return domain

    def why_empty(self) -> str:
        """None of them gives it anything."""
        return "; ".join(f"{type(sharing).__name__}: {sharing.why_empty()}" for sharing in self.sharings)
