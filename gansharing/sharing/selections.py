"""Sharings that choose whole tensors: everything, stages, styles, statistics."""

from collections.abc import Iterable, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from gansharing.errors import UserError
from gansharing.networks import Discriminator, Network
from gansharing.sharing.base import Sharing


class Full(Sharing):
    """The domain owns every parameter: ordinary fine-tuning, λ_D = 100 %."""

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """All parameters."""
        return network.parameters()


class LayerWise(Sharing):
    """The domain owns whole stages (Webster et al. 2022, section 3, "layer wise sharing").

    The paper's "1 %" is ``[fc0, fc1]`` of StyleGAN2 and its "10 %" ``[fc0, fc1, fc2, fc3, b4.conv1]``: names
    of budgets, the real λ_D at 256 px (config F) being 1.75 % and 12.23 %.

    Args:
        stages: Names of stages, as ``gansharing inspect`` lists them.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = tuple(stages)

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Parameters of the named stages.

        Raises:
            UserError: The network has no stage of that name.
        """
        stages = network.stages()
        for name in self.stages:
            if name not in stages:
                known = ", ".join(stages)
                raise UserError(f"{type(network).__name__} has no stage '{name}'; its stages are {known}")
        return [parameter for name in self.stages for parameter in stages[name].parameters()]

    def why_empty(self) -> str:
        """No stage was named."""
        return "name at least one stage that has parameters"


class FreezeLower(Sharing):
    """The domain owns all but the stages nearest the image, which see the most general features.

    On a discriminator this is FreezeD (Mo et al. 2020): its first stages are shared. On a generator its
    last ones are (Zhao et al. 2020, section 3.1).

    Args:
        stages: Number of stages that stay frozen.
    """

    def __init__(self, stages: int) -> None:
        if stages < 0:
            raise UserError(f"FreezeLower.stages is {stages}; give 0 or more")
        self.stages = stages

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Parameters of the other stages.

        Raises:
            UserError: The network has fewer stages.
        """
        stages = list(network.stages().values())
        if self.stages > len(stages):
            raise UserError(f"FreezeLower({self.stages}): {type(network).__name__} has {len(stages)} stages")
        low = (
            stages[: self.stages]
            if isinstance(network, Discriminator)
            else stages[len(stages) - self.stages :]
        )
        frozen = {id(parameter) for stage in low for parameter in stage.parameters()}
        return [parameter for parameter in network.parameters() if id(parameter) not in frozen]

    def why_empty(self) -> str:
        """All stages are frozen."""
        return "freeze fewer stages"


class Affine(Sharing):
    """The domain owns the layers that make styles ("Affine" of StyleDomain, Alanov et al. 2023)."""

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Weights and biases of the style layers."""
        return [parameter for layer in network.style_layers().values() for parameter in layer.parameters()]

    def why_empty(self) -> str:
        """The network makes no styles."""
        return "it has no style layers"


class BatchStatistics(Sharing):
    """The domain owns gains and shifts of normalisation layers (BSA, Noguchi and Harada 2019)."""

    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Gains and shifts of batch, instance, layer and group norms."""
        kinds = (_NormBase, nn.LayerNorm, nn.GroupNorm)
        norms = [module for module in network.modules() if isinstance(module, kinds)]
        return [parameter for norm in norms for parameter in norm.parameters()]

    def why_empty(self) -> str:
        """The network has no norms."""
        return "it has no normalisation layers with gains"
