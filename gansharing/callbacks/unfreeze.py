"""Weights that join the training later."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from gansharing.errors import UserError


class Unfreeze(Callback):
    """Keep some of the trained weights as they are until a step, from which on they are trained too.

    Zhao et al.'s code (2020) trains the scales and shifts of AdaFM after 10,000 steps. Until then these
    weights get no gradient, and Adam begins their moments and its bias correction at that step. What is
    frozen follows from the step alone, so a resumed run goes on as the uninterrupted one.

    Args:
        at_step: First generator step that trains them; the steps 0 to ``at_step - 1`` do not.
        include: Patterns of the weights' names, such as ``generator.resnet_*``. Names of what a sharing puts
            in place of ``weight`` end in ``parametrizations.weight.original0``, ``original1``, ...
    """

    def __init__(self, at_step: int, include: Sequence[str]) -> None:
        if at_step < 0:
            raise ValueError(f"Unfreeze.at_step is {at_step}; give 0 or more")
        self.at_step, self.include = at_step, tuple(include)
        self._held: list[nn.Parameter] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Freeze, where the step has not come; the optimisers know these weights already.

        Raises:
            UserError: A pattern names nothing that is trained.
        """
        trained = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
        for pattern in self.include:
            if not any(fnmatchcase(name, pattern) for name in trained):
                raise UserError(
                    f"Unfreeze.include: no trained weight is named '{pattern}'; see the checkpoint"
                )
        if trainer.global_step < self.at_step:
            names = [n for n in trained if any(fnmatchcase(n, pattern) for pattern in self.include)]
            self._held = [trained[name].requires_grad_(False) for name in names]
            count = sum(parameter.numel() for parameter in self._held)
            rank_zero_info(f"{count:,} weights are trained from step {self.at_step} on")

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Unfreeze when it is time."""
        if trainer.global_step >= self.at_step:
            self._release()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Leave them as they were found, for another training of the same module."""
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """As at the end."""
        self._release()

    def _release(self) -> None:
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._held = []
