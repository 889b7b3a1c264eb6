"""``MultiDomainData``: several sets of images, a batch of each in every step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gansharing.data.cache import CachedImages
from gansharing.data.images import ImageData, PositionedData
from gansharing.data.loader import Batch, ResumableLoader, fetched
from gansharing.errors import UserError
from gansharing.seeds import stream_seed
from gansharing.sharing.layout import DomainLayout


class MultiDomainData(PositionedData):
    """A batch of every domain in every step, in orders that can be resumed with any number of processes.

    A batch on the device is ``{domain: {"image": float32 (B, 3, resolution, resolution), "label": int64
    (B,)}}`` for the domains of the process; processes that share a domain split its batch. Domains may have
    different numbers of images: each goes through its own in an order of its own without end, and an epoch is
    over when the largest has been seen once.

    Args:
        domains: A folder whose sub-folders are the domains, or a path for each name: whatever
            :class:`ImageData` takes.
        batch_size: Images of a domain in a step, over all processes of that domain.
        options: Of :class:`ImageData`, the same for every domain.

    Attributes:
        members: The :class:`ImageData` of each domain.
        names: Names of the domains, sorted.

    Raises:
        UserError: There is no domain, or the folder has no sub-folders.
    """

    def __init__(self, domains: str | dict[str, str], batch_size: int = 8, **options: Any) -> None:
        super().__init__()
        # In one order, whatever the user's or that of a stored configuration.
        paths = _subfolders(domains) if isinstance(domains, str) else dict(sorted(domains.items()))
        if not paths:
            raise UserError("data.domains is empty; give at least one domain as NAME: PATH")
        if bad := [name for name in paths if not name or "." in name]:
            raise UserError(f"data.domains: '{bad[0]}' cannot name a domain; use a name without dots")
        if "path" in options:
            raise UserError("data.path is of one domain; give data.domains as NAME: PATH")
        self.members = {
            name: ImageData(path=path, batch_size=batch_size, **options) for name, path in paths.items()
        }
        self.batch_size = batch_size
        self.save_hyperparameters(logger=False)

    @property
    def names(self) -> list[str]:
        """The domains."""
        return list(self.members)

    @property
    def resolution(self) -> int:
        """Side of all images in pixels."""
        return next(iter(self.members.values())).resolution

    @property
    def references(self) -> dict[str, CachedImages]:
        """What the scores of each domain are taken against; after :meth:`setup`."""
        return {name: member.reference for name, member in self.members.items()}

    def prepare_data(self) -> None:
        """Build the caches, in one process of each machine."""
        for name, member in self.members.items():
            with blaming(name):
                member.prepare_data()

    def setup(self, stage: str = "fit") -> None:
        """Map the caches."""
        self._forget_position()
        for name, member in self.members.items():
            with blaming(name):
                member.setup(stage)

    def train_dataloader(self) -> "DomainLoader":
        """Batches of this process's domains."""
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        layout = DomainLayout(len(self.members), world)
        loaders = {}
        for number, (name, member) in enumerate(self.members.items()):
            with blaming(name):
                loaders[name] = ResumableLoader(
                    member.train_set,
                    member.batch_size,
                    seed=member.seed + number,
                    rank=layout.replica(rank),
                    world=layout.replicas,
                    drop_last=member.drop_last,
                )
        mine = [self.names[domain] for domain in layout.of(rank)]
        return self._positioned(DomainLoader(loaders, mine, next(iter(self.members.values())).num_workers))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """As :meth:`ImageData.on_after_batch_transfer`, for each domain.

        Flips and dither are drawn from a stream of the domain's own, which the loader's position decides, so
        that they do not depend on which process has the domain.
        """
        if not isinstance(batch, dict) or not all(isinstance(part, dict) for part in batch.values()):
            return batch
        ready = {}
        for name, part in batch.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(part["stream"][0]))
                member = self.members[name]
                member.trainer = self.trainer
                ready[name] = member.on_after_batch_transfer(
                    {key: value for key, value in part.items() if key != "stream"}, dataloader_idx
                )
        return ready


class DomainLoader:
    """Batches of several domains at one position.

    Args:
        loaders: One for each domain of the run.
        mine: The domains of this process.
        num_workers: Processes that fetch ahead.
    """

    def __init__(self, loaders: Mapping[str, ResumableLoader], mine: list[str], num_workers: int = 0) -> None:
        self.loaders, self.mine, self.num_workers = dict(loaders), mine, num_workers
        self.position = 0

    def __len__(self) -> int:
        """Batches until the largest domain has been seen once."""
        return max(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        positions = range(self.position, self.position + len(self))
        for position, batch in zip(positions, fetched(self.batch, positions, self.num_workers), strict=True):
            self.position = position + 1
            yield batch

    def batch(self, position: int) -> dict[str, Batch]:
        """The ``position``-th batch of each of this process's domains, counted from 0 without end."""
        found = {}
        for name in self.mine:
            loader = self.loaders[name]
            stream = stream_seed(loader.seed, position, loader.rank)
            found[name] = {
                **loader.images.batch(loader.indices(position)),
                "stream": torch.tensor([stream], dtype=torch.int64),
            }
        return found

    def state_dict(self) -> dict[str, Any]:
        """The position, and what each domain's order depends on; the same on every process."""
        domains = {name: loader.state_dict() | {"position": 0} for name, loader in self.loaders.items()}
        return {"position": self.position, "domains": domains}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, with any number of processes or workers.

        Raises:
            UserError: It belongs to other domains, or to other data of one.
        """
        stored = state.get("domains", {})
        if stored.keys() != self.loaders.keys():
            raise UserError(
                f"the checkpoint's data had the domains {', '.join(stored) or 'of another data module'}, "
                f"this run has {', '.join(self.loaders)}; resume with the same data.domains"
            )
        for name, loader in self.loaders.items():
            with blaming(name):
                loader.load_state_dict(stored[name])
        self.position = int(state["position"])


@contextmanager
def blaming(domain: str) -> Iterator[None]:
    """Name the domain in what goes wrong inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"domain {domain}: {error}") from None


def _subfolders(path: str) -> dict[str, str]:
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(
            f"data.domains: no folder {path}; give a folder with a sub-folder for each domain, or "
            "--data.domains '{NAME: PATH, ...}'"
        )
    found = {sub.name: str(sub) for sub in sorted(folder.iterdir()) if sub.is_dir() and sub.name[0] != "."}
    if not found:
        raise UserError(f"data.domains: {path} has no sub-folders; there must be one for each domain")
    return found
