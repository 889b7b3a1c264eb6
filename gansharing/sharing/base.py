"""Which parameters of a network a domain owns, and which belong to all domains."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks import Network, build_network
from gansharing.networks.base import Configurable, build
from gansharing.sharing.surgery import plain_state

_DOMAIN = "_domain_names"


class Sharing(Configurable, ABC):
    """Divides the parameters of a network into a domain's own (θ_D) and those shared by all (θ_S).

    A sharing is a set of parametrisations: it leaves the network's forward, its output and its class alone.
    """

    #: Whether an ordinary network without the sharing computes the same.
    merges = True

    def apply(self, network: Network) -> "Split":
        """Divide ``network`` in place. Its output stays the same, bit for bit.

        The division is recorded in ``network.config["sharing"]``; :func:`build_shared` repeats it.

        Args:
            network: Any network that is not divided yet.

        Raises:
            UserError: The network is divided already, or the domain would own nothing.
        """
        name = type(self).__name__
        if hasattr(network, _DOMAIN):
            raise UserError(
                f"this {type(network).__name__} is divided already; merge it before applying {name}"
            )
        owned = {id(parameter) for parameter in self.divide(network)}
        names = frozenset(n for n, p in network.named_parameters() if id(p) in owned)
        if not names:
            raise UserError(
                f"{name} leaves the domain no weight of this {type(network).__name__}: {self.why_empty()}"
            )
        network.config = network.config | {"sharing": self.config}
        object.__setattr__(network, _DOMAIN, names)
        return Split(network)

    @abstractmethod
    def divide(self, network: Network) -> Iterable[nn.Parameter]:
        """Register parametrisations where needed and give the domain's parameters."""

    def why_empty(self) -> str:
        """What a user can do where the domain would own nothing."""
        return "choose another sharing"


class Split:
    """A network's parameters, divided.

    Attributes:
        network: The network.
        domain: θ_D by name: what is trained, stored and exchanged per domain.
        shared: θ_S by name. Both together are all parameters, none twice.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        names = getattr(network, _DOMAIN, None)
        parameters = dict(network.named_parameters())
        self.domain = {n: p for n, p in parameters.items() if names is None or n in names}
        self.shared = {n: p for n, p in parameters.items() if n not in self.domain}

    @property
    def domain_buffers(self) -> dict[str, Tensor]:
        """Buffers that belong to the domain: running statistics, the average style, by name."""
        own, state = set(self.network.trained_buffers()), self.network.state_dict()
        return {name: state[name] for name in own & state.keys()}

    @property
    def learn_ratio(self) -> float:
        """``λ_D = |θ_D| / (|θ_D| + |θ_S|)`` (Webster et al. 2022, section 3)."""
        domain, shared = _count(self.domain), _count(self.shared)
        return domain / (domain + shared)

    @property
    def domain_size(self) -> int:
        """``|θ_D|``, numbers."""
        return _count(self.domain)

    @property
    def shared_size(self) -> int:
        """``|θ_S|``, numbers."""
        return _count(self.shared)

    @property
    def delta_bytes(self) -> int:
        """Size of θ_D and of the domain's buffers: what a domain adds to a base on disk, but for a header."""
        tensors = [*self.domain.values(), *self.domain_buffers.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def freeze_shared(self) -> None:
        """Compute no gradients of θ_S from now on."""
        for parameter in self.shared.values():
            parameter.requires_grad_(False)

    def shared_hash(self) -> str:
        """sha256 over θ_S and the constant buffers: names, shapes, types and content."""
        constant = {n: t for n, t in self.network.state_dict().items() if n not in self.domain}
        own = self.domain_buffers.keys()
        digest = hashlib.sha256()
        for name in sorted(constant.keys() - own):
            # Adding 0 turns -0 into 0, as averaging equal weights does.
            tensor = (constant[name].detach() + 0).cpu().contiguous()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _count(parameters: Mapping[str, Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())


def split_of(network: Network) -> Split:
    """How ``network`` is divided. An undivided network belongs to its domain entirely."""
    return Split(network)


def build_sharing(config: Mapping[str, Any]) -> Sharing:
    """Build a sharing from its ``config``, which may come from an untrusted file.

    Raises:
        UserError: It is not a known sharing, or does not take these arguments.
    """
    return build(config, Sharing, "gansharing.sharing", "sharing")  # type: ignore[type-abstract]


def described(config: Mapping[str, Any]) -> str:
    """A sharing's ``config`` in a line, ``WidthWise(learn_ratio=0.1, ...)``, without what is None."""
    given = [f"{key}={_value(value)}" for key, value in config["init_args"].items() if value is not None]
    return f"{config['class_path'].rpartition('.')[2]}({', '.join(given)})"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return described(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


def build_shared(config: Mapping[str, Any]) -> Network:
    """Build a network from its ``config``, divided as it was when the configuration was taken.

    Raises:
        UserError: The network or the sharing is not known, or does not take its arguments.
    """
    network = build_network(config)
    if "sharing" in config:
        build_sharing(config["sharing"]).apply(network)
    return network


def merged(network: Network) -> Network:
    """An ordinary copy of ``network``: the same output, bit for bit, without the sharing's parametrisations.

    A sharing that adds a module, such as :class:`~gansharing.sharing.Miner`, stays: nothing else computes
    the same.
    """
    sharing = network.config.get("sharing")
    if sharing is None or not build_sharing(sharing).merges:
        return copy.deepcopy(network)
    # Built anew: torch undoes a parametrisation on the class, which copies share with the original.
    plain = build_network(network.config)
    plain.load_state_dict(plain_state(network))
    plain.to(next(network.parameters()).device)
    return plain.train(network.training)
