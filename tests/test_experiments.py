"""Every experiment starts on a folder of 512-pixel images that the user names."""

import csv
import json
import math
import re
from pathlib import Path

import pytest

from tests.cli.program import run, write_images

ROOT = Path(__file__).parents[1] / "experiments"
PIECES = sorted((ROOT / "pieces").glob("*.yaml"))
EXPERIMENTS = sorted(path for path in ROOT.rglob("*.yaml") if path not in PIECES)
# Narrow networks, small batches: what is tested is that the file fits the program, not that it trains well.
NARROW = {
    "stylegan2": [
        *("--data.resolution=32", "--model.generator.resolution=32", "--model.discriminator.resolution=32"),
        *("--model.generator.channel_max=8", "--model.discriminator.channel_max=8"),
        *("--model.generator.mapping_layers=2", "--model.discriminator.mapping_layers=2"),
    ]
}
DCGAN = ["--model.generator.base_channels=4", "--model.discriminator.base_channels=4"]
SMALL = (
    "--data.batch_size=2",
    *("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.check_val_every_n_epoch=null"),
    *("--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"),
    *("--trainer.enable_model_summary=false", "--scores.num_samples=8", "--scores.untrained=false"),
)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "512", count=8, size=512)


# Files that are laid over one another have tests of their own.
TOGETHER = ("width_wise", "adafm", "fastgan", "slimgan", "multi_domain", "sweeps", "data")
ALONE = [path for path in EXPERIMENTS if path.parent.name not in TOGETHER]


@pytest.mark.parametrize("experiment", ALONE, ids=lambda path: str(path.relative_to(ROOT)))
def test_experiment_starts(
    experiment: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    narrow = NARROW.get(experiment.parent.name, DCGAN)
    done = run("fit", "--config", experiment, "--data.path", photos, *SMALL, *narrow)
    assert done.code == 0, done.err
    folder = tmp_path / "runs" / f"{experiment.stem}-001"
    results = json.loads((folder / "results.json").read_text())
    assert (results["status"], results["steps"]) == ("finished", 2)
    assert math.isfinite(results["scores"]["fid_lite"])
    rows = list(csv.DictReader((folder / "csv/version_0/metrics.csv").read_text().splitlines()))
    losses = [float(row[key]) for row in rows for key in ("loss_d", "loss_g") if row[key]]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    assert (folder / "checkpoints/best.ckpt").is_file() and (folder / "checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("piece", PIECES, ids=lambda path: path.name)
def test_every_piece_is_used(piece: Path) -> None:
    named = re.compile(rf": (\.\./)?(pieces/)?{re.escape(piece.name)}$", re.MULTILINE)
    assert any(named.search(path.read_text()) for path in [*EXPERIMENTS, *PIECES])
