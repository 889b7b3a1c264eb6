"""Sharings that add a few numbers to frozen weights."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing.base import Sharing
from gansharing.sharing.surgery import Divided, layers, parametrize_first, tensor


class LowRankSum(Divided):
    """``weight = W + B A`` with the weight seen as a matrix (Hu et al. 2022, eq. 3, without its scale).

    Args:
        rank: Columns of ``B`` and rows of ``A``.
    """

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, weight: Tensor, b: Tensor, a: Tensor) -> Tensor:
        """The whole weight."""
        return weight + (b @ a).view_as(weight)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``B`` starts at zero, so that the weight stays what it was; ``A`` at random."""
        matrix = weight.flatten(1)
        a = torch.randn(self.rank, matrix.shape[1], device=weight.device, dtype=weight.dtype)
        return weight, weight.new_zeros(len(matrix), self.rank), a / matrix.shape[1] ** 0.5


class LowRank(Sharing):
    """The domain owns a low-rank addition to convolutions and linear layers (LoRA, Hu et al. 2022).

    A weight of ``O × I·k·k`` costs ``rank · (O + I·k·k)`` numbers; one that would not be smaller than the
    weight itself, such as StyleGAN2's ToRGB, stays shared.

    Args:
        rank: Rank of the addition.
        include: Patterns of weight names (``*.conv?.weight``) that get one; all when omitted.
    """

    def __init__(self, rank: int = 4, include: Sequence[str] | None = None) -> None:
        if rank < 1:
            raise UserError(f"LowRank.rank is {rank}; give at least 1")
        self.rank, self.include = rank, None if include is None else tuple(include)

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Add factors where they save."""
        domain: list[nn.Parameter] = []
        for name, layer, _ in list(layers(network)):
            if self.include is not None and not any(fnmatchcase(name, pattern) for pattern in self.include):
                continue
            weight = tensor(layer, "weight")
            if weight is not None and self.rank * (len(weight) + weight[0].numel()) < weight.numel():
                chain = parametrize_first(layer, "weight", LowRankSum(self.rank))
                domain += [chain.original1, chain.original2]
        return domain

    def why_empty(self) -> str:
        """The factors would be larger than the weights."""
        return "no included weight is larger than its factors; lower the rank"


class Shifted(Divided):
    """``bias = b + offset``, the offset starting at zero."""

    def forward(self, bias: Tensor, offset: Tensor) -> Tensor:
        """The whole bias."""
        return bias + offset

    def right_inverse(self, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The bias stays what it was."""
        return bias, torch.zeros_like(bias)


class StyleOffsets(Sharing):
    """The domain owns one vector per layer that is added to the layer's styles.

    This is the domain-specific direction in StyleSpace of StyleDomain (Alanov et al. 2023, section 4).
    """

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Add an offset to the bias of every style layer that has one."""
        offsets = []
        for layer in network.style_layers().values():
            if tensor(layer, "bias") is not None:
                offsets.append(parametrize_first(layer, "bias", Shifted()).original1)
        return offsets

    def why_empty(self) -> str:
        """The network makes no styles."""
        return "it has no style layers"
