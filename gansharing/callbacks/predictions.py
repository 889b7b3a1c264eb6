"""Files for what ``predict`` generates."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from gansharing.seeds import parse_seeds
from gansharing.visual import grid, save_png

MOST_TILES = 1024


class Predictions(Callback):
    """Write what ``predict`` generates: ``seed0000042.png`` with the seed in its metadata, and ``grid.png``.

    The grid shows the first images of the first process.

    Args:
        out: Target folder; ``RUN/predictions`` when omitted.
        seeds: Latent seeds such as ``0-15`` or ``3,5,8-10``.
    """

    def __init__(self, out: str | None = None, seeds: str = "0-15") -> None:
        self.out, self.seeds = out, parse_seeds(seeds)
        self.folder: Path | None = None
        self._tiles: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Ask the setup for the seeds."""
        if stage == "predict":
            pl_module.prediction_seeds = self.seeds
            self.folder = Path(self.out or Path(trainer.default_root_dir) / "predictions")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        """Write one file an image."""
        if self.folder is None:
            raise RuntimeError("Predictions was not set up")
        for seed, image in zip(outputs["seeds"], outputs["images"], strict=True):
            save_png(image, self.folder / f"seed{seed:07d}.png", metadata={"seed": str(seed)})
        if sum(len(part) for part in self._tiles) < MOST_TILES:
            self._tiles.append(outputs["images"].cpu())

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the grid."""
        if trainer.is_global_zero and self._tiles and self.folder is not None:
            save_png(grid(torch.cat(self._tiles)[:MOST_TILES]), self.folder / "grid.png")
        self._tiles = []
