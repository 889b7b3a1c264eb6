"""The width-wise experiments: Table 1's files on a small source, and the miniature's command."""

import csv
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gansharing.checkpoints import save_network
from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from gansharing.sharing import LayerWise, LowRank, WidthWise
from tests.cli.program import run, write_images
from tests.support import experiment

ROOT = Path(__file__).parents[1] / "experiments"
FILES = ROOT / "width_wise"
STRATEGIES = ["full", "minegan", "layer_10", "layer_1", "width_10", "width_1"]
# The smallest networks of the published shape in which 1 % of a layer is one column.
SIZES: dict[str, Any] = {"resolution": 32, "channel_base": 256, "channel_max": 8}
WIDTH = 100


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ffhq")
    generator = StyleGAN2Generator(latent_dim=WIDTH, w_dim=WIDTH, mapping_layers=8, **SIZES)
    save_network(generator, folder / "g.safetensors", "generator")
    save_network(StyleGAN2Discriminator(**SIZES), folder / "d.safetensors", "discriminator")
    return folder / "g.safetensors", folder / "d.safetensors"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "church", count=8)


@pytest.mark.parametrize(
    ("target", "strategy"), [("church", name) for name in STRATEGIES] + [("metfaces", "width_10")]
)
def test_a_cell_of_table_1_starts(
    target: str, strategy: str, pair: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    done = run(
        *("fit", "--config", FILES / f"ffhq_{target}.yaml", "--config", FILES / f"{strategy}.yaml"),
        *("--model.source", pair[0], "--model.source_discriminator", pair[1], "--data.path", photos),
        *("--data.resolution=32", "--data.batch_size=4", "--trainer.max_steps=1", "--scores.num_samples=4"),
        *("--trainer.val_check_interval=1", "--trainer.log_every_n_steps=1", "--scores.untrained=false"),
        *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--grids.rows=1"),
        *("--trainer.enable_model_summary=false", f"--trainer.default_root_dir={folder}"),
    )
    assert done.code == 0, done.err
    results = json.loads((folder / "results.json").read_text())
    assert results["status"] == "finished" and math.isfinite(results["scores"]["fid_lite"])
    split = results["sharing"]["generator"]
    expected = {
        "full": results["parameters"]["generator"],
        "minegan": 2 * (WIDTH * WIDTH + WIDTH),
        "layer_1": 2 * (WIDTH * WIDTH + WIDTH),
        # four layers; the convolution with its bias, noise strength and affine
        "layer_10": 4 * (WIDTH * WIDTH + WIDTH) + 8 * 8 * 9 + 8 + 1 + WIDTH * 8 + 8,
        # too few channels: columns of the mapping and of the affines (7 convolutions, 4 ToRGB) only
        "width_1": 8 * WIDTH + 11 * 8,
        "width_10": 10 * (8 * WIDTH + 11 * 8),
    }
    assert split["domain"] == expected[strategy]
    assert (folder / "images/step_0000001_transfer.png").is_file()


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with experiment("width_wise") as module:
        yield module


@pytest.mark.parametrize("name", ["mini", "64px"])
def test_budgets_are_matched(script: ModuleType, name: str) -> None:
    scale = script.SCALES[name]
    options = scale.network | scale.generator

    def ratio(sharing: Any) -> float:
        return sharing.apply(StyleGAN2Generator(**options)).learn_ratio

    ten, one = (ratio(WidthWise(share, min_columns=1)) for share in (0.1, 0.01))
    assert ten == pytest.approx(0.1, rel=0.1)
    assert ratio(LayerWise(scale.layers_10)) == pytest.approx(ten, rel=0.05)
    assert ratio(LowRank(scale.rank)) == pytest.approx(ten, rel=0.05)
    # no single stage is smaller: layer-wise has the larger budget
    assert one < ratio(LayerWise(scale.layers_1)) < 2 * one


def test_verdicts(script: ModuleType) -> None:
    low, high, wide = [10.0, 11.0, 12.0], [20.0, 21.0, 22.0], [5.0, 15.0, 40.0]
    assert script.verdict(low, high) == "holds"
    assert script.verdict(high, low) == "the other way round"
    assert script.verdict(low, wide) == "within seed noise"
    assert script.verdict([1.0], [2.0]) == "within seed noise"
    # equal sizes and variances: t = 10 / (1 * sqrt(2/3)) with 4 degrees of freedom
    assert script.significance(low, high) == pytest.approx(0.000254, abs=2e-6)


def result(value: float, domain: int) -> dict[str, Any]:
    return {
        "scores": {"fid_lite": value, "fid_lite_low": value - 2, "fid_lite_high": value + 4},
        "sharing": {"generator": {"domain": domain, "learn_ratio": domain / 1000}},
        "history": [{"step": 0, "fid_lite": 99.0}],
        "wall_seconds": 90,
    }


def test_the_table_marks_the_best_and_what_is_as_good(script: ModuleType, tmp_path: Path) -> None:
    rows = {
        "full": [result(v, 1000) for v in (10.0, 11.0, 12.0)],
        "width_10": [result(v, 100) for v in (10.5, 11.5, 12.5)],
        "layer_10": [result(v, 100) for v in (30.0, 31.0, 32.0)],
    }
    lines = script.table("Near", rows).splitlines()
    assert lines[4] == "| source, untouched | 0 | 0 % | 99 | – | – |"
    assert lines[5] == "| full | 1,000 | 100.00% | 11 ± 1 **best** | 9 – 15 | 1.5 |"
    assert lines[6] == "| width_10 | 100 | 10.00% | 11.5 ± 1 ≈ best | 9.5 – 15.5 | 1.5 |"
    assert lines[7] == "| layer_10 | 100 | 10.00% | 31 ± 1 | 29 – 35 | 1.5 |"
    assert "| width_10 below layer_10 | holds |" in lines
    assert "| full below width_10 | within seed noise |" in lines
    script.write_csv(tmp_path / "runs.csv", {("near", "full", 0): rows["full"][0]})
    (row,) = csv.DictReader((tmp_path / "runs.csv").read_text().splitlines())
    assert (row["strategy"], float(row["fid_lite"]), float(row["low"])) == ("full", 10, 8)


def test_finished_runs_are_kept_and_the_tables_written(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a finished command leaves it: nothing is trained again.
    monkeypatch.setattr(sys, "argv", ["width_wise.py"])
    (tmp_path / "data/letters").mkdir(parents=True)
    for number, name in enumerate(
        ["source", "near-full-s0", "near-full-s1", "near-width_1-s0", "near-width_1-s1"]
    ):
        (tmp_path / name).mkdir()
        content = result(10.0 + number, 10) | {
            "status": "finished",
            "protocol": {},
            "device": "cpu",
            "git": "x",
        }
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    script.WidthWise(
        runs=tmp_path,
        seeds=[0, 1],
        targets=["near"],
        only=["full", "width_1"],
        out=tmp_path / "docs/table.md",
    ).make()
    assert "| width_1 | 10 | 1.00% | 13.5 ± 0.707" in (tmp_path / "docs/table.md").read_text()
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 5


def test_letters_are_drawn_once(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(script, "LETTERS", [0x41, 0x439])
    folder = script.write_letters(tmp_path / "data" / "letters")
    pictures = {path.name: Image.open(path).convert("L").tobytes() for path in folder.glob("*.png")}
    assert len(pictures) == 2 * len(script.FONTS) == len(set(pictures.values()))
    assert all(data[0] == 0 and max(data) > 200 for data in pictures.values())
    assert script.write_letters(folder) == folder
