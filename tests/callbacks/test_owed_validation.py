"""A run stopped between a step's checkpoint and its validation ends as the undisturbed one."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from tests.callbacks.test_resume import NUMBERS
from tests.callbacks.test_run_files import checkpoint, same
from tests.cli.program import TINY, fit, run


class Terminate(Callback):
    """Sends SIGTERM to this process, once in a run's life, at a step or in the validation that follows it."""

    def __init__(self, step: int, when: str, flag: str) -> None:
        self.step, self.when, self.flag = step, when, Path(flag)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._at("step", trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._at("validation", trainer)

    def _at(self, when: str, trainer: Trainer) -> None:
        if when == self.when and trainer.global_step == self.step and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGTERM)


def history(folder: Path) -> list[dict[str, float]]:
    results = json.loads((folder / "results.json").read_text())
    assert results["status"] == "finished"
    assert results["scores"] == results["history"][-1]
    return results["history"]


def logged(folder: Path) -> dict[str, str]:
    """FID by logged step, over the files of all the run's parts."""
    texts = [file.read_text().splitlines() for file in folder.glob("csv/*/metrics.csv")]
    rows = [row for lines in texts for row in csv.DictReader(lines)]
    scored = [row for row in rows if row.get("fid_lite")]
    assert len({row["step"] for row in scored}) == len(scored)
    return {row["step"]: row["fid_lite"] for row in scored}


STEPS = ("--trainer.val_check_interval=2", "--resume.every_n_steps=1")
EPOCHS = ("--trainer.max_steps=-1", "--trainer.max_epochs=2", "--trainer.val_check_interval=null")


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    folders = {}
    for options in (STEPS, EPOCHS):
        folders[options] = tmp_path_factory.mktemp("whole")
        fit(images, *options, "--trainer.default_root_dir", folders[options])
    return folders


@pytest.mark.parametrize(
    ("options", "step", "when"),
    [
        (STEPS, 2, "step"),
        (STEPS, 2, "validation"),
        (STEPS, 4, "step"),
        (STEPS, 4, "validation"),
        (EPOCHS, 10, "step"),
        (EPOCHS, 5, "validation"),
    ],
)
def test_what_a_stop_cut_off_is_made_up_for(
    images: Path,
    tmp_path: Path,
    whole: dict[tuple[str, ...], Path],
    options: tuple[str, ...],
    step: int,
    when: str,
) -> None:
    folder = tmp_path / "run"
    stop = [
        "--trainer.callbacks+=tests.callbacks.test_owed_validation.Terminate",
        f"--trainer.callbacks.step={step}",
        f"--trainer.callbacks.when={when}",
        f"--trainer.callbacks.flag={tmp_path / 'flag'}",
    ]
    args = ["--config", TINY, "--data.path", images, *options, "--trainer.default_root_dir", folder]
    assert run("fit", *args, *stop).code == 128 + signal.SIGTERM
    stopped = json.loads((folder / "results.json").read_text())
    assert (stopped["status"], stopped["steps"]) == ("stopped: TrainingStopped", step)
    assert all(entry["step"] < step for entry in stopped["history"])
    fit(images, *options, "--trainer.default_root_dir", folder, "--ckpt_path=last")

    expected = whole[options]
    assert history(folder) == history(expected)
    assert logged(folder) == logged(expected)
    for picture in (expected / "images").iterdir():
        assert (folder / "images" / picture.name).read_bytes() == picture.read_bytes()
    for name in ("last", "best"):
        mine, other = checkpoint(folder, name), checkpoint(expected, name)
        for key in NUMBERS:
            assert same(mine[key], other[key]), (name, key)


def test_a_finished_run_is_finished(images: Path, tmp_path: Path) -> None:
    """Resuming it trains and scores nothing again."""
    folder = tmp_path / "run"
    fit(images, *STEPS, "--trainer.default_root_dir", folder)
    before = json.loads((folder / "results.json").read_text())
    last = (folder / "checkpoints/last.ckpt").read_bytes()
    done = fit(images, *STEPS, "--trainer.default_root_dir", folder, "--ckpt_path=last")
    after = json.loads((folder / "results.json").read_text())
    assert after["wall_seconds"] >= before.pop("wall_seconds")
    assert {key: after[key] for key in before} == before
    assert (folder / "checkpoints/last.ckpt").read_bytes() == last
    assert not list(folder.glob("csv/version_1/metrics.csv"))
    assert "fid_lite" in done.out
