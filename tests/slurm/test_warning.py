"""SLURM's warning, SIGUSR1, in training: taken at the end of a batch, held until then, left to no worker."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment

from gansharing.callbacks import TrainingStopped
from gansharing.checkpoints import read_checkpoint
from tests.callbacks.test_resume import Signal, assert_equal, run
from tests.cli.program import TINY, write_images
from tests.cli.program import run as program

LAST = "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images", count=22)


@pytest.fixture
def _blocked() -> Iterator[None]:
    """As the batch script starts the program; and what is still waiting at the end is taken."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    yield
    if signal.SIGUSR1 in signal.sigpending():
        signal.sigwait({signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_ends_in_a_checkpoint_that_resumes_to_the_same(
    tmp_path: Path, folder: Path, workers: int, _blocked: None
) -> None:
    handler = signal.getsignal(signal.SIGUSR1)
    run(tmp_path / "whole", folder)
    with pytest.raises(TrainingStopped) as stopped:
        run(tmp_path / "cut", folder, extra=[Signal(signal.SIGUSR1, 4)], num_workers=workers)
    assert stopped.value.code == 138
    assert read_checkpoint(tmp_path / "cut" / LAST)["global_step"] == 4
    run(tmp_path / "cut", folder, resume=tmp_path / "cut" / LAST)
    whole, cut = (read_checkpoint(tmp_path / name / LAST)["state_dict"] for name in ("whole", "cut"))
    assert_equal(whole, cut)
    assert signal.getsignal(signal.SIGUSR1) == handler
    assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_one_that_comes_before_training_waits_for_it(tmp_path: Path, folder: Path, _blocked: None) -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # during imports
    with pytest.raises(TrainingStopped) as stopped:
        run(tmp_path, folder)
    assert stopped.value.code == 138
    assert read_checkpoint(tmp_path / LAST)["clock"]["batches"] == 1


class AfterTheEnd(Callback):
    """A warning when training is over and the program is still writing."""

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)


def test_one_that_comes_after_the_end_spoils_nothing(tmp_path: Path, folder: Path, _blocked: None) -> None:
    run(tmp_path, folder, extra=[AfterTheEnd()])
    assert read_checkpoint(tmp_path / LAST)["global_step"] == 9
    assert signal.SIGUSR1 in signal.sigpending()


class Environments(Callback):
    """Remembers where the trainer believes to be."""

    seen: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.seen.append(trainer._accelerator_connector.cluster_environment)


def test_lightning_finds_its_rank_but_leaves_requeueing_to_the_script(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NTASKS", "NTASKS_PER_NODE", "NNODES", "JOB_ID"):
        monkeypatch.setenv(f"SLURM_{name}", "1")
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "tiny")
    options = ["--data.path", folder, "--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
    options += [f"--trainer.default_root_dir={tmp_path / 'run'}", "--ckpt_path=last"]
    done = program("fit", "--config", TINY, *options, f"--trainer.callbacks+={__name__}.Environments")
    assert done.code == 0, done.err
    (environment,) = Environments.seen
    assert isinstance(environment, SLURMEnvironment) and not environment.auto_requeue
    assert not list(tmp_path.rglob("hpc_ckpt*"))
