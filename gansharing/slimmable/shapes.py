"""What shape a tensor has at a width: that of the ordinary network with fewer channels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gansharing.errors import UserError
from gansharing.networks.base import Network, build_network
from gansharing.slimmable.width import current_index, current_width, first_channels, is_between

Peers = Mapping[str, nn.Module]


class Shapes:
    """The ordinary networks of fewer channels, as shapes alone.

    Args:
        network: The ordinary network.
        widths: Shares of its channels, ascending to 1.
        between: Whether widths in between may be asked for; their shapes are found when they first are.

    Raises:
        UserError: The network does not declare what counts its channels, or a width leaves a layer empty.
    """

    def __init__(self, network: Network, widths: Sequence[float], between: bool = False) -> None:
        if not network.channel_arguments:
            raise UserError(f"{type(network).__name__} cannot be slimmed: it declares no channel_arguments")
        self.widths, self.between = list(widths), between
        self._config = {key: network.config[key] for key in ("class_path", "init_args")}
        self._counts = {name: getattr(network, name) for name in network.channel_arguments}
        self._plain = dict(network.plain_arguments)
        self._peers: dict[float, Peers] = {}
        self._shapes: dict[float, dict[tuple[str, str], tuple[int, ...]]] = {}
        for width in self.widths:
            self.at(width)

    def config(self, width: float, plain: bool = False) -> dict[str, Any]:
        """What builds the ordinary network with ``floor(channels * width)`` channels.

        Args:
            width: Share of the channels.
            plain: Its weights are used as they are stored, without spectral norm.
        """
        counts = {name: first_channels(count, width) for name, count in self._counts.items()}
        arguments = self._config["init_args"] | counts | (self._plain if plain else {})
        return self._config | {"init_args": arguments}

    def at(self, width: float) -> Peers:
        """The modules at a width by name, their tensors without content."""
        if width not in self._peers:
            with torch.device("meta"):
                self._peers[width] = dict(build_network(self.config(width, plain=True)).named_modules())
            self._shapes[width] = {
                (name, tensor): shape
                for name, module in self._peers[width].items()
                for tensor, shape in shapes_of(module).items()
            }
        return self._peers[width]

    def current(self, name: str, tensor: str) -> tuple[int, ...]:
        """Shape of a module's tensor at the current width.

        Raises:
            UserError: The network has no such width.
        """
        known = self.widths[current_index(self.widths, self.between)]
        width = current_width() if is_between(self.widths) else known
        self.at(width)
        return self._shapes[width][name, tensor]


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the trained tensors behind the module's parameters, by the parameters' names."""
    found: dict[str, Tensor] = {name: x for name, x in module._parameters.items() if x is not None}
    if parametrize.is_parametrized(module):
        chains: Any = module.parametrizations
        found |= {name: chain.original for name, chain in chains.items()}
    return {name: tuple(tensor.shape) for name, tensor in found.items()}
