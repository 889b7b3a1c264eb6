"""Exponential moving average of the generator, by Lightning's weight-averaging callback."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

_PREFIX = "generator."
_LIVE = "live_generator"


class GeneratorEMA(WeightAveraging):
    """Average the generator's weights; validate, sample and checkpoint the averaged ones.

    In a checkpoint ``state_dict`` holds the averaged generator, ``live_generator`` the one being trained.

    Args:
        decay: Weight of the past per generator step. 0 turns averaging off.
        rampup: Cap the half-life at this fraction of the steps taken, so that early averages follow quickly
            (StyleGAN2-ADA's ``ema_rampup``); ``null`` for a constant decay.
        use_buffers: Average buffers such as batch-norm statistics too; without it the averaged generator
            carries the live network's.
    """

    def __init__(self, decay: float = 0.999, rampup: float | None = 0.05, use_buffers: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema.decay must be in [0, 1), not {decay}")
        super().__init__(use_buffers=use_buffers, multi_avg_fn=self._average)
        self.decay, self.rampup = decay, rampup

    def decay_at(self, step: int) -> float:
        """Decay after ``step`` generator steps: ``0.5 ** (1 / min(half-life, rampup * step))``."""
        if self.decay == 0 or self.rampup is None:
            return self.decay
        half_life = -1 / torch.log2(torch.tensor(self.decay, dtype=torch.float64)).item()
        return 0.5 ** (1 / max(min(half_life, self.rampup * step), 1e-8))

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        weight = 1 - self.decay_at(int(count) + 1)
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Copy the generator when training begins."""
        if stage == "fit":
            pl_module.deal(trainer)
            self._average_model = AveragedModel(
                pl_module.generator, device=pl_module.device, use_buffers=self._use_buffers, **self._kwargs
            )

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Average in the precision that the strategy has given the generator since."""
        super().on_train_start(trainer, pl_module)
        if self._average_model is not None:
            self._average_model.to(next(pl_module.generator.parameters()).dtype)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after a generator step."""
        super().on_train_batch_end(trainer, pl_module.generator, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Nothing is averaged per epoch."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Leave the averaged weights in the module."""
        super().on_train_end(trainer, pl_module.generator)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Swap the averaged weights in."""
        super().on_validation_epoch_start(trainer, pl_module.generator)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Swap the trained weights back."""
        super().on_validation_epoch_end(trainer, pl_module.generator)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Put the averaged generator in ``state_dict`` and the live one beside it."""
        if self._average_model is None:
            return
        state = checkpoint["state_dict"]
        checkpoint[_LIVE] = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
        averaged = {_PREFIX + k: v for k, v in self._average_model.module.state_dict().items()}
        checkpoint["state_dict"] = state | averaged
        checkpoint["averaging_count"] = int(self._average_model.n_averaged)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Restore both generators."""
        if self._average_model is None:
            return
        averaged = {
            k.removeprefix(_PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(_PREFIX)
        }
        self._average_model.module.load_state_dict(averaged)
        self._average_model.n_averaged.fill_(checkpoint.get("averaging_count", 0))
        pl_module.generator.load_state_dict(checkpoint.get(_LIVE, averaged))
