"""The SlimGAN experiments: Tables 1-5 as configurations that start, and the miniature's command."""

import csv
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from gansharing.checkpoints import load
from gansharing.slimmable import SlimmableGenerator
from tests.cli.program import run, write_images
from tests.test_adafm import made

ROOT = Path(__file__).parents[1] / "experiments"
FILES = ROOT / "slimgan"
# Channels of both networks at which a quarter of the generator's is none at no layer.
SMALLEST = {"dcgan_celeba": 64, "resnet_celeba": 64, "resnet_stl10": 32}
BASES = [f"{net}_{data}" for net in ("dcgan", "resnet") for data in ("cifar10", "stl10", "celeba")]
BASES += ["cgan_cifar10", "cgan_cifar100"]
ABLATIONS = [
    "slimmable_g",
    "no_distillation",
    "naive_distillation",
    "same_d",
    "slimmable_d",
    "distillation_only",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder / "all/test", count=4)
    write_images(folder / "all/train/one", count=4)
    write_images(folder / "all/train/two", count=4)
    return folder / "all"


def start(files: list[str], photos: Path, folder: Path) -> dict[str, Any]:
    """Train one generator step of the files laid over base.yaml, shrunk; the run's results."""
    configs = [part for name in ("base", *files) for part in ("--config", FILES / f"{name}.yaml")]
    channels, alone = SMALLEST.get(files[0], 32), files[-1].startswith("individual")
    inside = "" if alone else ".network"
    done = run(
        *("fit", *configs, "--data.path", photos, "--data.batch_size=2", "--data.reference_split=train"),
        f"--model.generator{inside}.channels={channels}",
        f"--model.discriminator{inside}.channels={channels}",
        *("--trainer.max_steps=1", "--trainer.val_check_interval=5", "--trainer.log_every_n_steps=1"),
        *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.logger=false"),
        *("--trainer.enable_model_summary=false", "--trainer.limit_val_batches=0"),
        *("--scores.untrained=false", f"--trainer.default_root_dir={folder}"),
    )
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    assert (found["status"], found["steps"]) == ("finished", 1)
    return found


@pytest.mark.parametrize("base", BASES)
def test_a_cell_of_table_1_starts(base: str, photos: Path, tmp_path: Path) -> None:
    found = start([base], photos, tmp_path / "run")
    # n_dis of the settings: 5 for ResNet and cGAN-pd, 1 for DCGAN
    assert found["images"] == (2 if base.startswith("dcgan") else 10)
    network = load(tmp_path / "run")
    assert isinstance(network, SlimmableGenerator)
    assert (network.resolution, network.classes) == (
        {"cifar10": 32, "stl10": 48, "celeba": 64, "cifar100": 32}[base.split("_")[1]],
        {"cgan_cifar10": 10, "cgan_cifar100": 100}.get(base, 0),
    )


@pytest.mark.parametrize("overlay", [*ABLATIONS, "naive_bn"])
def test_an_ablation_starts(overlay: str, photos: Path, tmp_path: Path) -> None:
    base = "cgan_cifar10" if overlay == "naive_bn" else "dcgan_cifar10"
    start([base, overlay], photos, tmp_path / "run")
    d: Any = load(tmp_path / "run", "discriminator")
    copies = {"slimmable_g": 4, "same_d": 1, "slimmable_d": 0}.get(overlay, 4)
    assert len(getattr(d, "head", ())) == copies
    assert getattr(d, "n_share", None) == {
        "slimmable_g": 0, "same_d": 7, "slimmable_d": None, "naive_bn": 2
    }.get(overlay, 4)  # fmt: skip


@pytest.mark.parametrize("base", [*BASES, "mini"])
def test_an_individual_network_starts(base: str, photos: Path, tmp_path: Path) -> None:
    start([base, f"individual_{base}"], photos, tmp_path / "run")
    assert not isinstance(load(tmp_path / "run"), SlimmableGenerator)


def settings(*files: str) -> dict[str, Any]:
    """The model's options of files laid over one another."""

    def over(low: Any, high: Any) -> Any:
        both = isinstance(low, dict) and isinstance(high, dict)
        if not both or low.get("class_path") != high.get("class_path", low.get("class_path")):
            return high
        return low | {key: over(low.get(key), value) for key, value in high.items()}

    merged: dict[str, Any] = {}
    for file in ("base", *files):
        merged = over(merged, yaml.safe_load((FILES / f"{file}.yaml").read_text()))
    options: dict[str, Any] = merged["model"]["init_args"]
    return options


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["resnet_cifar10"], 4_282_115),
        (["cgan_cifar10"], 4_312_835),
        (["cgan_cifar100"], 4_589_315),
        (["cgan_cifar10", "naive_bn"], 4_351_235),
        (["cgan_cifar100", "naive_bn"], 5_042_435),
        (["individual_resnet_cifar10"], 368_771),
        (["individual_cgan_cifar10"], 375_683),
        (["individual_cgan_cifar100"], 444_803),
    ],
)
def test_the_counts_of_table_5(files: list[str], expected: int) -> None:
    with torch.device("meta"):
        network = made(settings(*files)["generator"])
    assert sum(p.numel() for p in network.parameters()) == expected


def test_the_published_weights_of_distillation() -> None:
    expected = [20, 10, 20, 20, 30, 20, 10, 20]
    assert [settings(base)["distillation"] for base in BASES] == expected
    assert settings("dcgan_cifar10", "no_distillation")["distillation"] == 0


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location("slimgan_experiment", ROOT / "slimgan.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rows_are_table_4s(script: ModuleType) -> None:
    names = {row: [name for name, _, _ in script.jobs_of(row)] for row in script.ROWS}
    assert names["individual"] == ["individual-0.25", "individual-0.5", "individual-0.75", "individual-1"]
    assert names["individual_f"][-1] == "individual-1" and names["slimgan"] == ["slimgan"]
    assert len(names) == 9  # as many rows as the paper's
    for row in script.ROWS:
        for _, files, options in script.jobs_of(row):
            assert all((FILES / f"{file}.yaml").is_file() for file in files)
            if row == "individual":
                assert len({option.split("=")[1] for option in options}) == 1
            if row == "individual_f":
                assert options[1] == "--model.discriminator.channels=64"
    mini = settings("mini")
    for network in ("generator", "discriminator"):
        assert mini[network]["init_args"]["network"]["init_args"]["channels"] == script.CHANNELS


def result(fids: list[float], mic: float | None) -> dict[str, Any]:
    scores: dict[str, float] = {}
    for fid, suffix in zip(fids, ["/0.25", "/0.5", "/0.75", ""] if len(fids) > 1 else [""], strict=True):
        scores |= {f"fid_lite{suffix}": fid, f"fid_lite_low{suffix}": fid - 1}
        scores |= {f"fid_lite_high{suffix}": fid + 3}
    scores |= {} if mic is None else {"mic_lite": mic}
    about = {"status": "finished", "protocol": {}, "device": "cpu", "git": "x"}
    return {"scores": scores, "wall_seconds": 60} | about


def test_the_table_from_finished_runs(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a finished command leaves it: nothing is trained again.
    monkeypatch.setattr(sys, "argv", ["slimgan.py"])
    runs: dict[str, dict[str, Any]] = {}
    for seed in (0, 1, 2):
        for width, fid in zip((0.25, 0.5, 0.75, 1), (50, 40, 30, 20), strict=True):
            runs[f"individual-{width:g}-s{seed}"] = result([fid + seed], None)
        runs[f"slimgan-s{seed}"] = result([30 + seed, 28 + seed, 26 + seed, 24 + seed], 100 + seed)
        runs[f"shared_d-s{seed}"] = result([35, 33, 30 + seed, 28], 101 + seed)
    for name, content in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    rows = ["individual", "slimgan", "shared_d"]
    script.SlimGAN(runs=tmp_path, only=rows, out=tmp_path / "docs/table.md").make()
    text = (tmp_path / "docs/table.md").read_text()
    assert "| individual | 51 ± 1 | 41 ± 1 | 31 ± 1 | 21 ± 1 | 36 ± 1 | – | 4.0 |" in text
    assert "| slimgan | 31 ± 1 | 29 ± 1 | 27 ± 1 | 25 ± 1 | 28 ± 1 | 101 ± 1 | 1.0 |" in text
    # Student's t with 2 degrees of freedom: 4.3027 / sqrt(3) = 2.484
    assert "| slimgan | 30 – 34 | 28 – 32 | 26 – 30 | 24 – 28 | – | 98.52 – 103.5 |" in text
    assert "| mIC: slimgan below shared_d | within seed noise |" in text
    assert "| FID 0.25x: slimgan below individual | holds |" in text
    assert "| FID AVG: slimgan below individual | holds |" in text
    lines = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert len(lines) == 9 and lines[0]["mIC"] == "" and float(lines[6]["0.25"]) == 30
    with pytest.raises(SystemExit, match="choose from individual"):
        script.SlimGAN(runs=tmp_path, only=["slim"]).make()


def test_the_miniature_trains(
    script: ModuleType, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["slimgan.py"])
    options = f"--data.path={photos} --data.batch_size=2 --scores.num_samples=4 --scores.bootstrap=2"
    options += " --trainer.accelerator=cpu"
    script.SlimGAN(runs=tmp_path, seeds=[0], only=["slimgan"], steps=1, options=options).make()
    found = json.loads((tmp_path / "slimgan-s0/results.json").read_text())
    assert found["status"] == "finished" and math.isfinite(found["scores"]["mic_lite"])
    assert "| slimgan |" in (tmp_path / "table.md").read_text()
