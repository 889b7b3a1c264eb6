"""The parts of a batch in one process, as if each had a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gansharing.distributed import changing_buffers


class Replicas:
    """Buffers (running statistics, average styles, path lengths) for each part of a batch.

    Every part starts a step from the same buffers, sees through the step only its own changes, and at the
    end all become the mean, as processes average theirs; whole numbers, which count batches, become those of
    the first part.

    Args:
        module: Whose buffers.
        count: Parts; with one nothing is copied.
    """

    def __init__(self, module: nn.Module, count: int) -> None:
        self.module, self.count = module, count
        self._states: list[list[Tensor]] = []

    @property
    def buffers(self) -> list[Tensor]:
        """The buffers themselves."""
        return changing_buffers(self.module)

    @property
    def _all(self) -> list[Tensor]:
        counts = [buffer for buffer in self.module.buffers() if not buffer.is_floating_point()]
        return [*self.buffers, *counts]

    def begin(self) -> None:
        """Begin a step."""
        if self.count > 1:
            self._states = [[buffer.clone() for buffer in self._all] for _ in range(self.count)]

    @contextmanager
    def turn(self, part: int) -> Iterator[None]:
        """Inside, the buffers are those of a part."""
        if self.count > 1:
            self._put(self._states[part])
        yield
        if self.count > 1:
            self._states[part] = [buffer.clone() for buffer in self._all]

    def end(self) -> None:
        """End the step."""
        if self.count > 1:
            self._put(
                [
                    torch.stack(parts).mean(0) if parts[0].is_floating_point() else parts[0]
                    for parts in zip(*self._states, strict=True)
                ]
            )
            self._states = []

    @torch.no_grad()
    def _put(self, state: list[Tensor]) -> None:
        for buffer, value in zip(self._all, state, strict=True):
            # Past autograd's count of writes: a graph that is kept for the other player (shared fakes) holds
            # running statistics, but in training no gradient is computed from them.
            buffer.data.copy_(value)
