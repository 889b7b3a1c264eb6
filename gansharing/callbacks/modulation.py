"""What AdaFM learns, seen while it does."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from gansharing.callbacks.grids import Grids
from gansharing.callbacks.loggers import log_image
from gansharing.errors import UserError
from gansharing.sharing import modulation
from gansharing.visual import plot_modulation


class Modulation(Callback):
    """Draw the generator's scales and shifts by stage at every validation (Zhao et al. 2020, Figure 13).

    Writes ``images/step_0001000_modulation.png`` and shows it in the loggers: of the averaged generator.
    """

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Check that there is something to draw.

        Raises:
            UserError: The generator has no scales and shifts.
        """
        if not modulation(pl_module.generator):
            raise UserError(
                "callback Modulation: the generator has no scales and shifts; set model.sharing to AdaFM or "
                "FilterSelection, or leave the callback out"
            )

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        """Draw once, while the averaged weights are in place."""
        if batch_idx == 0 and trainer.is_global_zero:
            path: Path = Grids.folder(trainer) / f"step_{trainer.global_step:07d}_modulation.png"
            plot_modulation({f"step {trainer.global_step}": modulation(pl_module.generator)}, path)
            log_image(trainer, "modulation", path)
