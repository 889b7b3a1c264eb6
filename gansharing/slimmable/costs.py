"""What a width costs: parameters and multiplications."""

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gansharing.networks.base import Generator, build_network
from gansharing.slimmable.layers import SliceableConditionalBatchNorm2d
from gansharing.slimmable.networks import SlimmableGenerator
from gansharing.slimmable.width import at_width, first_channels


class Cost(NamedTuple):
    """Of one width.

    Attributes:
        width: Share of the channels.
        used: Parameters of the slimmable network that compute at this width.
        alone: Parameters of the ordinary network with as many channels; fewer than ``used`` where a batch
            norm by class has gains and shifts of the width's own beside the table.
        macs: Multiply-accumulate operations an image, of convolutions and matrix products.
    """

    width: float
    used: int
    alone: int
    macs: int


def costs(network: SlimmableGenerator) -> list[Cost]:
    """What each width of ``network`` costs, the narrowest first; the network is left as it is."""
    probe = _probe(network)
    made = []
    for width in network.widths:
        alone = _alone(network.network, width)
        with at_width(width):
            norms = [m for m in probe.modules() if isinstance(m, SliceableConditionalBatchNorm2d)]
            own = sum(_size(norm.current()) for norm in norms)
            made.append(Cost(width, alone + own, alone, _macs(probe)))
    return made


def macs(network: Generator) -> int:
    """Multiply-accumulate operations of an image, of convolutions and matrix products alone."""
    return _macs(_probe(network))


def _alone(network: Generator, width: float) -> int:
    counts = {name: first_channels(getattr(network, name), width) for name in network.channel_arguments}
    with torch.device("meta"):  # sizes alone
        return _size(build_network({**network.config, "init_args": network.config["init_args"] | counts}))


def _probe(network: Generator) -> Generator:
    # Counting watches for gradients, and the statistics of batch norm shall not move.
    return copy.deepcopy(network).eval().requires_grad_(False)


def _macs(network: Generator) -> int:
    latent = network.sample_latent(1)
    with FlopCounterMode(display=False) as counter:
        network(latent, torch.zeros(1, dtype=torch.long, device=latent.device))
    return counter.get_total_flops() // 2


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
