"""Adaptive filter modulation (Zhao et al. 2020, section 3.3) and its rank-one case, filter selection."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gansharing.networks import Network
from gansharing.sharing.additive import Shifted
from gansharing.sharing.base import Sharing
from gansharing.sharing.surgery import Divided, layers, parametrize_first, tensor


class Modulated(Divided):
    """``weight = gamma W + beta`` (Zhao et al. 2020, eq. 2).

    Args:
        shared_dims: Dimensions of the weight along which gamma and beta are the same.
        normalise: Start from filters of mean 0 and deviation 1 over those dimensions, gamma and beta being
            what they lost.
    """

    def __init__(self, shared_dims: tuple[int, ...], normalise: bool = False) -> None:
        super().__init__()
        self.shared_dims, self.normalise = shared_dims, normalise

    def forward(self, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """The whole weight."""
        return torch.addcmul(beta, gamma, weight)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gamma starts at one and beta at zero, so that the weight stays what it was."""
        shape = [1 if dim in self.shared_dims else length for dim, length in enumerate(weight.shape)]
        gamma, beta = weight.new_ones(shape), weight.new_zeros(shape)
        if self.normalise:
            beta = weight.mean(self.shared_dims, keepdim=True)
            # A filter of one number, or of equal ones, has no deviation to take out.
            if gamma.numel() < weight.numel():
                deviation = weight.std(self.shared_dims, keepdim=True)
                gamma = torch.where(deviation > 0, deviation, gamma)
            weight = (weight - beta) / gamma
        return weight, gamma, beta


def _named(name: str, include: Sequence[str] | None) -> bool:
    return include is not None and any(fnmatchcase(name, pattern) for pattern in include)


class AdaFM(Sharing):
    """The domain owns a scale and a shift of every filter: ``W_ij gamma_ij + beta_ij`` (eq. 2).

    Zhao et al. modulate the twelve 3x3 convolutions of the general blocks,
    ``include: [resnet_*.conv_[01].weight]``. GAN Memory (Cong et al. 2020) modulates the linear layer too,
    and biases, from normalised filters: ``include: [fc.weight, resnet_*.conv_[01].weight]``,
    ``linear: true``, ``bias: true``, ``normalise: true``. :class:`Combined` adds whole stages.

    Args:
        include: Patterns of weight names that are modulated. When omitted all are but 1x1 kernels, where
            ``gamma`` and ``beta`` would be as many as the weights.
        linear: Modulate linear layers too, by one scale and one shift an output.
        bias: Add a trained vector, zero at the start, to the bias of every modulated layer.
        normalise: Store each filter at mean 0 and deviation 1, with gamma and beta undoing it, as GAN Memory
            does. The output then changes by rounding.
    """

    def __init__(
        self,
        include: Sequence[str] | None = None,
        linear: bool = False,
        bias: bool = False,
        normalise: bool = False,
    ) -> None:
        self.include = None if include is None else tuple(include)
        self.linear, self.bias, self.normalise = linear, bias, normalise

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Put gammas and betas before the weights."""
        domain: list[nn.Parameter] = []
        for name, layer, dim in list(layers(network)):
            weight = tensor(layer, "weight")
            if weight is None or not self._modulates(name, weight):
                continue
            same = tuple(range(2, weight.ndim)) if weight.ndim > 2 else (dim,)
            chain = parametrize_first(layer, "weight", Modulated(same, self.normalise))
            domain += [chain.original1, chain.original2]
            if self.bias and tensor(layer, "bias") is not None:
                domain.append(parametrize_first(layer, "bias", Shifted()).original1)
        return domain

    def _modulates(self, name: str, weight: Tensor) -> bool:
        if weight.ndim == 2 and not self.linear:
            return False
        if self.include is None:
            return weight.ndim == 2 or weight[0, 0].numel() > 1
        return _named(name, self.include)

    def why_empty(self) -> str:
        """Nothing matches."""
        return "it has no convolution larger than 1x1, or none that include names"


class FilterSelection(Sharing):
    """The domain owns one scale and one shift an output channel: ``W_ij gamma_i + beta_i``.

    AdaFM with rank-one matrices (Noguchi and Harada 2019, as in Zhao et al. 2020, section 3.3).

    Args:
        include: As :class:`AdaFM`'s.
    """

    def __init__(self, include: Sequence[str] | None = None) -> None:
        self.include = None if include is None else tuple(include)

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Put gammas and betas before the weights of convolutions."""
        domain: list[nn.Parameter] = []
        for name, layer, dim in list(layers(network)):
            weight = tensor(layer, "weight")
            if weight is None or weight.ndim < 3:
                continue
            if _named(name, self.include) or (self.include is None and weight[0, 0].numel() > 1):
                same = (dim, *range(2, weight.ndim))
                chain = parametrize_first(layer, "weight", Modulated(same))
                domain += [chain.original1, chain.original2]
        return domain

    def why_empty(self) -> str:
        """Nothing matches."""
        return "it has no convolution larger than 1x1, or none that include names"


def modulated(network: Network) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """The gamma and the beta of every weight that AdaFM or filter selection modulates, by stage."""
    found = {}
    for name, stage in network.stages().items():
        owners: list[Any] = [module for module in stage.modules() if is_parametrized(module, "weight")]
        chains = [owner.parametrizations.weight for owner in owners]
        pairs = [(c.original1, c.original2) for c in chains if isinstance(c[0], Modulated)]
        if pairs:
            found[name] = pairs
    return found


def modulation(network: Network) -> dict[str, tuple[Tensor, Tensor]]:
    """What AdaFM or filter selection has learned, by stage (Zhao et al. 2020, Figure 13).

    Args:
        network: A network, divided by them or by anything else.

    Returns:
        All gammas and all betas of a stage, flat; without the stages that have none.
    """
    return {
        name: (
            torch.cat([gamma.detach().flatten() for gamma, _ in pairs]),
            torch.cat([beta.detach().flatten() for _, beta in pairs]),
        )
        for name, pairs in modulated(network).items()
    }
