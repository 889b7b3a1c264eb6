"""Weights & Biases without a server: what an offline run holds, read back by wandb's own reader."""

import json
import subprocess
import sys
from pathlib import Path

import wandb

from tests.cli.program import fit


def inspect(folder: Path, *options: str) -> str:
    command = [
        str(Path(sys.executable).with_name("wandb")),
        "leet",
        "inspect",
        "--json",
        *options,
        str(folder),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_an_offline_run_holds_config_scores_pictures_and_checkpoints(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(
        images,
        f"--trainer.default_root_dir={run}",
        *("--trainer.logger=WandbLogger", "--trainer.logger.offline=true", "--trainer.logger.project=test"),
        f"--trainer.logger.save_dir={tmp_path}",
    )
    wandb.finish()
    folder = next((tmp_path / "wandb").glob("offline-run-*"))

    summary = json.loads(inspect(folder, "--summary"))
    assert summary["config"]["model"]["init_args"]["generator"]["init_args"]["base_channels"] == 2
    assert summary["config"]["scores"]["num_samples"] == 8

    records = [json.loads(line) for line in inspect(folder).splitlines()]
    history = json.dumps([record for record in records if record["type"] == "history"])
    scores = json.loads((run / "results.json").read_text())["scores"]
    assert f"{scores['fid_lite']:.6g}"[:5] in history
    for name in (
        "kid_lite",
        "is_lite",
        "precision_lite",
        "loss_g",
        "images_per_second",
        "media/images/samples",
    ):
        assert name in history

    pictures = {path.name.split("_")[0]: path for path in (folder / "files/media/images").iterdir()}
    assert {"real", "samples", "curves"} == pictures.keys()
    assert pictures["samples"].read_bytes() == (run / "images/step_0000004.png").read_bytes()
    assert pictures["real"].read_bytes() == (run / "images/real.png").read_bytes()

    artifacts = [json.dumps(record) for record in records if "artifact" in record["type"]]
    for name in ("best", "last"):
        assert any(f'"{name}-' in text and f"{name}.ckpt" in text and '"model"' in text for text in artifacts)
