"""BigGAN in SlimGAN's experiments, started from their files, shrunk; what they train is cut to a width."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch

import gansharing
from gansharing.networks import BigGANGenerator
from tests.cli.program import run, write_images

FILES = Path(__file__).parents[1] / "experiments" / "slimgan"
G, D = "--model.generator.network", "--model.discriminator.network"
SMALL = {
    "biggan_imagenet": (f"{G}.channels=8", f"{G}.latent_dim=12", f"{G}.embed_dim=6", f"{D}.channels=8"),
    "biggan_cifar10": (f"{G}.channels=8", f"{G}.latent_dim=8", f"{D}.channels=2"),
}


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("cats", "dogs"):
        write_images(folder / name, count=4)
    return folder


@pytest.mark.parametrize("name", SMALL)
def test_a_biggan_of_several_widths_starts(name: str, classes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run(
        *("fit", "--config", FILES / "base.yaml", "--config", FILES / f"{name}.yaml"),
        *("--data.path", classes, "--data.batch_size=2", "--data.reference_split=train"),
        *("--trainer.max_steps=2", "--trainer.val_check_interval=4", "--model.discriminator_steps=1"),
        *("--trainer.check_val_every_n_epoch=null", "--trainer.log_every_n_steps=1", "--grids.rows=1"),
        *("--scores.num_samples=4", "--scores.untrained=false", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *(f"--trainer.default_root_dir={folder}", *SMALL[name]),
    )
    assert done.code == 0, done.err
    assert json.loads((folder / "results.json").read_text())["steps"] == 2
    rows = list(csv.DictReader((folder / "csv/version_0/metrics.csv").read_text().splitlines()))
    values = [float(v) for row in rows for key, v in row.items() if key.startswith("loss") and v]
    assert len(values) >= 4 and all(map(math.isfinite, values))
    done = run("export", folder, "--width=0.5", "--out", tmp_path / "half.safetensors")
    assert done.code == 0, done.err
    half = gansharing.load(tmp_path / "half.safetensors")
    assert isinstance(half, BigGANGenerator) and half.channels == 4
    images = half(half.sample_latent(2), torch.tensor([0, 1]))
    assert images.shape[-1] == half.resolution and images.isfinite().all()
