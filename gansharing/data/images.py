"""``ImageData``: from a folder (or a zip, tables, an embedded set) to training batches."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from gansharing.data.cache import CachedImages
from gansharing.data.decode import Crop, Recipe, Resample
from gansharing.data.loader import ResumableLoader
from gansharing.data.prepare import prepare
from gansharing.data.sources import Source, open_source
from gansharing.errors import UserError


class Positioned(Protocol):
    """A loader whose position can be saved."""

    def state_dict(self) -> dict[str, Any]:
        """The position and what it depends on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        ...


L = TypeVar("L", bound=Positioned)


class PositionedData(LightningDataModule):
    """Data whose training position enters checkpoints; what is generated for scores the module decides."""

    def __init__(self) -> None:
        super().__init__()
        self._forget_position()

    def _forget_position(self) -> None:
        self._loader: Positioned | None = None
        self._restored: dict[str, Any] = {}

    def _positioned(self, loader: L) -> L:
        """``loader``, at the position of the one before it or of a checkpoint."""
        earlier, self._loader = self._loader, loader
        if earlier is not None and self.trainer is not None:
            loader.load_state_dict(earlier.state_dict())  # the trainer reloads its loaders in a run
        elif self._restored:
            loader.load_state_dict(self._restored)
        return loader

    def state_dict(self) -> dict[str, Any]:
        """The loader's position; Lightning restores its own copy only for runs cut within an epoch."""
        return {} if self._loader is None else {"train": self._loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next :meth:`train_dataloader` go on where ``state_dict`` was taken."""
        self._restored = state_dict.get("train", {})

    def val_dataloader(self) -> Any:
        """What the module asks for: a GAN is validated on samples that its own setup numbers."""
        return self._module().val_dataloader()

    def test_dataloader(self) -> Any:
        """As :meth:`val_dataloader`."""
        return self._module().test_dataloader()

    def predict_dataloader(self) -> Any:
        """As :meth:`val_dataloader`."""
        return self._module().predict_dataloader()

    def _module(self) -> LightningModule:
        assert self.trainer is not None, "only a trainer asks for these loaders"
        return self.trainer.lightning_module


class ImageData(PositionedData):
    """Images at one size, decoded once, in an order that can be resumed.

    A batch on the device is ``{"image": float32 (B, 3, resolution, resolution) in value_range, "label": int64
    (B,)}``, the images in channels_last memory. For validation the module is asked which samples it wants to
    generate; they are scored against :attr:`reference`.

    Args:
        path: ``twemoji`` or ``openmoji`` (embedded), a folder (flat, class sub-folders, train/val/test), a
            ``.zip`` (StyleGAN's ``dataset.json`` included), parquet files, or a saved Hugging Face
            ``datasets`` folder.
        resolution: Side of the images in pixels.
        batch_size: Images in a step, over all processes together.
        fraction: Share of the training split to train on, in (0, 1]: ``int(N * fraction)`` images, or one.
        subset: Which share: ``random`` (by ``seed``), or ``first`` in sorted order.
        crop: ``none`` squashes an image to a square; ``center`` cuts the middle square.
        background: Colour that shows through transparent pixels.
        resample: Filter of the antialiased resize.
        flip: Mirror each training image with probability 1/2, drawn from torch's global random numbers.
        value_range: What black and white become.
        dither: Add numbers from U(0, ``dither``) to each training image after scaling, in units of
            ``value_range`` and drawn as flips are; a grey level of [-1, 1] is 1/127.5 wide.
        reference_split: Split that scores are taken against: ``train``, or the one that the data hold out.
        val_fraction: Share of the training split to hold out as ``val`` where the data have none: chosen by a
            hash of the names, so that paired data sets hold out the same images.
        num_workers: Processes that fetch ahead; reading from the cache needs none.
        drop_last: Leave out an epoch's last incomplete batch.
        seed: Decides the order of the images and the random subset.
        max_bad_share: Share of unusable files above which training is refused.

    Attributes:
        train_set: The images trained on, after ``fraction``.
        reference: All images of ``reference_split``; what FID is taken against.
    """

    train_set: CachedImages
    reference: CachedImages

    def __init__(
        self,
        path: str = "twemoji",
        resolution: int = 64,
        batch_size: int = 32,
        fraction: float = 1.0,
        subset: Literal["random", "first"] = "random",
        crop: Crop = "none",
        background: str = "white",
        resample: Resample = "lanczos",
        flip: bool = False,
        value_range: tuple[float, float] = (-1.0, 1.0),
        dither: float = 0.0,
        reference_split: Literal["train", "val", "test"] = "train",
        val_fraction: float = 0.0,
        num_workers: int = 0,
        drop_last: bool = True,
        seed: int = 0,
        max_bad_share: float = 0.01,
    ) -> None:
        super().__init__()
        low, high = value_range
        _require(0.0 < fraction <= 1.0, f"fraction is {fraction}; give a share in (0, 1]")
        _require(0.0 <= val_fraction < 1.0, f"val_fraction is {val_fraction}; give a share in [0, 1)")
        _require(0.0 <= max_bad_share <= 1.0, f"max_bad_share is {max_bad_share}; give a share in [0, 1]")
        _require(subset in ("random", "first"), f"subset is '{subset}'; it is 'random' or 'first'")
        _require(low < high, f"value_range is [{low}, {high}]; the first must be less than the second")
        _require(dither >= 0.0, f"dither is {dither}; give 0 or more")
        _require(batch_size >= 1, f"batch_size is {batch_size}; give at least 1")
        _require(num_workers >= 0, f"num_workers is {num_workers}; give 0 or more")
        _require(seed >= 0, f"data seed is {seed}; give 0 or more")
        self.path, self.resolution, self.batch_size = path, resolution, batch_size
        self.recipe = Recipe(resolution, crop, background, resample)
        self.fraction, self.subset, self.flip, self.value_range = (
            fraction,
            subset,
            flip,
            (float(low), float(high)),
        )
        self.dither, self.reference_split, self.val_fraction = dither, reference_split, val_fraction
        self.num_workers, self.drop_last, self.seed = num_workers, drop_last, seed
        self.max_bad_share = max_bad_share
        self._prepared = False
        # Not logged: the module has options of the same names (resolution), which loggers refuse to merge.
        self.save_hyperparameters(logger=False)

    @property
    def num_classes(self) -> int:
        """Number of classes of the training split, 1 without labels; after :meth:`setup`."""
        return self.train_set.num_classes

    def prepare_data(self) -> None:
        """Build the cache, in one process of each machine."""
        for source in self._sources().values():
            prepare(source, self.recipe, max_bad_share=self.max_bad_share)
        self._prepared = True

    def setup(self, stage: str = "fit") -> None:
        """Map the cache (and build it, where :meth:`prepare_data` was not called)."""
        self._forget_position()
        # Other processes of a run only map what the first one prepared and spoke of.
        warn = not self._prepared and getattr(rank_zero_only, "rank", 0) == 0
        splits = {
            name: prepare(source, self.recipe, max_bad_share=self.max_bad_share, progress=False, warn=warn)
            for name, source in self._sources().items()
        }
        if self.val_fraction:
            kept, held = hold_out(splits["train"].names, self.val_fraction)
            splits = {"train": splits["train"].subset(kept), "val": splits["train"].subset(held)}
        train = splits["train"]
        self.reference = splits[self.reference_split]
        self.train_set = train.subset(fraction_indices(len(train), self.fraction, self.subset, self.seed))

    def train_dataloader(self) -> ResumableLoader:
        """Batches of this process, in the order that ``seed`` decides."""
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        return self._positioned(self.loader(rank, world))

    def loader(self, rank: int, world: int, stream: int = 0) -> ResumableLoader:
        """Batches of one of several processes.

        Args:
            rank: Its number among them.
            world: How many share a batch.
            stream: Number of the order, where several sets have the same seed.
        """
        return ResumableLoader(
            self.train_set,
            self.batch_size,
            seed=self.seed + stream,
            rank=rank,
            world=world,
            drop_last=self.drop_last,
            num_workers=self.num_workers,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Scale uint8 images to floats in ``value_range``, mirrored where asked."""
        if not isinstance(batch, dict) or getattr(batch.get("image"), "dtype", None) != torch.uint8:
            return batch  # not one of ours: a validation step's list of latents
        training = self.trainer is not None and self.trainer.training
        image = random_mirror(batch["image"]) if self.flip and training else batch["image"]
        scaled = scale(image, self.value_range)
        if self.dither and training:
            scaled += self.dither * torch.rand(scaled.shape).to(scaled.device)
        # The trainer converts what comes from the loader, and that was uint8.
        if getattr(getattr(self.trainer, "lightning_module", None), "dtype", None) == torch.float64:
            scaled = scaled.double()
        return batch | {"image": scaled}

    def _sources(self) -> dict[str, Source]:
        source = open_source(self.path)
        if self.val_fraction and "val" in source.splits:
            raise UserError(f"val_fraction is set, but {self.path} has a val split of its own; set it to 0")
        wanted = {"train"} if self.val_fraction else {"train", self.reference_split}
        if self.val_fraction and self.reference_split == "test":
            raise UserError(
                "val_fraction holds out a val split; set reference_split to val, or val_fraction to 0"
            )
        return {split: source.take(split) for split in sorted(wanted)}


def fraction_indices(count: int, fraction: float, subset: str, seed: int) -> np.ndarray:
    """Sorted indices of the ``int(count * fraction)`` images to train on; at least one."""
    size = max(1, int(count * fraction))
    if subset == "first" or size == count:
        return np.arange(size)
    source = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, count])))
    return np.sort(source.permutation(count)[:size])


def hold_out(names: Sequence[str], fraction: float) -> tuple[list[int], list[int]]:
    """Split by a hash of the names: indices kept and held out, both sorted and neither empty.

    Raises:
        UserError: There are fewer than two images.
    """
    if len(names) < 2:
        raise UserError("val_fraction needs at least 2 images")
    ranked = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    size = min(max(1, round(len(names) * fraction)), len(names) - 1)
    return sorted(ranked[size:]), sorted(ranked[:size])


def scale(image: Tensor, value_range: tuple[float, float]) -> Tensor:
    """uint8 to float32, 0 becoming the range's start and 255 its end; the memory layout is kept."""
    low, high = value_range
    return image.float().mul_((high - low) / 255).add_(low)


def random_mirror(image: Tensor) -> Tensor:
    """Mirror each image (B, C, H, W) left to right with probability 1/2.

    Drawn on the CPU, so that a seed gives the same flips on every device.
    """
    chosen = (torch.rand(len(image)) < 0.5).to(image.device)
    return torch.where(chosen[:, None, None, None], image.flip(-1), image)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)
