"""``MultiDomainData``: several sets of images, a batch of each in every step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gansharing.data.cache import CachedImages
from gansharing.data.images import ImageData, PositionedData
from gansharing.data.loader import Batch, ResumableLoader, fetched
from gansharing.data.shards import ShardedImageData, deal
from gansharing.errors import UserError
from gansharing.seeds import stream_seed
from gansharing.sharing.layout import DomainLayout

# What a domain may have of its own; sizes, ranges and loading are those of all.
_OWN = (
    *("path", "fraction", "subset", "crop", "background", "resample", "flip"),
    *("reference_split", "val_fraction", "max_bad_share"),
)


class MultiDomainData(PositionedData):
    """A batch of every domain in every step, in orders that can be resumed with any number of processes.

    A batch on the device is ``{domain: {"image": float32 (B, 3, resolution, resolution), "label": int64
    (B,)}}`` for the domains of the process; processes that share a domain split its batch. Domains may have
    different numbers of images: each goes through its own in an order of its own without end, and an epoch is
    over when the largest has been seen once.

    Args:
        domains: A folder whose sub-folders are the domains, or for each name a path, whatever
            :class:`ImageData` takes, or options of its own: ``{path: ..., crop: center}``. With ``{shards:
            ..., reference: ...}`` a domain is read from shards as :class:`ShardedImageData` does it: of its
            k processes the i-th has the shards i, i + k, ..., and other domains' processes need none.
        batch_size: Images of a domain in a step, over all processes of that domain.
        options: Of :class:`ImageData`, for every domain that has none of its own.

    Attributes:
        members: The :class:`ImageData` or :class:`ShardedImageData` of each domain.
        names: Names of the domains, sorted.

    Raises:
        UserError: There is no domain, the folder has no sub-folders, or an option is no domain's own.
    """

    def __init__(
        self, domains: str | Mapping[str, str | dict[str, Any]], batch_size: int = 8, **options: Any
    ) -> None:
        super().__init__()
        # In one order, whatever the user's or that of a stored configuration.
        given = _subfolders(domains) if isinstance(domains, str) else dict(sorted(domains.items()))
        paths = {name: {"path": own} if isinstance(own, str) else own for name, own in given.items()}
        if not paths:
            raise UserError("data.domains is empty; give at least one domain as NAME: PATH")
        if bad := [name for name in paths if not name or "." in name]:
            raise UserError(f"data.domains: '{bad[0]}' cannot name a domain; use a name without dots")
        if "path" in options:
            raise UserError("data.path is of one domain; give data.domains as NAME: PATH")
        self.members: dict[str, ImageData | ShardedImageData] = {}
        for name, own in paths.items():
            if own.keys() >= {"shards", "reference"}:
                with blaming(name):
                    self.members[name] = _sharded(own, batch_size, options)
                continue
            if bad := [key for key in own if key not in _OWN]:
                raise UserError(
                    f"data.domains.{name}: '{bad[0]}' is no option of a domain; those are {', '.join(_OWN)}"
                )
            if "path" not in own:
                raise UserError(
                    f"data.domains.{name} has no path; give {{path: PATH, ...}}, or {{shards: FOLDER, "
                    "reference: SET}"
                )
            with blaming(name):
                self.members[name] = _images(own, batch_size=batch_size, **options)
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
        loaders: dict[str, ResumableLoader] = {}
        for number, (name, member) in enumerate(self.members.items()):
            with blaming(name):
                at = layout.replica(rank)
                if isinstance(member, ImageData):
                    loaders[name] = member.loader(at, layout.replicas, number)
                else:
                    dealt = deal(len(member.index.shards), 1, layout.replicas)
                    loaders[name] = member.loader(at, dealt, number, reads=number in layout.of(rank))
        mine = [self.names[domain] for domain in layout.of(rank)]
        workers = max(member.num_workers for member in self.members.values())
        return self._positioned(DomainLoader(loaders, mine, workers))

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


def _images(own: dict[str, Any], batch_size: int, **options: Any) -> ImageData:
    options.update(own)  # so that the call below stays one from which the command line knows the options
    return ImageData(path=options.pop("path"), batch_size=batch_size, **options)


def _sharded(own: dict[str, Any], batch_size: int, options: dict[str, Any]) -> ShardedImageData:
    shared = {key: options[key] for key in ("flip", "num_workers", "seed") if key in options}
    if bad := [key for key in own if key not in ("shards", "reference", "flip")]:
        raise UserError(f"'{bad[0]}' is no option of a domain in shards; those are shards, reference, flip")
    member = ShardedImageData(batch_size=batch_size, **(shared | own))
    if (asked := options.get("resolution", member.resolution)) != member.resolution:
        raise UserError(
            f"its shards hold images of {member.resolution} px, data.resolution is {asked}: set that to "
            f"{member.resolution}, or write the shards again"
        )
    return member


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
