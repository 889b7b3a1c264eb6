"""A run keeps its configuration: beside its results, in its checkpoints and in the loggers."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from gansharing.callbacks.loggers import log_config
from gansharing.files import write_atomically


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml`` into the run's folder, and the same text into every checkpoint."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"save_to_log_dir": False}))
        self._text = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Render the configuration as YAML, links and defaults included."""
        self._text = self.parser.dump(self.config, skip_none=False, format="yaml")
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the configuration of a training; runs on rank 0."""
        if stage != "fit":
            return
        path = Path(trainer.default_root_dir) / self.config_filename
        write_atomically(path, lambda file: file.write(self._text.encode()))
        log_config(trainer, yaml.safe_load(self._text))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration."""
        checkpoint["config"] = self._text
