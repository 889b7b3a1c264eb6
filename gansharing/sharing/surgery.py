"""Putting a parametrisation first in a tensor's chain, and taking it out again."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import ParametrizationList


class Divided(nn.Module):
    """Base of the parametrisations by which a sharing computes a weight from θ_D and θ_S."""


def layers(network: nn.Module) -> Iterator[tuple[str, nn.Module, int]]:
    """Convolutions and linear layers: everything with a ``weight`` of two or more dimensions.

    Yields:
        Name of the weight as the undivided network has it, the layer, and the weight's input dimension.
        An embedding's table and a norm's gains have no input dimension and are left out, as are tensors of
        other names and weights that are divided already.
    """
    for name, module in network.named_modules():
        if (
            isinstance(module, ParametrizationList | nn.Embedding | nn.LayerNorm)
            or ".parametrizations" in name
        ):
            continue
        weight = tensor(module, "weight")
        if weight is not None and weight.ndim >= 2:
            transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
            yield f"{name}.weight" if name else "weight", module, 0 if transposed else 1


def tensor(module: nn.Module, name: str) -> Tensor | None:
    """The trained tensor behind ``module.name``: itself or what a parametrisation computes it from.

    None where there is none, or several: a sharing has divided it.
    """
    if parametrize.is_parametrized(module, name):
        return getattr(_chain(module, name), "original", None)
    return module._parameters.get(name)


def parametrize_first(module: nn.Module, name: str, parametrization: Divided) -> Any:
    """Compute ``module.name`` through ``parametrization``, before what computes it already (spectral norm).

    Returns:
        The chain; its ``original0``, ``original1`` are what the parametrisation's inverse gave.
    """
    if not parametrize.is_parametrized(module, name):
        if parametrize.is_parametrized(module):
            _own_class(module)
        parametrize.register_parametrization(module, name, parametrization, unsafe=True)
        return _chain(module, name)
    later = _chain(module, name)
    first = ParametrizationList([parametrization, *later], later.original, unsafe=True)
    _chains(module)[name] = first
    return first


def _own_class(module: nn.Module) -> None:
    # A tensor's parametrisation is a property of the class, which torch makes for a module's first one
    # (spectral norm) and which copies share: they would look for a chain that they do not have.
    shared = type(module)
    content = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, content)


@torch.no_grad()
def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict that the undivided network would have: what sharings compute, by plain names."""
    state = network.state_dict()
    for name, module in network.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        prefix = f"{name}." if name else ""
        for weight, chain in _chains(module).items():
            if isinstance(chain[0], Divided):
                _join(state, f"{prefix}parametrizations.{weight}.", f"{prefix}{weight}", chain)
    return state


def _join(state: dict[str, Tensor], inner: str, outer: str, chain: Any) -> None:
    originals = [getattr(chain, f"original{i}") for i in range(chain.ntensors)]
    held = {key.removeprefix(inner): state.pop(key) for key in list(state) if key.startswith(inner)}
    state[outer if len(chain) == 1 else f"{inner}original"] = chain[0](*originals)
    for key, value in held.items():  # of later parametrisations, such as spectral norm's vectors
        number, _, rest = key.partition(".")
        if number.isdigit():
            state[f"{inner}{int(number) - 1}.{rest}"] = value


def _chains(module: nn.Module) -> Any:
    return module.parametrizations


def _chain(module: nn.Module, name: str) -> Any:
    return _chains(module)[name]
