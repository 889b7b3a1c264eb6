"""Callbacks that look at generated images the same way in a validation and in a test."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback


class Validated(Callback):
    """A test is one more validation."""

    def on_test_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """As before a validation."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_test_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """As in a validation."""
        self.on_validation_batch_end(trainer, pl_module, *args, **kwargs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """As after a validation."""
        self.on_validation_epoch_end(trainer, pl_module)
