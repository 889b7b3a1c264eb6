"""What the loggers can take beyond numbers, by what each of them offers."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image


def log_image(trainer: Trainer, name: str, path: Path) -> None:
    """Show an image file in every logger that shows images."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)])
        elif isinstance(logger, TensorBoardLogger):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            logger.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")


def log_config(trainer: Trainer, config: dict[str, Any]) -> None:
    """Give the run's configuration to every logger that keeps one."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger | TensorBoardLogger):
            logger.log_hyperparams(config)


def log_artifact(trainer: Trainer, name: str, kind: str, path: Path) -> None:
    """Upload a file as an artifact where the logger knows artifacts (W&B, offline too)."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and path.is_file():
            import wandb

            artifact = wandb.Artifact(f"{name}-{logger.experiment.id}", type=kind)
            artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
