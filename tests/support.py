"""Small stand-ins for data, shared by tests of the training code."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from gansharing.checkpoints import AtomicCheckpointIO
from gansharing.networks import Discriminator

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@contextmanager
def experiment(name: str) -> Iterator[ModuleType]:
    """A script of experiments; inside, it and the processes that it starts find the others beside it."""
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(EXPERIMENTS))


class PlainDiscriminator(Discriminator):
    """Linear, tanh, linear on images of 32 px: no batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.resolution = 32
        self.layer = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(images).flatten()


class FixedBatches:
    """The same ``count`` batches of noise images every epoch."""

    def __init__(self, count: int = 5, batch_size: int = 8, resolution: int = 32) -> None:
        self.count, self.shape = count, (batch_size, 3, resolution, resolution)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number in range(self.count):
            source = torch.Generator().manual_seed(number)
            yield {
                "image": torch.rand(self.shape, generator=source) * 2 - 1,
                "label": torch.zeros(self.shape[0]).long(),
            }


def quiet_trainer(root: Any, **options: Any) -> Trainer:
    """A CPU trainer that writes nothing but what its callbacks write."""
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "max_steps": 4,
        "default_root_dir": str(root),
        "plugins": [AtomicCheckpointIO()],
    }
    if any(type(c).__name__ in ("Resumable", "BestCheckpoint") for c in options.get("callbacks", [])):
        del settings["enable_checkpointing"]
    return Trainer(**(settings | options))
