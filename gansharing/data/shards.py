"""``ShardedImageData``: images that no node's disk holds as a whole."""

from typing import Any

import numpy as np

from gansharing.data.cache import CachedImages
from gansharing.data.images import ImageData, PositionedData
from gansharing.data.loader import Batch, ImageSet, ResumableLoader
from gansharing.data.shard_files import ShardedImages, ShardIndex, read_index
from gansharing.errors import UserError


class ShardedImageData(PositionedData):
    """Images from tar shards that are dealt to nodes, and on each node to its processes.

    A batch is that of :class:`ImageData`. Each process goes through the images of its own shards in a
    shuffled order without end, a function of seed and position; workers share a process's batches, so their
    number changes nothing. A checkpoint holds the position. Resumed with another number of nodes or
    processes, a run goes on at that position, and the shards are dealt anew.

    Args:
        shards: Folder that ``gansharing data shard`` wrote: its ``index.json``, and on each node the shards
            ``node_rank``, ``node_rank + num_nodes``, ... at least.
        reference: What scores are taken against: a set that :class:`ImageData` takes as its path, on each
            node, brought to size as the shards were.
        batch_size: Images in a step, over all processes together.
        flip: Mirror each training image with probability 1/2.
        num_workers: Processes that fetch and decode ahead.
        seed: Decides the order of the images.

    Attributes:
        index: What the shards hold.

    Raises:
        UserError: There are no shards.
    """

    def __init__(
        self,
        shards: str,
        reference: str,
        batch_size: int = 32,
        flip: bool = False,
        num_workers: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.index = read_index(shards)
        self.num_workers = num_workers
        recipe = self.index.recipe.as_dict()
        self._scored = ImageData(
            reference, batch_size=batch_size, flip=flip, num_workers=num_workers, seed=seed, **recipe
        )
        self.save_hyperparameters(logger=False)

    @property
    def resolution(self) -> int:
        """Side of all images in pixels."""
        return self.index.recipe.resolution

    @property
    def num_classes(self) -> int:
        """Number of classes, 1 without labels."""
        return max(1, len(self.index.classes))

    @property
    def reference(self) -> CachedImages:
        """What scores are taken against; after :meth:`setup`."""
        return self._scored.reference

    def prepare_data(self) -> None:
        """Build the reference's cache, in one process of each machine."""
        self._scored.prepare_data()

    def setup(self, stage: str = "fit") -> None:
        """Map the reference's cache."""
        self._forget_position()
        self._scored.setup(stage)

    def train_dataloader(self) -> "ShardLoader":
        """Batches of this process.

        Raises:
            UserError: A shard is missing or damaged, there are fewer shards than processes, or the batch
                does not divide.
        """
        trainer = self.trainer
        node, nodes, local, processes = (
            (
                trainer.node_rank,
                trainer.num_nodes,
                trainer.local_rank,
                trainer.world_size // trainer.num_nodes,
            )
            if trainer is not None
            else (0, 1, 0, 1)
        )
        dealt = deal(len(self.index.shards), nodes, processes)
        return self._positioned(self.loader(node * processes + local, dealt))

    def loader(self, rank: int, dealt: list[list[int]], stream: int = 0, reads: bool = True) -> "ShardLoader":
        """Batches of one of several processes.

        Args:
            rank: Its number among them.
            dealt: Numbers of the shards of each.
            stream: Number of the order, where several sets have the same seed.
            reads: This process has the shards; without them it knows how many images there are, no more.
        """
        return ShardLoader(
            self.index,
            dealt,
            self._scored.batch_size,
            seed=self._scored.seed + stream,
            rank=rank,
            num_workers=self.num_workers,
            reads=reads,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """As :meth:`ImageData.on_after_batch_transfer`."""
        self._scored.trainer = self.trainer
        return self._scored.on_after_batch_transfer(batch, dataloader_idx)


def deal(shards: int, nodes: int, processes: int) -> list[list[int]]:
    """Numbers of the shards of each process, the processes of a node following one another.

    Shards go to the nodes in turn, and a node's shards to its processes in turn: disjoint, and complete.

    Args:
        shards: How many there are.
        nodes: How many share them.
        processes: Of each node.

    Raises:
        UserError: A process would have none.
    """
    if shards < nodes * processes:
        raise UserError(
            f"{shards} shards cannot be dealt to {nodes * processes} processes ({nodes} nodes of "
            f"{processes}): write more and smaller shards (gansharing data shard --size), or take fewer "
            "processes"
        )
    of_node = [list(range(node, shards, nodes)) for node in range(nodes)]
    return [own[local::processes] for own in of_node for local in range(processes)]


class _Elsewhere(ImageSet):
    """Images that another process has."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: np.ndarray) -> Batch:
        raise AssertionError("these images are another process's")


class ShardLoader(ResumableLoader):
    """A :class:`ResumableLoader` whose processes have images of their own.

    Args:
        index: What the shards hold.
        dealt: Numbers of the shards of each process.
        batch_size: Images in a batch over all processes.
        seed: Decides the order, with the position.
        rank: This process's number.
        num_workers: Processes that fetch and decode ahead.
        reads: Open this process's shards; without, only lengths and positions are known.

    Raises:
        UserError: A shard is missing or damaged, or the batch does not divide.
    """

    def __init__(
        self,
        index: ShardIndex,
        dealt: list[list[int]],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        num_workers: int = 0,
        reads: bool = True,
    ) -> None:
        held = [sum(index.shards[number].images for number in own) for own in dealt]
        super().__init__(
            ShardedImages(index, dealt[rank]) if reads else _Elsewhere(held[rank]),
            batch_size,
            seed=seed,
            rank=rank,
            world=len(dealt),
            drop_last=False,  # batches do not end with an epoch
            num_workers=num_workers,
        )
        self.num_images = index.num_images
        self._share = batch_size // len(dealt)
        self._most = max(held)

    def __len__(self) -> int:
        """Batches until the process with the most images has seen all of its own."""
        return -(-self._most // self._share)

    def indices(self, position: int) -> np.ndarray:
        """Indices among this process's images in the ``position``-th batch, counted from 0 without end."""
        places = range(position * self._share, (position + 1) * self._share)
        epochs = [divmod(place, len(self.images)) for place in places]
        return np.array([self.order(epoch)[place] for epoch, place in epochs])

    def _geometry(self) -> dict[str, int | bool]:
        return super()._geometry() | {"num_images": self.num_images}
