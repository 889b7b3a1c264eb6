"""What a transferred network starts from: a source's stages where they fit, fresh weights elsewhere."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.networks import Network, build_network
from gansharing.sharing import Sharing

Init = Literal["pretrained", "fresh"]
_PART = re.compile(r"(^|\.)parametrizations\.(\w+)\.original\d*$")


def fitting(source: Network, target: Network) -> set[str]:
    """Names of the tensors that ``target`` can take from ``source``.

    A stage is taken when the source has one of the same name, whose tensors have the same names and shapes.
    Tensors outside of all stages (an average style) are taken one by one.

    Raises:
        UserError: No stage fits.
    """
    mine, theirs = _tensors(target), _tensors(source)
    shared = [name for name in mine if name and _shapes(mine[name]) == _shapes(theirs.get(name, {}))]
    found = {tensor for name in shared for tensor in mine[name]}
    if not found:
        known = ", ".join(name for name in theirs if name)
        raise UserError(
            f"no stage of this {type(target).__name__} has the name and the shapes of one of the source's, "
            f"a {type(source).__name__}: {known}; give the target its widths"
        )
    return found | {name for name, _ in _shapes(mine[""]).items() & _shapes(theirs[""]).items()}


def start(
    source: Network, target: Network, found: set[str], sharing: Sharing, init: Init
) -> dict[str, list[str]]:
    """Give ``target`` the weights of ``source``, then divide it. Changes ``target``.

    Args:
        source: An undivided network.
        target: An undivided network with the weights that it was made with.
        found: What :func:`fitting` says of the two.
        sharing: How ``target`` is divided.
        init: ``fresh`` leaves what the domain owns whole as it was made: whole tensors, and buffers that
            training changes. What a sharing adds to a tensor or cuts off it begins at the source in any case.

    Returns:
        Names of stages: ``from_source``, ``in_part`` (with tensors of both kinds) and ``fresh``.

    Raises:
        UserError: The sharing cannot divide ``target``, or freezes what is not taken.
    """
    stages, old = _tensors(target), source.state_dict()
    taken = found - _owned_whole(target, sharing) if init == "fresh" else found
    target.load_state_dict(target.state_dict() | {name: old[name] for name in taken})
    split = sharing.apply(target)
    left = {_plain(name) for name in split.shared} - {_plain(name) for name in taken}
    _refuse_frozen_noise(left, stages, target)
    result: dict[str, list[str]] = {"from_source": [], "in_part": [], "fresh": []}
    for stage, tensors in stages.items():
        if stage and tensors:
            count = len(tensors.keys() & taken)
            kind = "from_source" if count == len(tensors) else "in_part" if count else "fresh"
            result[kind].append(stage)
    return result


def _tensors(network: Network) -> dict[str, Mapping[str, Tensor]]:
    """Tensors by stage and by name; those of no stage under the empty name."""
    left = network.state_dict(keep_vars=True)
    names = {id(tensor): name for name, tensor in left.items()}
    stages: dict[str, Mapping[str, Tensor]] = {}
    for stage, module in network.stages().items():
        own = [names[id(t)] for t in (*module.parameters(), *module.buffers()) if id(t) in names]
        stages[stage] = {name: left.pop(name) for name in own if name in left}
    return {**stages, "": left}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _owned_whole(network: Network, sharing: Sharing) -> set[str]:
    with torch.device("meta"):  # which they are, not what they hold
        twin = build_network(network.config)
        split = sharing.apply(twin)
    shared = {_plain(name) for name in split.shared}
    owned = {_plain(name) for name in split.domain} - shared
    return {n for n in network.state_dict() if _plain(n) in owned} | set(network.trained_buffers())


def _refuse_frozen_noise(
    left: set[str], stages: Mapping[str, Mapping[str, Tensor]], network: Network
) -> None:
    names = [name for name, tensors in stages.items() if left & {_plain(tensor) for tensor in tensors}]
    if names:
        raise UserError(
            f"it freezes weights of {', '.join(names)} of this {type(network).__name__}, which the source "
            "does not have in these shapes: they would stay random; let the domain own those stages"
        )


def _plain(name: str) -> str:
    """``layer.weight`` for any part that a parametrisation computes it from."""
    return _PART.sub(r"\1\2", name)
