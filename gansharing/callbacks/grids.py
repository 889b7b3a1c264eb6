"""Pictures of what the generator makes, from the same latents every time."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gansharing.callbacks.loggers import log_image
from gansharing.errors import UserError
from gansharing.visual import grid, save_png


class Grids(Callback):
    """Write ``images/real.png`` once and ``images/step_0001000.png`` at every validation.

    Tile ``i`` shows latent seed ``i``, so pictures of different steps compare tile by tile.

    Args:
        columns: Tiles per row.
        rows: Rows.
    """

    def __init__(self, columns: int = 8, rows: int = 8) -> None:
        if columns < 1 or rows < 1:
            raise UserError(f"grids.columns and grids.rows must be at least 1, not {columns} and {rows}")
        self.columns, self.rows = columns, rows
        self._tiles: list[Tensor] = []

    @staticmethod
    def folder(trainer: Trainer) -> Path:
        """Where the pictures of a run lie."""
        return Path(trainer.default_root_dir) / "images"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what the discriminator is shown: the first images of the training set."""
        images = getattr(trainer.datamodule, "train_set", None)  # type: ignore[attr-defined]
        if images is None or not trainer.is_global_zero:
            return
        count = min(self.columns * self.rows, len(images))
        chosen = torch.linspace(0, len(images) - 1, count).round().long().tolist()
        self._save(trainer, images.batch(chosen)["image"], "real")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new picture."""
        self._tiles = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        _: int = 0,
    ) -> None:
        """Keep tiles until the picture is full."""
        missing = self.columns * self.rows - sum(len(part) for part in self._tiles)
        if missing > 0:
            self._tiles.append(outputs["images"][:missing].cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the picture and show it in the loggers."""
        if trainer.is_global_zero and self._tiles:
            self._save(trainer, torch.cat(self._tiles), f"step_{trainer.global_step:07d}")

    def _save(self, trainer: Trainer, images: Tensor, name: str) -> None:
        path = self.folder(trainer) / f"{name}.png"
        save_png(grid(images, self.columns), path)
        log_image(trainer, "real" if name == "real" else "samples", path)
