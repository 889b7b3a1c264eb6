"""What a multi-domain checkpoint holds: every domain once, under names that no layout of processes changes.

``state_dict`` has ``generator.NAME.…`` (the averaged ones), ``discriminator.NAME.…`` and ``rest.NAME.…``;
θ_S stands under every domain's name, but as one tensor, which a file holds once. An optimiser's state is kept
by parameter: ``NAME.…`` or, for θ_S, ``shared.…``.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gansharing.distributed.owners import Owners
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing import split_of

if TYPE_CHECKING:
    from gansharing.setups.multi_domain import MultiDomain

_SHARED = "shared"
_PLAYERS = ("generator", "discriminator")


@torch.no_grad()
def exchanged(
    owners: Owners, mine: Sequence[int], generators: Mapping[str, Network], domains: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """What the generators of all other processes' domains own, by domain.

    Args:
        owners: The processes.
        mine: Numbers of this process's domains.
        generators: Their generators, in the same order.
        domains: Names of all domains.
    """
    own = {}
    for number, network in zip(mine, generators.values(), strict=True):
        split = split_of(network)
        held = split.domain | split.domain_buffers
        own[number] = {name: tensor.detach().cpu().clone() for name, tensor in held.items()}
    found = owners.gather(own, everyone=True)
    return {domains[number]: state for number, state in found.items() if number not in mine}


def collect(setup: "MultiDomain", checkpoint: dict[str, Any]) -> None:
    """Complete ``checkpoint`` by the domains of the other processes; on the first process only."""
    names = setup.domains
    networks = checkpoint["networks"]
    first = next(iter(setup.games))
    for name in names:
        for part in _PLAYERS:
            networks[f"{part}.{name}"] = networks[f"{part}.{first}"]
    checkpoint["stream"] = setup.stream
    optimizers = [
        _named(state, parameter_names(setup, index))
        for index, state in enumerate(checkpoint.get("optimizer_states", []))
    ]
    if setup.owners.layout.world > 1:
        shared = _shared_names(setup)
        mine = {
            number: {
                "state": _of_domain(checkpoint["state_dict"], name, shared),
                "live": _of_domain(checkpoint.get("live_generator", {}), name, shared, "generator."),
                "optimizers": [
                    {k: v for k, v in named["state"].items() if k.startswith(f"{name}.")}
                    for named in optimizers
                ],
            }
            for number, name in zip(setup.mine, setup.games, strict=True)
        }
        for number, found in setup.owners.gather(_on_cpu(mine), everyone=False).items():
            _fill(checkpoint["state_dict"], found["state"], names[number], first, shared)
            if "live_generator" in checkpoint:
                _fill(checkpoint["live_generator"], found["live"], names[number], first, shared, "generator.")
            for named, more in zip(optimizers, found["optimizers"], strict=True):
                named["state"] |= more
    if "optimizer_states" in checkpoint:
        checkpoint["optimizer_states"] = optimizers


def distribute(setup: "MultiDomain", checkpoint: dict[str, Any]) -> None:
    """Reduce ``checkpoint`` to what this process's domains need.

    Raises:
        UserError: It is of other domains, or of another setup.
    """
    stored = [
        n.removeprefix("generator.") for n in checkpoint.get("networks", {}) if n.startswith("generator.")
    ]
    if set(stored) != set(setup.domains):
        raise UserError(
            f"the checkpoint holds the domains {', '.join(stored) or 'of another setup'}, this run has "
            f"{', '.join(setup.domains)}; give model.domains and data.domains as they were"
        )
    setup.stream = checkpoint.get("stream", 0)
    keep = tuple(f"{part}.{name}." for part in (*_PLAYERS, "rest") for name in setup.games)
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {key: value for key, value in state.items() if key.startswith(keep)}
    if "live_generator" in checkpoint:
        own = tuple(f"{name}." for name in setup.games)
        live = checkpoint["live_generator"]
        checkpoint["live_generator"] = {key: value for key, value in live.items() if key.startswith(own)}
    if "optimizer_states" in checkpoint:
        checkpoint["optimizer_states"] = [
            _numbered(state, parameter_names(setup, index))
            for index, state in enumerate(checkpoint["optimizer_states"])
        ]


def _shared_names(setup: "MultiDomain") -> dict[str, set[str]]:
    game = next(iter(setup.games.values()))
    return {part: set(split_of(getattr(game, part)).shared) for part in _PLAYERS}


def _of_domain(
    state: Mapping[str, Tensor], name: str, shared: Mapping[str, set[str]], prefix: str = ""
) -> dict[str, Tensor]:
    """Entries of a domain but θ_S; ``prefix`` is what the keys lack."""
    found = {}
    for key, value in state.items():
        part, domain, rest = f"{prefix}{key}".split(".", 2)
        if domain == name and rest not in shared.get(part, ()):
            found[key] = value
    return found


def _fill(
    state: dict[str, Tensor],
    found: Mapping[str, Tensor],
    name: str,
    first: str,
    shared: Mapping[str, set[str]],
    prefix: str = "",
) -> None:
    """Add a domain's entries to ``state``, and θ_S under its name, as the very tensors of the first."""
    state |= found
    for part, names in shared.items():
        if not prefix or prefix == f"{part}.":
            for rest in names:
                here, there = (f"{part}.{d}.{rest}".removeprefix(prefix) for d in (name, first))
                state[here] = state[there]


def parameter_names(setup: "MultiDomain", index: int) -> list[str]:
    """Names of an optimiser's parameters, in its order: ``DOMAIN.…`` or, of θ_S, ``shared.…``.

    Args:
        setup: The setup.
        index: The generators' optimiser (0) or the discriminators' (1).
    """
    games = setup.games
    names: dict[int, str] = {}
    for domain, game in games.items():
        network: nn.Module = game.generator if index == 0 else game._judge()
        names |= {id(parameter): f"{domain}.{name}" for name, parameter in network.named_parameters()}
    game = next(iter(games.values()))
    shared = split_of(getattr(game, _PLAYERS[index])).shared
    names |= {id(parameter): f"{_SHARED}.{name}" for name, parameter in shared.items()}
    return [names[id(parameter)] for parameter in setup.trained(index)]


def _named(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    groups = [{**group, "params": []} for group in state["param_groups"]]
    return {"state": {names[n]: value for n, value in state["state"].items()}, "param_groups": groups}


def _numbered(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    known = {name: number for number, name in enumerate(names)}
    groups = [{**group, "params": list(range(len(names)))} for group in state["param_groups"]]
    kept = {known[name]: value for name, value in state["state"].items() if name in known}
    return {"state": kept, "param_groups": groups}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(inner) for key, inner in value.items()}
    return [_on_cpu(inner) for inner in value] if isinstance(value, list) else value
