"""Kill training anywhere, resume, get the same numbers."""

import random
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gansharing.callbacks.scores import Scores
from gansharing.errors import UserError

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class TrainingStopped(SystemExit):
    """Training ended on a signal, after its checkpoint was written; exit status 128 + signal number."""


class Resumable(Checkpoint):
    """Write ``checkpoints/last.ckpt`` so that a run resumed from it equals the uninterrupted one.

    The checkpoint is taken at the end of a batch, after every other callback has seen it, and carries the
    random states of all processes. It precedes the validation of its own step: a run that was stopped between
    the two makes up for it when it resumes, after the last step too. Validation cannot disturb the training's
    random stream: the states are set back after it. SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 (a scheduler's
    warning, see docs/slurm.md) set a flag; the checkpoint is written at the end of the batch and the program
    exits with status 128 + signal. A second signal interrupts at once; then, as after SIGKILL, the run
    resumes from the last checkpoint on disk. A SIGUSR1 that was blocked before the program started is held
    until training is ready for it. A loss or a weight that is not finite stops the run, named with its step,
    before it can overwrite a good checkpoint.

    Args:
        every_n_steps: Interval in generator steps. The last step always writes one.
        minutes: Write at least this often in wall-clock time.
    """

    def __init__(self, every_n_steps: int = 500, minutes: float = 10.0) -> None:
        if every_n_steps < 1:
            raise ValueError("resume.every_n_steps must be at least 1")
        self.every_n_steps, self.minutes = every_n_steps, minutes
        self._saved_step, self._saved_at = 0, 0.0
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}
        self._mask: set[int] = set()
        self._restored: dict[str, Any] | None = None
        self._owed = False
        self._max_steps: int | None = None
        self._before_validation: dict[str, Any] = {}

    @staticmethod
    def path(trainer: Trainer) -> Path:
        """Where the checkpoint of ``trainer``'s run lies."""
        return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of every process, in the order of ranks; say whether a validation follows."""
        states: list[Any] = [random_state()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            dist.all_gather_object(states, random_state())
        checkpoint["random_states"] = states
        checkpoint["owes_validation"] = not trainer.validating and _owes_validation(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep this process's random state until training starts."""
        states = checkpoint.get("random_states", [])
        if trainer.global_rank < len(states):
            self._restored = states[trainer.global_rank]
        self._owed = checkpoint.get("owes_validation", False)
        if 0 < trainer.max_steps <= checkpoint["global_step"]:
            # Lightning would leave before the first hook: no validation, and no end that callbacks see.
            self._max_steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps = checkpoint["global_step"] + 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random state, stand by for signals, make up for a validation that a stop cut off."""
        if self._restored is not None:
            set_random_state(self._restored)
            self._restored = None
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps = self._max_steps
            self._max_steps = None
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self._take_signals()
        if self._owed and not trainer.strategy.broadcast(_is_scored(trainer)):
            _validate(trainer)
        self._owed = False

    def _take_signals(self) -> None:
        try:
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._on_signal)
        except ValueError:  # not the main thread (a notebook's worker): signals are not ours to take
            return
        self._mask = set(signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1}))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise TrainingStopped(128 + number)
        self._signal = number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when due; leave if a signal asked for it."""
        stop = self._stop_requested(trainer)
        if stop or self._due(trainer):
            self._refuse_nan(trainer, pl_module, outputs)
            trainer.save_checkpoint(self.path(trainer))
            self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if stop:
            raise TrainingStopped(128 + (self._signal or signal.SIGTERM))

    def _stop_requested(self, trainer: Trainer) -> bool:
        # All processes leave at the same batch, whichever was signalled.
        return trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)

    def _due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        if step == self._saved_step:
            return False
        stopping = step == trainer.max_steps or trainer.should_stop
        last = stopping or (trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs)
        late = time.monotonic() - self._saved_at > 60 * self.minutes
        return last or step % self.every_n_steps == 0 or trainer.strategy.broadcast(late)

    @staticmethod
    def _refuse_nan(trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        # A loss may be finite whose step has just made a weight infinite.
        tensors = {**(outputs or {}), **dict(pl_module.named_parameters()), **dict(pl_module.named_buffers())}
        found = (n for n, t in tensors.items() if isinstance(t, torch.Tensor) and not t.isfinite().all())
        name = next(found, None)
        # All processes stop, or none: the checkpoint is written together.
        if trainer.strategy.reduce_boolean_decision(name is not None, all=False):
            where = f"{name} is not finite" if name else "a tensor of another process is not finite"
            raise UserError(
                f"training has diverged at step {trainer.global_step}: {where}; the last good checkpoint is "
                "kept, resume from it with a lower learning rate or precision 32"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the random state."""
        self._before_validation = random_state()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Leave at once on a signal: the last checkpoint on disk resumes to the same numbers."""
        if self._signal is not None and trainer.world_size == 1:
            raise TrainingStopped(128 + self._signal)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the random state back."""
        set_random_state(self._before_validation)

    # Lightning puts its own handlers back after these hooks and before teardown.
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        if self._previous:  # blocked as before: a warning that comes after the end does not spoil it
            signal.pthread_sigmask(signal.SIG_BLOCK, self._mask & {signal.SIGUSR1})
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


def _owes_validation(trainer: Trainer) -> bool:
    """Whether Lightning's epoch loop validates after the batch that ends now."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def _is_scored(trainer: Trainer) -> bool:
    """Whether the report, which is written after everything else that a validation leaves, has this step."""
    scores = (c for c in trainer.callbacks if isinstance(c, Scores))  # type: ignore[attr-defined]
    return any(entry["step"] == trainer.global_step for callback in scores for entry in callback.history)


def _validate(trainer: Trainer) -> None:
    """As Lightning's epoch loop does between two batches."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True


def random_state() -> dict[str, Any]:
    """The random states of torch (CPU and CUDA), NumPy and Python as tensors and plain values."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
