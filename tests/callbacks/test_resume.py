"""A run resumed from any checkpoint equals the uninterrupted one, bit by bit."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import nn

from gansharing.augment import DiffAugment
from gansharing.callbacks import GeneratorEMA, Resumable, TrainingStopped
from gansharing.callbacks.resume import random_state, set_random_state
from gansharing.checkpoints import read_checkpoint
from gansharing.data import ImageData
from gansharing.errors import UserError
from gansharing.networks import DCGANDiscriminator, SpectralStyleGenerator
from gansharing.objectives import R1, GradientPenalty
from gansharing.setups import Adversarial
from tests.support import quiet_trainer

STEPS = 9
# What of a checkpoint the next steps are made of.
NUMBERS = ("state_dict", "live_generator", "optimizer_states", "clock", "random_states", "global_step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    source = np.random.default_rng(0)
    for number in range(22):
        pixels = source.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{number:02d}.png")
    return path


def run(
    root: Path, folder: Path, resume: Path | None = None, extra: list[Callback] | None = None, **data: Any
) -> Adversarial:
    """Four batches of five images an epoch, so that 18 batches end in the middle of the fifth epoch."""
    torch.manual_seed(3)
    setup = Adversarial(
        SpectralStyleGenerator(32, latent_dim=6, base_channels=2),
        DCGANDiscriminator(32, base_channels=2, spectral_norm="middle"),
        regularizers=[R1(1.0, 3), GradientPenalty(1.0, 2)],
        augment=DiffAugment(),
        discriminator_steps=2,
    )
    callbacks = [GeneratorEMA(0.9), Resumable(every_n_steps=1), *(extra or [])]
    trainer = quiet_trainer(root, max_steps=STEPS, callbacks=callbacks)
    module = ImageData(str(folder), resolution=32, batch_size=5, flip=True, **data)
    trainer.fit(setup, datamodule=module, ckpt_path=str(resume) if resume else None)
    return setup


class KeepAll(Callback):
    """Copies the checkpoint of every step; listed after Resumable among the checkpoint callbacks."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        last = Resumable.path(trainer)
        if last.exists():
            shutil.copy(last, last.parent / f"{trainer.global_step}.ckpt")


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{index}]")
    else:
        assert a == b, where


@pytest.mark.parametrize("drop_last", [True, False])
def test_resuming_from_every_step(tmp_path: Path, folder: Path, drop_last: bool) -> None:
    run(tmp_path / "whole", folder, extra=[KeepAll()], drop_last=drop_last)
    expected = read_checkpoint(tmp_path / "whole/checkpoints/last.ckpt")
    for step in range(1, STEPS):
        root = tmp_path / f"from{step}"
        run(root, folder, resume=tmp_path / f"whole/checkpoints/{step}.ckpt", drop_last=drop_last)
        resumed = read_checkpoint(root / "checkpoints/last.ckpt")
        for key in NUMBERS:
            assert_equal(expected[key], resumed[key], f"from {step}: {key}")


class Signal(Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, number: int, step: int, times: int = 1) -> None:
        self.number, self.step, self.times = number, step, times

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_end_of_the_batch(tmp_path: Path, folder: Path, number: int) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    run(tmp_path / "whole", folder)
    with pytest.raises(TrainingStopped) as stopped:
        run(tmp_path / "cut", folder, extra=[Signal(number, 4)])
    assert stopped.value.code == 128 + number
    last = tmp_path / "cut/checkpoints/last.ckpt"
    assert read_checkpoint(last)["global_step"] == 4
    run(tmp_path / "cut", folder, resume=last)
    assert_equal(
        read_checkpoint(tmp_path / "whole/checkpoints/last.ckpt")["live_generator"],
        read_checkpoint(last)["live_generator"],
    )
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_second_signal_stops_at_once(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(TrainingStopped):
        run(tmp_path, folder, extra=[Signal(signal.SIGINT, 4, times=2)])
    assert read_checkpoint(tmp_path / "checkpoints/last.ckpt")["global_step"] == 4


class Poison(Callback):
    """Makes the generator's weights NaN."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            nn.init.constant_(pl_module.generator.to_rgb.weight, float("nan"))


def test_nan_never_reaches_the_checkpoint(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="diverged"):
        run(tmp_path, folder, extra=[Poison()])
    kept = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    assert kept["global_step"] == 5
    assert all(torch.isfinite(t).all() for t in kept["state_dict"].values())


class Overflow(Callback):
    """A step that leaves a weight infinite, after losses that were finite."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            nn.init.constant_(pl_module.generator.to_rgb.weight, float("inf"))


def test_a_weight_that_overflows_is_named_with_its_step(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"diverged at step 5: generator\.to_rgb\.weight is not finite"):
        run(tmp_path, folder, extra=[Overflow()])
    kept = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    assert kept["global_step"] == 4
    assert all(torch.isfinite(t).all() for t in kept["state_dict"].values())


def test_random_states_go_round() -> None:
    import random

    before = random_state()
    first = torch.rand(3), np.random.rand(3), random.random()
    set_random_state(before)
    second = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(first[0], second[0])
    assert (first[1] == second[1]).all()
    assert first[2] == second[2]
