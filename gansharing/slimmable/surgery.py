"""Making an ordinary network slimmable, and cutting an ordinary one out of it.

No layer is told how it is slimmed: a width's shapes are those of the ordinary network with fewer channels.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gansharing.errors import UserError
from gansharing.networks.base import Network, build_network
from gansharing.networks.sngan_layers import ConditionalBatchNorm2d
from gansharing.slimmable.layers import (
    CONDITIONAL,
    Conditional,
    FirstChannels,
    SliceableConditionalBatchNorm2d,
    SwitchableBatchNorm2d,
    SwitchableConditionalBatchNorm2d,
)
from gansharing.slimmable.width import at_width, first_channels


def narrow_config(network: Network, width: float) -> dict[str, Any]:
    """What builds the ordinary network with ``floor(channels * width)`` channels.

    Raises:
        UserError: The network does not declare what counts its channels.
    """
    if not network.channel_arguments:
        raise UserError(f"{type(network).__name__} cannot be slimmed: it declares no channel_arguments")
    counts = {name: first_channels(getattr(network, name), width) for name in network.channel_arguments}
    return {
        "class_path": network.config["class_path"],
        "init_args": network.config["init_args"] | counts,
    }


def slim(network: Network, widths: list[float], conditional: Conditional) -> None:
    """Make ``network`` compute at any of ``widths``, in place; at 1 its output stays the same.

    Args:
        network: An ordinary network.
        widths: Ascending to 1.
        conditional: What becomes of batch norms by class.

    Raises:
        UserError: It is not ordinary, cannot be slimmed, or a width leaves a layer empty.
    """
    if "sharing" in network.config:
        raise UserError(f"this {type(network).__name__} is divided by a sharing; slim it first")
    if conditional not in CONDITIONAL:
        raise UserError(f"conditional '{conditional}' is unknown; use {', '.join(CONDITIONAL)}")
    with torch.device("meta"):  # shapes alone
        narrow = [dict(build_network(narrow_config(network, w)).named_modules()) for w in widths]
    for name, module in layers(network):
        peers: list[Any] = [modules[name] for modules in narrow]
        if isinstance(module, ConditionalBatchNorm2d):
            channels = [peer.norm.num_features for peer in peers]
            network.set_submodule(name, CONDITIONAL[conditional](module, widths, channels))
        elif isinstance(module, nn.BatchNorm2d):
            channels = [peer.num_features for peer in peers]
            network.set_submodule(name, SwitchableBatchNorm2d(module, widths, channels, module.affine))
        else:
            _slice(name, module, peers, widths)


def layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of an ordinary network by name, without what is inside norms and parametrisations."""
    inside: tuple[str, ...] = ()
    for name, module in list(network.named_modules()):
        if name.startswith(inside):
            continue
        if isinstance(module, ConditionalBatchNorm2d):
            inside += (f"{name}.",)
        if parametrize.is_parametrized(module):
            inside += (f"{name}.parametrizations",)
        yield name, module


def _slice(name: str, module: nn.Module, peers: list[nn.Module], widths: list[float]) -> None:
    others = [_shapes(peer) for peer in peers]
    for tensor, full in _shapes(module).items():
        shapes = [other[tensor] for other in others]
        if any(shape != full for shape in shapes):
            slicing = FirstChannels(widths, shapes)
            parametrize.register_parametrization(module, tensor, slicing, unsafe=True)
    for buffer, content in module.named_buffers(recurse=False):
        if any(peer.get_buffer(buffer).shape != content.shape for peer in peers):
            raise UserError(f"{name}.{buffer} has channels: a {type(module).__name__} cannot be slimmed")


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the trained tensors behind the module's parameters, by the parameters' names."""
    found: dict[str, Tensor] = {name: x for name, x in module._parameters.items() if x is not None}
    if parametrize.is_parametrized(module):
        chains: Any = module.parametrizations
        found |= {name: chain.original for name, chain in chains.items()}
    return {name: tuple(tensor.shape) for name, tensor in found.items()}


@torch.no_grad()
def cut(network: Network, width: float) -> Network:
    """An ordinary network that computes what the slimmed ``network`` computes at ``width``.

    Args:
        network: What :func:`slim` made.
        width: One of its widths.

    Raises:
        UserError: It has no such width, or spectral norm: that of a part is not the part of the whole's.
    """
    narrow = build_network(narrow_config(network, width))
    held: Mapping[str, nn.Module] = dict(network.named_modules())
    with at_width(width):
        for name, module in layers(narrow):
            _copy(held[name], module)
    narrow.to(next(network.parameters()).device)
    return narrow.train(network.training)


def _copy(source: nn.Module, target: nn.Module) -> None:
    if parametrize.is_parametrized(target):
        raise UserError("a network with spectral norm cannot be cut to a width: its norm is of whole weights")
    if isinstance(target, ConditionalBatchNorm2d):
        assert isinstance(source, SliceableConditionalBatchNorm2d | SwitchableConditionalBatchNorm2d)
        target.embed.weight.copy_(source.folded())
        source, target = source.current(), target.norm
        source = source.norm if isinstance(source, ConditionalBatchNorm2d) else source
    elif isinstance(source, SwitchableBatchNorm2d):
        source = source.current()
    for name, tensor in [*target.named_parameters(recurse=False), *target.named_buffers(recurse=False)]:
        tensor.copy_(getattr(source, name))
