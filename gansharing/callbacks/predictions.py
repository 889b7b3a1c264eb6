"""Files for what ``predict`` generates."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from gansharing.seeds import parse_seeds
from gansharing.visual import save_png


class Predictions(Callback):
    """Write the images of ``predict`` as ``seed0000042.png``, with the seed in the PNG's metadata.

    Args:
        out: Target folder; ``RUN/predictions`` when omitted.
        seeds: Latent seeds such as ``0-15`` or ``3,5,8-10``.
    """

    def __init__(self, out: str | None = None, seeds: str = "0-15") -> None:
        self.out, self.seeds = out, parse_seeds(seeds)
        self.folder: Path | None = None

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Ask the setup for the seeds."""
        if stage == "predict":
            pl_module.prediction_seeds = self.seeds
            self.folder = Path(self.out or Path(trainer.default_root_dir) / "predictions")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        _: int = 0,
    ) -> None:
        """Write one file an image."""
        if self.folder is None:
            raise RuntimeError("Predictions was not set up")
        for seed, image in zip(outputs["seeds"], outputs["images"], strict=True):
            save_png(image, self.folder / f"seed{seed:07d}.png", metadata={"seed": str(seed)})
