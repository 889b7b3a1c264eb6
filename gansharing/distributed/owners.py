"""Gradients reduced by owner: what all share over the world, what a domain owns over its processes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gansharing.sharing.layout import DomainLayout

Compression = Literal["none", "bf16"]


class Owners:
    """The process groups of a layout, and the reductions over them.

    Every process calls the same methods in the same order. In a single process nothing is sent.

    Args:
        layout: Which process trains which domains. Its ``world`` is the default group's size.
        compression: ``bf16`` halves the bytes of gradients at the cost of rounding them.

    Attributes:
        sent: Bytes handed to reductions by this process, by ``shared`` and ``domain``.
    """

    def __init__(self, layout: DomainLayout, compression: Compression = "none") -> None:
        self.layout, self.compression = layout, compression
        self.sent: Counter[str] = Counter()
        self.rank = dist.get_rank() if layout.world > 1 else 0
        self._groups: dict[int, Any] = {}
        if layout.replicas > 1:  # every process must take part in making every group
            limit = _time_limit()
            self._groups = {d: dist.new_group(layout.ranks(d), limit) for d in range(layout.domains)}

    @torch.no_grad()
    def reduce_shared(self, parameters: Sequence[nn.Parameter], scale: float) -> None:
        """Make the gradients of θ_S their sum over all processes, times ``scale``.

        Args:
            parameters: θ_S, in one order on all processes. A missing gradient counts as zero.
            scale: What the sum is multiplied by; ``1 / (domains * replicas)`` for the mean over domains.
        """
        if self.layout.world > 1:
            self._reduce(parameters, None, "shared")
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients and scale != 1:
            torch._foreach_mul_(gradients, scale)

    @torch.no_grad()
    def average_domain(self, domain: int, parameters: Sequence[nn.Parameter]) -> None:
        """Make the gradients of what a domain owns their mean over the domain's processes."""
        if self.layout.replicas > 1:
            self._reduce(parameters, self._groups[domain], "domain")
            gradients = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_div_(gradients, float(self.layout.replicas))

    @torch.no_grad()
    def average_buffers(self, domain: int, buffers: Sequence[Tensor]) -> None:
        """Make floating-point buffers of a domain their mean over the domain's processes."""
        if self.layout.replicas > 1 and buffers:
            flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
            dist.all_reduce(flat, group=self._groups[domain])
            _unflatten(flat / self.layout.replicas, buffers)

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the values of the first one."""
        if self.layout.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, src=0)

    def gather(self, mine: Mapping[int, Any], everyone: bool) -> dict[int, Any]:
        """What the owners of all domains hold, by domain.

        Args:
            mine: Plain values and CPU tensors of this process's domains.
            everyone: All processes get it, or the first one alone and the others nothing.
        """
        if self.layout.world == 1:
            return dict(mine)
        owned = {d: value for d, value in mine.items() if self.layout.ranks(d)[0] == self.rank}
        if not everyone:
            return self._collected(owned)
        parts: list[Any] = [{} for _ in range(self.layout.world)]
        dist.all_gather_object(parts, owned)
        return {domain: value for part in parts for domain, value in part.items()}

    def _collected(self, owned: dict[int, Any]) -> dict[int, Any]:
        """All domains' on the first process, one after the other: it holds none of them twice."""
        for domain in range(self.layout.domains):
            owner = self.layout.ranks(domain)[0]
            if owner == self.rank and owner != 0:
                dist.send_object_list([owned[domain]], dst=0)
            elif owner != 0 and self.rank == 0:
                box: list[Any] = [None]
                dist.recv_object_list(box, src=owner)
                owned[domain] = box[0]
        return owned if self.rank == 0 else {}

    def _reduce(self, parameters: Sequence[nn.Parameter], group: Any, name: str) -> None:
        if not parameters:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        wire = flat.bfloat16() if self.compression == "bf16" else flat
        dist.all_reduce(wire, group=group)
        self.sent[name] += wire.numel() * wire.element_size()
        _unflatten(wire.to(flat.dtype), gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


def _time_limit() -> timedelta:
    """How long a reduction of the default group waits; a new group would take PyTorch's own limit instead."""
    group: Any = dist.group.WORLD
    options = group._get_backend(group._device_types[0]).options  # torch shows it nowhere in public
    return options._timeout


def _unflatten(flat: Tensor, into: Sequence[Tensor]) -> None:
    for part, tensor in zip(flat.split([t.numel() for t in into]), into, strict=True):
        tensor.copy_(part.view(tensor.shape))
