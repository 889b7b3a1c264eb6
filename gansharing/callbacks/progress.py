"""Progress bar with losses, images per second and the time left."""

from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from gansharing.callbacks.throughput import Throughput


class Progress(RichProgressBar):
    """Lightning's progress bar, with throughput and the time to the end of training.

    Args:
        refresh_rate: Batches between redraws.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=False)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Losses, throughput and time left, without the version number."""
        metrics = dict(super().get_metrics(trainer, pl_module))
        metrics.pop("v_num", None)
        rate = trainer.callback_metrics.get("images_per_second")
        if rate is not None:
            metrics["img/s"] = f"{float(rate):.0f}"
        clock = next((c for c in trainer.callbacks if isinstance(c, Throughput)), None)  # type: ignore[attr-defined]
        if clock is not None and clock.seconds_per_step and trainer.max_steps > 0:
            left = (trainer.max_steps - trainer.global_step) * clock.seconds_per_step
            metrics["left"] = str(timedelta(seconds=round(left)))
        return metrics
