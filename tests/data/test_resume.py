"""Lightning and the loader together: whatever batch a run was cut at, the samples go on as if it was not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gansharing.data import ImageData
from tests.data.helpers import fill

# The module below only records.
pytestmark = pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")

COUNT, BATCH, EPOCHS = 14, 4, 3
STEPS = EPOCHS * (COUNT // BATCH)


class Recorder(LightningModule):
    """Takes one manual step a batch, as the setups do, and notes which images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[float]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.seen.append(batch["image"].mean((1, 2, 3)).tolist())
        self.optimizers().step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class SaveEveryBatch(Callback):
    """Checkpoints named after the batches trained on; an epoch's last is saved again after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}-end.ckpt")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def fit(root: Path, data: ImageData, callbacks: Sequence[Callback] = (), **options: Any) -> Recorder:
    model = Recorder()
    resume = options.pop("resume", None)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
        default_root_dir=str(root),
        **({"max_epochs": EPOCHS} | options),
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return model


def run(
    root: Path, workers: int, callbacks: list[Callback], resume: Path | None = None, **limits: Any
) -> Recorder:
    data = ImageData(str(root / "images"), resolution=8, batch_size=BATCH, num_workers=workers)
    return fit(root, data, callbacks, resume=resume, **limits)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "images", [f"{i:02}.png" for i in range(COUNT)])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_from_every_batch_the_samples_are_those_of_the_whole_run(root: Path, workers: int) -> None:
    whole = run(root, workers, [SaveEveryBatch(root)]).seen
    assert len(whole) == STEPS and len({tuple(batch) for batch in whole}) == STEPS
    for step in range(COUNT // BATCH, STEPS, COUNT // BATCH):
        assert run(root, 0, [], root / f"{step}-end.ckpt").seen == whole[step:], f"cut after epoch at {step}"
    for step in range(1, STEPS):
        resumed = run(root, workers if step % 3 == 0 else 0, [], root / f"{step}.ckpt")
        assert resumed.seen == whole[step:], f"cut after batch {step}"


@pytest.mark.parametrize(
    "limits",
    [
        {"limit_train_batches": 2},
        {"max_epochs": -1, "max_steps": 7},
        {"reload_dataloaders_every_n_epochs": 1},
    ],
)
def test_so_they_are_where_the_trainer_limits_or_reloads(root: Path, limits: dict[str, int]) -> None:
    whole = run(root, 0, [SaveEveryBatch(root)], **limits).seen
    assert len({tuple(batch) for batch in whole}) == len(whole)
    checkpoints = [path for path in root.glob("*.ckpt") if int(path.stem.removesuffix("-end")) < len(whole)]
    assert len(checkpoints) > len(whole)
    for path in checkpoints:
        step = int(path.stem.removesuffix("-end"))
        assert run(root, 0, [], path, **limits).seen == whole[step:], f"resumed from {path.name}"


def test_a_second_fit_of_the_same_data_starts_anew(root: Path) -> None:
    data = ImageData(str(root / "images"), resolution=8, batch_size=BATCH)
    first, second = (fit(root, data, max_epochs=1).seen for _ in range(2))
    assert first == second
