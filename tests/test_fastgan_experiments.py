"""FastGAN's experiments: the miniature's command, and every file of its tables."""

import csv
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from gansharing.checkpoints import save_network
from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from tests.cli.program import run
from tests.support import experiment

ROOT = Path(__file__).parents[1] / "experiments"
SMALL = (
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_steps=2"),
    *("--trainer.val_check_interval=2", "--trainer.enable_model_summary=false", "--scores.num_samples=16"),
    *("--scores.metrics=[fid]", "--diversity.num_samples=12", "--grids.rows=1", "--data.batch_size=2"),
    *("--model.generator.base_channels=2", "--model.discriminator.base_channels=4"),
)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with experiment("fastgan") as module:
        yield module


def test_the_miniature_trains_seeks_and_draws(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fastgan.py"])
    monkeypatch.setattr(script, "HELD_OUT", 2)
    faces = script.write_faces(tmp_path / "data/faces-11", 11)
    names = ["baseline", "both"]
    for name in names:
        done = run(
            *("fit", "--config", ROOT / "fastgan/mini.yaml", "--data.path", faces, *script.VARIANTS[name]),
            *(*SMALL, f"--trainer.default_root_dir={tmp_path / name}-s0"),
        )
        assert done.code == 0, done.err
    # As a command leaves it that was interrupted after training.
    options: dict[str, Any] = {"seeds": [0], "only": names, "images": 11, "seek_steps": 1}
    script.FastGAN(runs=tmp_path, out=tmp_path / "docs/fastgan.md", **options).make()
    assert [len(list((faces / part).iterdir())) for part in ("train", "val")] == [11, 2]
    sizes = {
        name: json.loads((tmp_path / f"{name}-s0/results.json").read_text())["parameters"] for name in names
    }
    assert sizes["baseline"]["generator"] < sizes["both"]["generator"]
    assert sizes["baseline"]["discriminator"] < sizes["both"]["discriminator"]
    text = (tmp_path / "docs/fastgan.md").read_text()
    assert "| both below baseline |" not in text and "(fastgan_mixing.png)" in text
    sheets = {"samples": (10, 2), "mixing": (7, 5), "held_out": (2, 2)}
    for name, (across, down) in sheets.items():
        with Image.open(tmp_path / f"docs/fastgan_{name}.png") as sheet:
            assert (sheet.width // 64, sheet.height // 64) == (across, down)
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["baseline", "both"]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-s0/**/*") if path.is_file()}
    script.FastGAN(runs=tmp_path, **options).make()  # nothing is trained or sought again
    assert {path: path.stat().st_mtime_ns for path in written} == written
    # In another number of steps they are: the table would mix two kinds of distances.
    script.FastGAN(runs=tmp_path, **(options | {"seek_steps": 2})).make()
    kept = [json.loads((tmp_path / f"{name}-s0/held_out.json").read_text()) for name in names]
    assert [found["steps"] for found in kept] == [2, 2]
    sought = {path for path in written if path.stat().st_mtime_ns != written[path]}
    assert {path.name for path in sought if path.suffix != ".png"} == {"held_out.json"}


def test_the_table_reads_all_seeds(script: ModuleType) -> None:
    def result(value: float, lpips: float) -> dict[str, Any]:
        scores = {"fid_lite": value, "fid_lite_low": value - 2, "fid_lite_high": value + 4}
        watch = {"lpips_lite": lpips, "nearest_real_lite": 0.25}
        return {
            "scores": scores,
            "best": {"fid_lite": value - 1, "step": 40},
            "diversity": {"scores": watch},
            "parameters": {"generator": 1000, "discriminator": 2000},
            "wall_seconds": 90,
        }

    rows = {
        "baseline": [result(30.0 + i, 0.2 + i / 10) for i in range(3)],
        "both": [result(10.0 + i, 0.5) for i in range(3)],
        "skip": [result(10.5 + i, 0.5) for i in range(3)],
    }
    lines = script.table(rows, {"both": 0.125}).splitlines()
    # Student's t of two degrees of freedom: 4.303 * 0.1 / sqrt(3)
    assert "31 ± 1 | 29 – 35 | 30 ± 1 (40, 40, 40) | 0.3 ± 0.1 | 0.05159 – 0.5484 | 0.25 ± 0 | – " in lines[2]
    assert "| 0.125 | 1,000 + 2,000 | 1.5 |" in lines[3]
    assert "| skip below baseline | holds |" in lines
    assert "| both below skip | within seed noise |" in lines


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files with the embedded network in the place of VGG-16, whose weights are not at hand."""
    folder = tmp_path_factory.mktemp("experiments")
    for part in ("fastgan", "pieces", "stylegan2"):
        (folder / part).mkdir()
        for path in (ROOT / part).glob("*.yaml"):
            (folder / part / path.name).write_text(path.read_text().replace("lpips_vgg", "lpips_lite"))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        size = (40, 64) if number % 2 else (64, 48)
        Image.effect_noise(size, 100).convert("RGB").save(folder / f"{number}.png")
    return folder


TINY = (
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_steps=1"),
    *("--trainer.val_check_interval=1", "--trainer.enable_model_summary=false", "--scores.num_samples=4"),
    *("--scores.metrics=[fid]", "--scores.untrained=false", "--grids.rows=1", "--data.batch_size=2"),
    *("--data.resolution=64", "--trainer.log_every_n_steps=1"),
)
NETWORKS = ("--model.generator.resolution=64", "--model.discriminator.resolution=64")
NARROW = (*NETWORKS, "--model.generator.base_channels=2", "--model.discriminator.base_channels=2")
# Laid over official.yaml, and what the discriminator then learns from real images.
LAID: dict[str, set[str]] = {
    "": {"autoencoding"},
    "baseline reproducible": set(),
    "skip many": set(),
    "decode lite": {"autoencoding"},
    "absolute held_out": {"autoencoding"},
    "squared": {"autoencoding"},
    "1024 many ffhq": {"autoencoding"},
    "instances": {"instances"},
    "aspect_ratio": {"aspect_ratio"},
    "instances_autoencoding": {"instances", "autoencoding"},
    "aspect_ratio_autoencoding": {"aspect_ratio", "autoencoding"},
    "all_tasks": {"instances", "aspect_ratio", "autoencoding"},
}


@pytest.mark.parametrize("laid", LAID)
def test_a_cell_of_the_tables_starts(laid: str, files: Path, photos: Path, tmp_path: Path) -> None:
    configs = [files / "fastgan" / f"{name}.yaml" for name in ["official", *laid.split()]]
    words = [word for config in configs for word in ("--config", config)]
    done = run("fit", *words, "--data.path", photos, *TINY, *NARROW, f"--trainer.default_root_dir={tmp_path}")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "results.json").read_text())["status"] == "finished"
    (row,) = [
        row
        for row in csv.DictReader((tmp_path / "csv/version_0/metrics.csv").read_text().splitlines())
        if row["loss_d"]
    ]
    usual = {"loss_d", "loss_d_real", "loss_d_fake", "loss_g"}
    losses = {name: float(value) for name, value in row.items() if name.startswith("loss_")}
    assert losses.keys() == usual | {f"loss_{task}" for task in LAID[laid]}
    assert all(map(math.isfinite, losses.values()))


def test_every_file_is_started() -> None:
    alone = {"official", "mini", "stylegan2", "freezed", "projected"}
    named = {name for laid in LAID for name in laid.split()} | alone
    assert {path.stem for path in (ROOT / "fastgan").glob("*.yaml")} == named


def test_the_peers_start(files: Path, photos: Path, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"resolution": 64, "channel_base": 256, "channel_max": 8}
    generator = StyleGAN2Generator(latent_dim=8, w_dim=8, mapping_layers=2, **sizes)
    save_network(generator, tmp_path / "g.safetensors", "generator")
    save_network(StyleGAN2Discriminator(**sizes), tmp_path / "d.safetensors", "discriminator")
    narrow = [f"--model.{part}.channel_max=8" for part in ("generator", "discriminator")]
    peers = {
        "stylegan2": (["stylegan2/256", "fastgan/stylegan2"], [*NETWORKS, *narrow]),
        "freezed": (
            ["fastgan/freezed"],
            ["--model.source", tmp_path / "g.safetensors"]
            + ["--model.source_discriminator", tmp_path / "d.safetensors"],
        ),
        "projected": (
            ["fastgan/projected"],
            [*NETWORKS, "--model.generator.base_channels=2", "--model.discriminator.feature_size=128"],
        ),
    }
    for name, (laid, options) in peers.items():
        words = [word for path in laid for word in ("--config", files / f"{path}.yaml")]
        folder = f"--trainer.default_root_dir={tmp_path / name}"
        done = run("fit", *words, "--data.path", photos, *TINY, *options, folder)
        assert done.code == 0, done.err
    results = json.loads((tmp_path / "freezed/results.json").read_text())
    assert 0 < results["sharing"]["discriminator"]["learn_ratio"] < 1
