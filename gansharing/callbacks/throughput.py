"""Images per second, validation left out."""

import time
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback


class Throughput(Callback):
    """Log ``images_per_second`` at the trainer's logging interval, over all processes."""

    def __init__(self) -> None:
        self._since = (0.0, 0, 0)
        self.seconds_per_step = 0.0

    def _restart(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = (time.monotonic(), trainer.global_step, pl_module.images)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._restart(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Leave the validation out."""
        self._restart(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log and start anew."""
        since, step, images = self._since
        steps = trainer.global_step - step
        if steps >= trainer.log_every_n_steps > 0:  # type: ignore[attr-defined]
            seconds = time.monotonic() - since
            self.seconds_per_step = seconds / steps
            pl_module.log("images_per_second", (pl_module.images - images) / seconds)
            self._restart(trainer, pl_module)
