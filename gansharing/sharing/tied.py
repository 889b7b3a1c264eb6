"""Networks of several domains that hold θ_S in common."""

import copy
from collections.abc import Iterable
from typing import TypeVar

from torch import Tensor

from gansharing.networks import Network
from gansharing.sharing.base import Sharing, split_of

N = TypeVar("N", bound=Network)


def tied_copies(network: N, sharing: Sharing, domains: Iterable[str]) -> dict[str, N]:
    """Divide a network and give each domain a copy: θ_S is one set of parameters, θ_D is each domain's own.

    All copies start from the same weights. What one domain's backward pass adds to the gradient of θ_S, the
    others' add to as well (Webster et al. 2022, section 3.1). Constant buffers are held once, too.

    Args:
        network: An undivided network; it becomes the first domain's.
        sharing: How it is divided. A sharing that leaves everything to the domain ties nothing.
        domains: Names of the domains.

    Returns:
        The networks by domain.

    Raises:
        UserError: The sharing cannot divide the network.
    """
    sharing.apply(network)
    held = held_in_common(network)
    return {
        name: network if number == 0 else copy.deepcopy(network, dict(held))
        for number, name in enumerate(domains)
    }


def held_in_common(*networks: Network) -> dict[int, Tensor]:
    """What divided networks' copies share: θ_S and constant buffers, as a memo for ``copy.deepcopy``."""
    held: dict[int, Tensor] = {}
    for network in networks:
        trained = set(network.trained_buffers())
        constant = [buffer for name, buffer in network.named_buffers() if name not in trained]
        held |= {id(tensor): tensor for tensor in (*split_of(network).shared.values(), *constant)}
    return held
