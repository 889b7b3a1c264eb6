"""Making an ordinary network slimmable, and cutting an ordinary one out of it.

No layer is told how it is slimmed: a width's shapes are those of the ordinary network with fewer channels.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
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
from gansharing.slimmable.shapes import Shapes, shapes_of
from gansharing.slimmable.width import at_width


def narrow_config(network: Network, width: float) -> dict[str, Any]:
    """What builds the ordinary network with ``floor(channels * width)`` channels.

    Raises:
        UserError: The network does not declare what counts its channels.
    """
    return Shapes(network, []).config(width)


def slim(network: Network, widths: list[float], conditional: Conditional, between: bool = False) -> Shapes:
    """Make ``network`` compute at any of ``widths``, in place; at 1 its output stays the same.

    Args:
        network: An ordinary network.
        widths: Ascending to 1.
        conditional: What becomes of batch norms by class.
        between: Whether it computes at widths in between, too.

    Returns:
        The shapes at each width.

    Raises:
        UserError: It is not ordinary, cannot be slimmed, or a width leaves a layer empty.
    """
    if "sharing" in network.config:
        raise UserError(f"this {type(network).__name__} is divided by a sharing; slim it first")
    if conditional not in CONDITIONAL:
        raise UserError(f"conditional '{conditional}' is unknown; use {', '.join(CONDITIONAL)}")
    shapes, gated = Shapes(network, widths, between), frozenset(network.gated_layers())
    for name, module in layers(network):
        peers: list[Any] = [shapes.at(width)[name] for width in widths]
        if isinstance(module, ConditionalBatchNorm2d):
            channels = [peer.norm.num_features for peer in peers]
            network.set_submodule(name, CONDITIONAL[conditional](module, shapes, channels))
        elif isinstance(module, nn.BatchNorm2d):
            channels = [peer.num_features for peer in peers]
            norm = SwitchableBatchNorm2d(module, shapes, channels, module.affine, name in gated)
            network.set_submodule(name, norm)
        else:
            _slice(name, module, peers, shapes, name in gated)
    return shapes


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


def _slice(name: str, module: nn.Module, peers: list[nn.Module], shapes: Shapes, gated: bool) -> None:
    others = [shapes_of(peer) for peer in peers]
    outputs = 1 if isinstance(module, nn.ConvTranspose2d) else 0
    for tensor, full in shapes_of(module).items():
        if any(other[tensor] != full for other in others):
            halved = (outputs if len(full) > 1 else 0) if gated else None
            slicing = FirstChannels(shapes, name, tensor, halved)
            parametrize.register_parametrization(module, tensor, slicing, unsafe=True)
    for buffer, content in module.named_buffers(recurse=False):
        if any(peer.get_buffer(buffer).shape != content.shape for peer in peers):
            raise UserError(f"{name}.{buffer} has channels: a {type(module).__name__} cannot be slimmed")


@torch.no_grad()
def cut(network: Network, width: float, shapes: Shapes) -> Network:
    """An ordinary network that computes what the slimmed ``network`` computes at ``width``.

    What was spectral norm of a whole weight is worked into the part. Of a width in between, the statistics of
    batch norms are still to be measured.

    Args:
        network: What :func:`slim` made.
        width: One of its widths.
        shapes: What :func:`slim` gave.

    Raises:
        UserError: It has no such width, or spectral norm that its class cannot be without.
    """
    narrow = build_network(shapes.config(width, plain=True))
    held: Mapping[str, nn.Module] = dict(network.named_modules())
    training = network.training
    network.eval()  # a look at a weight moves no vector of spectral norm
    with at_width(width):
        for name, module in layers(narrow):
            _copy(held[name], module)
    network.train(training)
    narrow.to(next(network.parameters()).device)
    return narrow.train(training)


def _copy(source: nn.Module, target: nn.Module) -> None:
    if parametrize.is_parametrized(target):
        raise UserError("a network with spectral norm cannot be cut to a width: its norm is of whole weights")
    if isinstance(target, ConditionalBatchNorm2d):
        assert isinstance(source, SliceableConditionalBatchNorm2d | SwitchableConditionalBatchNorm2d)
        channels = target.norm.num_features
        target.embed.fill(source.folded(channels))
        source, target = source.narrowed(channels), target.norm
    elif isinstance(source, SwitchableBatchNorm2d):
        assert isinstance(target, nn.BatchNorm2d)
        source = source.narrowed(target.num_features)
    for name, tensor in [*target.named_parameters(recurse=False), *target.named_buffers(recurse=False)]:
        tensor.copy_(getattr(source, name))
