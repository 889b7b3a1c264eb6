"""What a run writes: grids, scores, the report, its best checkpoint, what loggers are shown."""

import csv
import json
import math
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gansharing.callbacks import Progress, Throughput
from gansharing.checkpoints import load
from gansharing.networks import DCGANDiscriminator, DCGANGenerator
from gansharing.setups import Adversarial
from tests.cli.program import TINY, fit, run
from tests.support import FixedBatches, quiet_trainer

SCORES = {
    *("fid_lite", "kid_lite", "kid_lite_std", "is_lite", "is_lite_std"),
    *("precision_lite", "recall_lite", "density_lite", "coverage_lite"),
}


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "csv/version_0/metrics.csv").read_text().splitlines()))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# Grids.


def test_tile_i_is_seed_i(finished: Path, tmp_path: Path) -> None:
    assert run("sample", finished / "checkpoints/last.ckpt", "--seeds=0-7", "--out", tmp_path).code == 0
    with Image.open(finished / "images/step_0000004.png") as grid:
        assert grid.size == (4 * 34 - 2, 2 * 34 - 2)
        for seed in range(8):
            left, top = 34 * (seed % 4), 34 * (seed // 4)
            with Image.open(tmp_path / f"seed{seed:07}.png") as image:
                assert grid.crop((left, top, left + 32, top + 32)).tobytes() == image.tobytes()


def test_the_real_grid_shows_the_training_images(finished: Path, images: Path) -> None:
    chosen = [round(39 * tile / 7) for tile in range(8)]  # eight of forty, evenly spread
    with Image.open(finished / "images/real.png") as grid:
        for tile, number in enumerate(chosen):
            left, top = 34 * (tile % 4), 34 * (tile // 4)
            with Image.open(images / f"{number:03}.png") as image:
                assert grid.crop((left, top, left + 32, top + 32)).tobytes() == image.tobytes()


def test_one_grid_a_validation(finished: Path) -> None:
    names = sorted(path.name for path in (finished / "images").iterdir())
    assert names == ["real.png", "step_0000002.png", "step_0000004.png"]


# Scores.


def test_scores_are_remembered_and_logged(finished: Path) -> None:
    history = report(finished)["history"]
    assert [(entry["step"], entry["images"]) for entry in history] == [(0, 0), (2, 16), (4, 32)]
    logged = {int(row["step"]): row for row in rows(finished) if row["fid_lite"]}
    for entry in history:
        assert entry.keys() - {"step", "images"} == SCORES
        assert all(map(math.isfinite, entry.values()))
        # Lightning counts steps from nought: the validation after step n is logged at n - 1.
        row = logged[max(entry["step"] - 1, 0)]
        assert float(row["fid_lite"]) == pytest.approx(entry["fid_lite"], rel=1e-5)


def test_scores_can_be_chosen(images: Path, tmp_path: Path) -> None:
    more = ("--scores.metrics=[fid,is]", "--scores.bootstrap=10")
    fit(images, *more, f"--trainer.default_root_dir={tmp_path}/run")
    entry = report(tmp_path / "run")["scores"]
    assert entry.keys() - {"step", "images"} == {
        *("fid_lite", "fid_lite_low", "fid_lite_high", "is_lite", "is_lite_std")
    }
    assert entry["fid_lite_low"] <= entry["fid_lite_high"]


def test_validating_changes_nothing(finished: Path, images: Path, tmp_path: Path) -> None:
    # Flips and augmentation draw from the stream that a validation must leave as it was.
    quiet = ("--trainer.limit_val_batches=0", "--scores.untrained=false", "--model.regularizers+=R1")
    often = ("--trainer.val_check_interval=1", "--scores.untrained=true", "--model.regularizers+=R1")
    for name, more in (("quiet", quiet), ("often", often)):
        fit(images, *more, "--data.flip=true", f"--trainer.default_root_dir={tmp_path / name}")
    a, b = checkpoint(tmp_path / "quiet"), checkpoint(tmp_path / "often")
    for part in ("state_dict", "live_generator", "optimizer_states", "random_states"):
        assert same(a[part], b[part]), part


def test_the_extractor_is_in_no_checkpoint(finished: Path) -> None:
    held = checkpoint(finished)
    assert {key.partition(".")[0] for key in held["state_dict"]} == {"generator", "discriminator"}
    assert (finished / "checkpoints/last.ckpt").stat().st_size < 500_000


# Report.


def test_the_report_says_what_it_took(finished: Path) -> None:
    found = report(finished)
    assert (found["status"], found["steps"], found["images"], found["seed"]) == ("finished", 4, 32, 3)
    assert found["scores"] == found["history"][-1]
    assert found["best"] == min(found["history"], key=lambda entry: entry["fid_lite"])
    protocol = found["protocol"]
    assert (protocol["extractor"], protocol["n_fake"], protocol["n_real"]) == ("lite", 8, 40)
    assert protocol["resize"] == "clean"
    generator = load(finished / "checkpoints/last.ckpt")
    assert found["parameters"]["generator"] == sum(p.numel() for p in generator.parameters())
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["python"] == platform.python_version()
    assert (found["world_size"], found["precision"]) == (1, "32-true")
    assert 0 < found["wall_seconds"] < 120
    assert found["git"] is None or len(found["git"].rstrip("+")) >= 7
    with Image.open(finished / "curves.png") as curves:
        assert curves.format == "PNG" and min(curves.size) > 200


def test_a_resumed_run_goes_on_where_it_was(finished: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished, folder)
    last, best = checkpoint(folder), checkpoint(folder, "best")
    last["callbacks"]["Report"]["seconds"] = 5000.0
    torch.save(last, folder / "checkpoints/last.ckpt")
    best["callbacks"]["BestCheckpoint"]["best_model_score"] = torch.tensor(0.0)
    torch.save(best, folder / "checkpoints/best.ckpt")
    unbeaten = (folder / "checkpoints/best.ckpt").read_bytes()
    more = ("--ckpt_path=last", f"--trainer.default_root_dir={folder}", "--scores.untrained=true")
    fit(images, *more, "--trainer.max_steps=6", "--trainer.val_check_interval=2")
    found = report(folder)
    assert 5000 < found["wall_seconds"] < 5120
    assert (found["steps"], found["images"]) == (6, 48)
    # Both although last.ckpt was written before the validation of its own step.
    assert [entry["step"] for entry in found["history"]] == [0, 2, 4, 6]
    assert found["history"][:3] == report(finished)["history"]
    assert (folder / "checkpoints/best.ckpt").read_bytes() == unbeaten


def test_the_configuration_is_kept_everywhere(finished: Path) -> None:
    text = (finished / "config.yaml").read_text()
    config = yaml.safe_load(text)
    assert checkpoint(finished)["config"] == text
    assert config["model"]["init_args"]["generator"]["init_args"]["base_channels"] == 2
    assert config["scores"]["num_samples"] == 8
    assert (
        config["model"]["init_args"]["discriminator"]["init_args"]["spectral_norm"] == "middle"
    )  # a default


# Best checkpoint.


def test_best_keeps_the_lowest_fid(images: Path, tmp_path: Path) -> None:
    more = (
        "--trainer.val_check_interval=1",
        "--trainer.max_steps=6",
        "--ema.decay=0",
        "--scores.metrics=[fid]",
    )
    hot = ("--model.optimizer_g.lr=0.05", "--model.optimizer_d.lr=0.05")
    fit(images, *more, *hot, f"--trainer.default_root_dir={tmp_path}/run")
    history = report(tmp_path / "run")["history"]
    best = min(history, key=lambda entry: entry["fid_lite"])
    assert best["step"] not in (1, 6), "the test needs a best step between the first and the last"
    assert checkpoint(tmp_path / "run", "best")["global_step"] == best["step"]
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["best.ckpt", "last.ckpt"]


# Progress.


def test_throughput_is_logged_without_the_validation(finished: Path) -> None:
    rates = [float(row["images_per_second"]) for row in rows(finished) if row["images_per_second"]]
    assert len(rates) == 4  # log_every_n_steps 1
    assert all(1 < rate < 100_000 for rate in rates)


def test_the_bar_shows_losses_throughput_and_time_left(tmp_path: Path) -> None:
    shown: list[dict[str, Any]] = []
    bar = Progress(refresh_rate=1)

    class Read(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            shown.append(bar.get_metrics(trainer, pl_module))

    setup = Adversarial(DCGANGenerator(32, 6, 2), DCGANDiscriminator(32, 2))
    options = {"enable_progress_bar": True, "log_every_n_steps": 1, "max_steps": 4}
    quiet_trainer(tmp_path, callbacks=[Throughput(), bar, Read()], **options).fit(setup, FixedBatches())
    assert shown[-1].keys() == {"loss_d", "loss_g", "img/s", "left"}
    assert shown[-1]["left"] == "0:00:00"
    assert int(shown[-1]["img/s"]) > 1


# Loggers.


def test_tensorboard_is_shown_pictures_and_scores(finished: Path) -> None:
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"real", "samples", "curves"}
    assert [event.step for event in events.Images("samples")] == [2, 4]
    grid = events.Images("samples")[-1]
    assert (grid.width, grid.height) == (4 * 34 - 2, 2 * 34 - 2)
    history = report(finished)["history"]
    shown = [event.value for event in events.Scalars("fid_lite")]
    assert shown == pytest.approx([entry["fid_lite"] for entry in history], rel=1e-4)
    assert {"loss_d", "loss_g", "images_per_second"} <= set(events.Tags()["scalars"])


def test_a_run_without_loggers(images: Path, tmp_path: Path) -> None:
    fit(images, "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}/run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"images", "checkpoints", "results.json", "config.yaml"}
    assert not names & {"csv", "tensorboard"}


def test_predictions_lie_in_the_run(finished: Path) -> None:
    done = run("predict", "--ckpt_path", finished / "checkpoints/last.ckpt", "--predictions.seeds=2,40")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (finished / "predictions").glob("seed*")) == [
        "seed0000002.png",
        "seed0000040.png",
    ]


def test_tiny_is_tiny() -> None:
    # The tests of this file stand on it: steps, interval and samples are those that they count with.
    config = yaml.safe_load(TINY.read_text())
    assert config["trainer"]["max_steps"] == 4 and config["data"]["init_args"]["batch_size"] == 8
