"""Ends a training whose discriminator knows its images by heart."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info


class EarlyStop(Callback):
    """Stop once the discriminator's loss, averaged over a window, is below a limit.

    With few images the discriminator comes to tell each of them from every fake, and its loss falls towards
    0; Zhao et al. (2020, section 4.3) find that loss fit for early stopping. The mean over each window of
    batches is logged as ``loss_d_mean``, so that one run shows where to put the limit. A discriminator that
    cannot tell has the loss 2 log 2 = 1.386 with cross entropy. Lightning's ``EarlyStopping`` would decide on
    a single batch, and takes a loss that falls for an improvement or a high one at the start for the best.

    Args:
        below: Mean of ``loss_d``, without penalties, below which to stop. 0 only logs.
        window: Batches in a mean; there is one decision a window. A stopped run that is resumed goes on for
            another one.
    """

    def __init__(self, below: float, window: int = 1000) -> None:
        if window < 1:
            raise ValueError(f"EarlyStop.window is {window}; give at least 1")
        self.below, self.window = below, window
        self._count, self._sum = 0, torch.zeros(())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's loss; at the end of a window decide."""
        self._sum = self._sum.to(outputs["loss_d"].device) + outputs["loss_d"]
        self._count += 1
        if self._count < self.window:
            return
        mean = trainer.strategy.reduce(self._sum / self._count, reduce_op="mean")
        self._count, self._sum = 0, torch.zeros_like(self._sum)
        pl_module.log("loss_d_mean", mean)
        if mean < self.below:
            trainer.should_stop = True
            rank_zero_info(
                f"stopped at step {trainer.global_step}: the discriminator's loss over {self.window} batches "
                f"is {mean.item():.4g}, below {self.below:g}"
            )

    def state_dict(self) -> dict[str, Any]:
        """The window so far."""
        return {"count": self._count, "sum": self._sum.cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the window."""
        self._count, self._sum = state_dict["count"], state_dict["sum"]
