"""The checkpoint with the lowest FID."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gansharing.callbacks.scores import Scores
from gansharing.checkpoints import read_checkpoint
from gansharing.errors import UserError


class BestCheckpoint(ModelCheckpoint):
    """Keep the checkpoint with the best score as ``checkpoints/best.ckpt``.

    Args:
        monitor: Name of the score; the FID of :class:`Scores` when omitted.
        mode: ``min`` or ``max``.
    """

    def __init__(self, monitor: str | None = None, mode: str = "min") -> None:
        super().__init__(
            filename="best",
            monitor=monitor or "fid",
            mode=mode,
            save_top_k=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._follow_scores = monitor is None

    @property
    def state_key(self) -> str:
        """One best checkpoint a run, whatever it monitors."""
        return type(self).__qualname__

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's folder and the score to follow."""
        self.dirpath = str(Path(trainer.default_root_dir).resolve() / "checkpoints")
        if self._follow_scores:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Scores):
                    if "fid" not in callback.metrics:
                        raise UserError(
                            "the best checkpoint is chosen by FID, which scores.metrics leaves out; "
                            f"add it, or set best.monitor (and best.mode), say to kid{callback.suffix}"
                        )
                    self.monitor = callback.fid_name
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the best score of a resumed run: its last checkpoint was taken before its last validation."""
        super().on_train_start(trainer, pl_module)
        path = Path(self.dirpath or "") / "best.ckpt"
        if trainer.global_step == 0 or not path.is_file():
            return
        best = read_checkpoint(path)
        if best["global_step"] <= trainer.global_step:
            score = best["callbacks"][self.state_key]["best_model_score"]
            self.best_model_path = self.kth_best_model_path = str(path)
            self.best_model_score = self.kth_value = score
            self.best_k_models = {str(path): score}
