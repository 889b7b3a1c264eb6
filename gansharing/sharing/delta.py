"""A domain's delta: θ_D and the domain's buffers without θ_S, taken from one network and put into another."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing.base import Split, build_sharing, split_of


@dataclass(frozen=True)
class Delta:
    """What a domain owns of a divided network.

    Attributes:
        config: The network's configuration, its sharing included.
        shared_hash: :meth:`Split.shared_hash` of the network: the base it belongs to.
        layout: Digest of the names and shapes behind ``tensors``.
        tensors: One flat tensor a kind and type, such as ``parameters.float32`` or ``buffers.int64``, in the
            order of the names.
        origin: Where it comes from; plain values.
        name: What messages call it.
    """

    config: dict[str, Any]
    shared_hash: str
    layout: str
    tensors: dict[str, Tensor]
    origin: dict[str, Any] = field(default_factory=dict)
    name: str = "the delta"


@torch.no_grad()
def delta_of(network: Network, origin: Mapping[str, Any] | None = None) -> Delta:
    """Copy what the domain owns out of a divided network.

    Args:
        network: The network.
        origin: Where it comes from; plain values.

    Raises:
        UserError: The network is not divided.
    """
    if "sharing" not in network.config:
        raise UserError(
            f"this {type(network).__name__} is not divided, so it has no delta; a transfer divides it, "
            "or Sharing.apply"
        )
    slots = Slots(network)
    flats = {
        kind: torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).cpu()
        for kind, tensors in slots.tensors().items()
    }
    return Delta(plain(network.config), slots.shared_hash, slots.layout, flats, dict(origin or {}))


@torch.no_grad()
def apply_delta(network: Network, delta: Delta) -> None:
    """Put a domain's delta into its base, in place; θ_S keeps its values and its storage.

    That the base is the right one is checked by a hash over all of θ_S, once: the next delta of the same
    sharing only copies θ_D, until a tensor of θ_S is written to.

    Args:
        network: The base: undivided, or divided as the delta's network was.
        delta: The domain's own tensors.

    Raises:
        UserError: The delta belongs to another class of networks, another sharing or another base, or it is
            damaged. The network stays what it was.
    """
    _copy(slots_for(network, delta), delta)


@torch.no_grad()
def fill_domain(network: Network, delta: Delta) -> None:
    """As :func:`apply_delta` with any base: for those who look at what the domain owns, at no image.

    Raises:
        UserError: The delta does not fit a network of its own configuration: it is damaged.
    """
    slots = Slots(network)
    if slots.layout != delta.layout:
        raise UserError(f"{delta.name} is damaged: it does not fit the network it names; export it again")
    _copy(slots, delta)


def _copy(slots: "Slots", delta: Delta) -> None:
    for kind, tensors in slots.tensors().items():
        parts = delta.tensors[kind].split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            tensors, [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        )


def slots_for(network: Network, delta: Delta) -> "Slots":
    """The places of ``delta`` in ``network``, which is divided if it is not yet.

    Raises:
        UserError: As :func:`apply_delta`.
    """
    known = _KNOWN.get(network)
    if known is None or not known.valid() or known.config != delta.config:
        _check_config(network, delta)
        if "sharing" not in network.config:
            # On a copy: a base that is refused stays undivided.
            _divide(trial := copy.deepcopy(network), delta)
            _check_slots(Slots(trial), delta)
            _divide(network, delta)
            del trial
        known = _KNOWN[network] = Slots(network)
    _check_slots(known, delta)
    return known


class Slots:
    """Where a divided network keeps what its domain owns.

    Attributes:
        config: The network's configuration in plain values.
        layout: Digest of names, shapes and types of what the domain owns.
        names: Names of what the domain owns, by kind and type, sorted.
        shared_hash: Hash of all the rest when this object was made.
    """

    def __init__(self, network: Network) -> None:
        split, places = split_of(network), dict(_places(network))
        self.config, self.shared_hash = plain(network.config), split.shared_hash()
        self.names = _kinds(split)
        lines = [
            f"{kind} {name} {tuple(places[name][0][places[name][1]].shape)}"
            for kind, names in self.names.items()
            for name in names
        ]
        self.layout = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
        self._own = {kind: [places[name] for name in names] for kind, names in self.names.items()}
        own = {name for names in self.names.values() for name in names}
        self._shared = [place for name, place in places.items() if name not in own]
        self._seen = self._state()

    def tensors(self) -> dict[str, list[Tensor]]:
        """What the domain owns now, by kind and type."""
        return {kind: [owner[key] for owner, key in places] for kind, places in self._own.items()}

    def shapes(self) -> dict[str, list[tuple[str, torch.Size]]]:
        """Names and shapes in the order of a delta's flat tensors."""
        return {
            kind: [(name, tensor.shape) for name, tensor in zip(self.names[kind], tensors, strict=True)]
            for kind, tensors in self.tensors().items()
        }

    def valid(self) -> bool:
        """Whether no tensor of θ_S was replaced or written to since."""
        return self._state() == self._seen

    def _state(self) -> list[tuple[int, int]]:
        # A tensor made in inference mode counts no writes, and cannot be written to outside of it.
        tensors = [owner.get(key) for owner, key in self._shared]
        return [(id(t), -1 if t is None or t.is_inference() else t._version) for t in tensors]


_KNOWN: WeakKeyDictionary[Network, Slots] = WeakKeyDictionary()


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as JSON keeps it: tuples become lists."""
    return json.loads(json.dumps(config))


def _places(network: Network) -> Iterator[tuple[str, tuple[dict[str, Any], str]]]:
    """Owning dictionary and key of every persistent tensor, which outlive ``network.to(...)``."""
    for prefix, module in network.named_modules():
        dot = f"{prefix}." if prefix else ""
        persistent = module._buffers.keys() - module._non_persistent_buffers_set
        for owner, keys in ((module._parameters, module._parameters.keys()), (module._buffers, persistent)):
            for key in sorted(keys):
                if owner[key] is not None:
                    yield f"{dot}{key}", (owner, key)


def _kinds(split: Split) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for group, tensors in (("parameters", split.domain), ("buffers", split.domain_buffers)):
        for name in sorted(tensors):
            kinds.setdefault(f"{group}.{str(tensors[name].dtype).removeprefix('torch.')}", []).append(name)
    return kinds


def _divide(network: Network, delta: Delta) -> None:
    build_sharing(delta.config["sharing"]).apply(network)


def _check_config(network: Network, delta: Delta) -> None:
    mine, theirs = plain(network.config), delta.config
    if mine["class_path"] != theirs.get("class_path"):
        raise UserError(
            f"{delta.name} belongs to a {_short(theirs)}, the base is a {_short(mine)}; give the base it was "
            "trained from"
        )
    have, want = mine["init_args"], theirs.get("init_args", {})
    for name in sorted(have.keys() & want.keys()):
        if have[name] != want[name]:
            raise UserError(
                f"{delta.name} belongs to a {_short(mine)} with {name} {want[name]}, the base has "
                f"{have[name]}; give the base it was trained from"
            )
    if "sharing" not in theirs:
        raise UserError(f"{delta.name} names no sharing, so its tensors have no place; export it again")
    if mine.get("sharing", theirs["sharing"]) != theirs["sharing"]:
        raise UserError(
            f"{delta.name} was divided by {_short(theirs['sharing'])}, the base by "
            f"{_short(mine['sharing'])} or with other options; give the base undivided"
        )


def _check_slots(slots: Slots, delta: Delta) -> None:
    sizes = {kind: sum(shape.numel() for _, shape in entries) for kind, entries in slots.shapes().items()}
    counts = {kind: flat.numel() for kind, flat in delta.tensors.items() if flat.ndim == 1}
    types = {kind: str(flat.dtype).removeprefix("torch.") for kind, flat in delta.tensors.items()}
    fits = counts == sizes and all(kind.endswith(f".{dtype}") for kind, dtype in types.items())
    if not fits or slots.layout != delta.layout:
        raise UserError(
            f"{delta.name} does not hold what {_short(slots.config['sharing'])} divides off this network: "
            f"{_counts(counts)} where {_counts(sizes)} are expected; it is damaged or of another version"
        )
    if slots.shared_hash != delta.shared_hash:
        raise UserError(
            f"{delta.name} belongs to another base, whose shared weights have the hash "
            f"{delta.shared_hash[:12]}, not {slots.shared_hash[:12]}; give the base it was trained from"
        )


def _counts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sizes.items()) or "nothing"


def _short(config: Mapping[str, Any]) -> str:
    return str(config.get("class_path", "?")).rpartition(".")[2]
