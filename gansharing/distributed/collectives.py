"""Reductions that the training code calls itself, after backward, instead of hooking into it."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gansharing.networks import Network


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Replace the gradients of ``module`` by their mean over all processes, in one flat all-reduce.

    A parameter without a gradient here counts as zero, so processes that used different parts of the
    module (a decoder that sees real images only) cannot leave each other waiting. Does nothing in a
    single process.
    """
    world = _world()
    if world == 1:
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for parameter, mean in zip(parameters, _split(flat / world, gradients), strict=True):
        parameter.grad = mean


def changing_buffers(module: nn.Module) -> list[Tensor]:
    """Floating-point buffers of ``module`` that training changes: all but the constants of its networks."""
    constant = {
        id(buffer)
        for network in module.modules()
        if isinstance(network, Network)
        for trained in [set(network.trained_buffers())]
        for name, buffer in network.named_buffers()
        if name not in trained
    }
    return [b for b in module.buffers() if b.is_floating_point() and id(b) not in constant]


@torch.no_grad()
def average_buffers(module: nn.Module) -> None:
    """Replace the floating-point buffers of ``module`` (batch statistics) by their mean over all processes.

    So the network that is averaged, validated on every process and saved by the first is one network. A
    network's constants are left alone: the mean of three equal numbers need not equal them, and deltas are
    bound to their content. Does nothing in a single process.
    """
    world, buffers = _world(), changing_buffers(module)
    if world == 1 or not buffers:
        return
    flat = torch.cat([b.flatten() for b in buffers])
    dist.all_reduce(flat)
    for buffer, mean in zip(buffers, _split(flat / world, buffers), strict=True):
        buffer.copy_(mean)


def _split(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    return [
        torch.empty_like(g).copy_(part.view(g.shape))
        for part, g in zip(flat.split([g.numel() for g in like]), like, strict=True)
    ]


@torch.no_grad()
def broadcast_from_first(module: nn.Module) -> None:
    """Give every process the parameters and buffers of rank 0. Does nothing in a single process."""
    if _world() == 1:
        return
    for tensor in [*module.parameters(), *module.buffers()]:
        dist.broadcast(tensor.data, src=0)
