"""A setup's steps as Lightning runs them, without files, logs and pictures, timed one by one."""

import tempfile
import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader


class Clock(Callback):
    """Processor time at the end of every batch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        """Read it."""
        self.times.append(time.process_time())


def batch_seconds(
    setup: LightningModule,
    batches: Sequence[Tensor],
    precision: Any = "32-true",
    callbacks: Sequence[Callback] = (),
) -> list[float]:
    """Processor seconds of each batch after the first, callbacks included.

    Args:
        setup: What to train.
        batches: Images, ``(N, 3, H, W)`` in [-1, 1] each.
        precision: Lightning's.
        callbacks: That a run would have.
    """
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu", precision=precision, max_steps=-1, max_epochs=1, callbacks=[*callbacks, clock],
            logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            limit_val_batches=0, default_root_dir=folder, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(setup, DataLoader([{"image": images} for images in batches], batch_size=None))  # type: ignore[arg-type]
    return [after - before for before, after in zip(clock.times[:-1], clock.times[1:], strict=True)]
