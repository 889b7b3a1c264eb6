"""Batches whose order is a function of (seed, position): shared out over processes, resumed anywhere."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gansharing.errors import UserError

Batch = dict[str, Tensor]
T = TypeVar("T")


class ImageSet(Protocol):
    """Numbered images: :class:`~gansharing.data.cache.CachedImages`, or those of shards."""

    def __len__(self) -> int:
        """How many."""
        ...

    def batch(self, indices: np.ndarray) -> Batch:
        """Stacked images at ``indices``."""
        ...


def sample_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of ``count`` samples in an epoch: int64 (count,), a permutation, a function of the arguments.

    NumPy promises that ``RandomState`` draws the same in every release, which newer generators do not.
    """
    source = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch])))
    order = source.permutation(count)
    order.flags.writeable = False
    return order


def rank_share(size: int, rank: int, world: int) -> np.ndarray:
    """Places in a global batch of ``size`` that belong to a rank: contiguous, sizes differ by one at most.

    A last batch with fewer samples than ranks gives each rank one: rank r has sample r modulo ``size``, so
    that no rank is left without a batch. Only then is a sample seen by two ranks.
    """
    if size < world:
        return np.array([rank % size])
    return np.arange(rank * size // world, (rank + 1) * size // world)


class ResumableLoader:
    """Endless passes over images in shuffled batches, with a position that can be saved and restored.

    One iteration gives ``len(loader)`` batches from the current position on; the next goes on where it was
    broken off (or limited by the trainer), so all images come up equally often. Lightning saves and restores
    the position through ``state_dict`` and ``load_state_dict``; it counts batches handed out, not batches
    that workers fetched ahead. Iterating draws nothing from torch's global random numbers.

    Args:
        images: What to read.
        batch_size: Images in a batch over all ranks; each rank gets ``batch_size / world`` of them, in an
            order that puts the same images into the same global batch whatever the world size.
        seed: Decides the order, with the position.
        rank: This process's number.
        world: Number of processes that share the batches.
        drop_last: Leave out an epoch's last incomplete batch. If false it is handed out: each rank gets a
            share of it, see :func:`rank_share`.
        num_workers: Processes that fetch ahead. Reading from the memory map needs none.

    Raises:
        UserError: The batch size suits neither the images nor the world size.
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
        num_workers: int = 0,
    ) -> None:
        _check(len(images), batch_size, world, drop_last)
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.rank, self.world = rank, world
        self.drop_last, self.num_workers = drop_last, num_workers
        self.position = 0
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Batches in an epoch, the same on every rank."""
        count = len(self.images)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def indices(self, position: int) -> np.ndarray:
        """Indices of this rank's samples in the ``position``-th batch, counted from 0 over all epochs."""
        epoch, number = divmod(position, len(self))
        whole = self.order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]
        return whole[rank_share(len(whole), self.rank, self.world)]

    def order(self, epoch: int) -> np.ndarray:
        """The images' order in an epoch, int64 (len(images),); that of the epoch last asked for is kept."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, sample_order(self.seed, epoch, len(self.images))
        return self._order[1]

    def __iter__(self) -> Iterator[Batch]:
        positions = range(self.position, self.position + len(self))
        for position, batch in zip(positions, self._fetch(positions), strict=True):
            self.position = position + 1
            yield batch

    def _fetch(self, positions: range) -> Iterator[Batch]:
        return fetched(
            lambda position: self.images.batch(self.indices(position)), positions, self.num_workers
        )

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.position = epoch * len(self)

    def state_dict(self) -> dict[str, int | bool]:
        """The position and what it counts; the same on every rank."""
        return {"position": self.position} | self._geometry()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, with any number of ranks or workers.

        Raises:
            UserError: The state belongs to other data, another batch size, seed or ``drop_last``.
        """
        for name, value in self._geometry().items():
            if state.get(name) != value:
                raise UserError(
                    f"the checkpoint's data had {name}={state.get(name)}, this run has {name}={value}: its "
                    "position means nothing here; resume with the same data options, or start a new run from "
                    "its weights"
                )
        self.position = int(state["position"])

    def _geometry(self) -> dict[str, int | bool]:
        return {
            "num_images": len(self.images),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }


def _check(count: int, batch_size: int, world: int, drop_last: bool) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give at least 1")
    if batch_size % world:
        raise UserError(f"batch_size {batch_size} (over all processes) is no multiple of {world} processes")
    if count == 0:
        raise UserError("there are no images to train on")
    if count < batch_size and drop_last:
        raise UserError(
            f"{count} images do not fill one batch of {batch_size}: set batch_size to {count} or less, or "
            "drop_last to false"
        )


def fetched(batch: Callable[[int], T], positions: range, num_workers: int) -> Iterator[T]:
    """Batches by their positions, in order.

    Args:
        batch: Gives the batch at a position.
        positions: Which.
        num_workers: Processes that fetch ahead; none draws from torch's global random numbers.
    """
    if num_workers == 0:
        return map(batch, positions)
    return iter(
        DataLoader(
            _Batches(batch),
            batch_size=None,
            sampler=positions,
            num_workers=num_workers,
            collate_fn=_as_is,
            worker_init_fn=leave_signals_to_the_trainer,
            generator=torch.Generator(),  # else each iteration would draw from the global one
        )
    )


class _Batches(Dataset[T]):
    """Batches by position, for worker processes."""

    def __init__(self, batch: Callable[[int], T]) -> None:
        self._batch = batch

    def __getitem__(self, position: int) -> T:
        return self._batch(position)


def _as_is(batch: Any) -> Any:
    return batch


def leave_signals_to_the_trainer(worker: int = 0) -> None:
    """Make a worker deaf to what is meant for the trainer.

    A fork inherits Lightning's handlers, and a terminal's Ctrl-C or SLURM's warning reaches every process of
    the group: a worker would write checkpoints of its own, or die while the trainer finishes its batch. Only
    the parent's own SIGTERM (how torch ends a worker that hangs) still ends it.
    """
    for name in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # A default handler: a blocked signal that is ignored would not be seen by sigwaitinfo.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says, daemon=True).start()


def _end_when_the_parent_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
