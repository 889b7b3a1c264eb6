"""Progress bar with losses, images per second and the time left."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Lightning's progress bar, with throughput and the time to the end of training.

    Args:
        refresh_rate: Batches between redraws.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=False)
        self._since: tuple[float, int, int] | None = None
        self._rates: dict[str, str] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._restart(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the validation out of the throughput."""
        super().on_validation_end(trainer, pl_module)
        self._restart(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log throughput at the trainer's logging interval."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._since is not None and trainer.global_step - self._since[1] >= every > 0:
            seconds = time.monotonic() - self._since[0]
            rate = (pl_module.images - self._since[2]) / seconds
            pl_module.log("images_per_second", rate)
            self._rates = {"img/s": f"{rate:.0f}"}
            if trainer.max_steps > 0:
                left = (trainer.max_steps - trainer.global_step) * seconds / (trainer.global_step - self._since[1])
                self._rates["left"] = str(timedelta(seconds=round(left)))
            self._restart(trainer, pl_module)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _restart(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = (time.monotonic(), trainer.global_step, pl_module.images)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Losses, throughput and time left, without the version number."""
        metrics = dict(super().get_metrics(trainer, pl_module))
        metrics.pop("v_num", None)
        return metrics | self._rates
