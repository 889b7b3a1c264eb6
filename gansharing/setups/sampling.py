"""Which samples a process generates, so that the world size never changes what is generated."""

from collections.abc import Iterator

import torch
from torch import Tensor


class SampleIndices:
    """Batches of sample numbers ``0 .. count-1``, dealt to the ranks in contiguous blocks without padding.

    Stands where a data loader is expected. Whatever the number of processes, every number occurs exactly
    once, and a sample's latent depends on its number alone.

    Args:
        count: Number of samples over all ranks.
        batch_size: Samples per batch and rank.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.start, self.stop = count * rank // world, count * (rank + 1) // world
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Number of batches of this rank."""
        return -(-(self.stop - self.start) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield int64 tensors of at most ``batch_size`` sample numbers."""
        for first in range(self.start, self.stop, self.batch_size):
            yield torch.arange(first, min(first + self.batch_size, self.stop))
