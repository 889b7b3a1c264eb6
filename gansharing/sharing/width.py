"""Width-wise sharing: the first columns of every weight belong to the domain."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing.base import Sharing
from gansharing.sharing.lean import Halves
from gansharing.sharing.surgery import Divided, layers, parametrize_first, tensor


class Columns(Divided):
    """``weight = [θ_D | θ_S]`` along the input channels.

    Args:
        columns: Input channels of θ_D.
        dim: The weight's input dimension.
    """

    def __init__(self, columns: int, dim: int) -> None:
        super().__init__()
        self.columns, self.dim = columns, dim

    def forward(self, domain: Tensor, shared: Tensor) -> Tensor:
        """The whole weight; where θ_S is frozen, in a form that computes no gradient of it."""
        lean = torch.is_grad_enabled() and domain.requires_grad and not shared.requires_grad
        if lean and not torch.compiler.is_compiling():
            return Halves(domain, shared, self.dim)
        return torch.cat([domain, shared], dim=self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Split a trained weight."""
        domain = weight.narrow(self.dim, 0, self.columns)
        shared = weight.narrow(self.dim, self.columns, weight.shape[self.dim] - self.columns)
        # Copies: the first rows of a transposed convolution are contiguous, and would share their storage.
        return domain.clone(memory_format=torch.contiguous_format), shared.clone(
            memory_format=torch.contiguous_format
        )


class WidthWise(Sharing):
    """Width-wise sharing (Webster et al. 2022, section 3): the domain owns part of *every* layer.

    Of a weight with ``I`` inputs the first ``⌊learn_ratio · I⌋`` input columns (linear layers) or input
    filters (convolutions) are θ_D; the two parts are concatenated in the forward pass, so the network
    computes exactly what it did. The floor is taken in decimal: ``⌊0.29 · 100⌋`` is 29.

    Args:
        learn_ratio: λ_D, in (0, 1].
        one_d: Whether biases, gains and noise strengths are ``shared`` or the ``domain``'s. The paper speaks
            of weight tensors only; they are 0.06 % of StyleGAN2.
        min_columns: 0 as in the paper, or 1: at least one column of every layer, also of thin ones.
        include: Patterns of weight names (``*.conv?.weight``) that are divided, the others being shared;
            all weights when omitted.
    """

    def __init__(
        self,
        learn_ratio: float = 0.1,
        one_d: Literal["shared", "domain"] = "shared",
        min_columns: Literal[0, 1] = 0,
        include: Sequence[str] | None = None,
    ) -> None:
        if not 0 < learn_ratio <= 1:
            raise UserError(
                f"WidthWise.learn_ratio is {learn_ratio}; give a share in (0, 1], for example 0.1"
            )
        self.learn_ratio, self.one_d, self.min_columns = learn_ratio, one_d, min_columns
        self.include = None if include is None else tuple(include)

    def columns(self, inputs: int) -> int:
        """Input columns of θ_D in a weight with ``inputs`` of them."""
        return min(inputs, max(self.min_columns, math.floor(Decimal(str(self.learn_ratio)) * inputs)))

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Split every weight that is included."""
        domain: list[nn.Parameter] = []
        if self.one_d == "domain":
            domain += [parameter for parameter in network.parameters() if parameter.ndim < 2]
        for name, layer, dim in list(layers(network)):
            if self.include is not None and not any(fnmatchcase(name, pattern) for pattern in self.include):
                continue
            weight = tensor(layer, "weight")
            if weight is None:
                continue
            columns = self.columns(weight.shape[dim])
            if columns == weight.shape[dim]:
                domain.append(weight)  # type: ignore[arg-type]
            elif columns:
                domain.append(parametrize_first(layer, "weight", Columns(columns, dim)).original0)
        return domain

    def why_empty(self) -> str:
        """Thin layers have no column to give away."""
        widest = f"every layer has fewer than {math.ceil(1 / self.learn_ratio)} inputs"
        return f"{widest}, or none matches include; raise learn_ratio or set min_columns: 1"
