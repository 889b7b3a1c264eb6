"""Kill training at random moments, resume it, and compare the final weights with an uninterrupted run.

Every trial starts the real program, sends it a signal at a random moment after training began (mid-epoch,
mid-save, between the players' steps, before a lazy R1), checks that ``last.ckpt`` is whole, resumes with
``--ckpt_path last`` and compares a hash of everything the final checkpoint holds.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import auto_cli

from gansharing.checkpoints import read_checkpoint

CONFIG = """
trainer:
  max_steps: 60
  val_check_interval: 50
  enable_progress_bar: false
  enable_model_summary: false
model:
  class_path: gansharing.setups.Adversarial
  init_args:
    generator:
      class_path: gansharing.networks.SpectralStyleGenerator
      init_args: {resolution: 32, base_channels: 8}
    discriminator:
      class_path: gansharing.networks.DCGANDiscriminator
      init_args: {resolution: 32, base_channels: 8, spectral_norm: middle}
    regularizers:
      - class_path: gansharing.objectives.R1
        init_args: {weight: 1.0, every: 4}
    discriminator_steps: 2
data:
  class_path: gansharing.data.ImageData
  init_args: {path: twemoji, resolution: 32, batch_size: 32, fraction: 0.2, flip: true}
scores: {num_samples: 16, metrics: [kid], untrained: false}
best: {monitor: kid_lite}
resume: {every_n_steps: 3}
"""


def content_hash(path: Path) -> str:
    """sha256 of every tensor and plain value of a checkpoint but the wall-clock ones."""
    checkpoint = read_checkpoint(path)
    checkpoint["callbacks"] = {
        k: v for k, v in checkpoint["callbacks"].items() if k.startswith(("Scores", "GeneratorEMA"))
    }
    digest = hashlib.sha256()
    for key in (
        "state_dict",
        "live_generator",
        "optimizer_states",
        "clock",
        "random_states",
        "averaging_count",
    ):
        _feed(digest, checkpoint[key])
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(value.contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(digest, item)
    else:
        digest.update(repr(value).encode())


def start(run: Path, config: Path, workers: int, resume: bool) -> subprocess.Popen[bytes]:
    """Start the program on ``run``."""
    command = [sys.executable, "-m", "gansharing", "fit", "--config", str(config)]
    command += ["--trainer.default_root_dir", str(run), "--data.num_workers", str(workers)]
    command += ["--ckpt_path", "last"] if resume else []
    # One thread: the sum order of a convolution's gradients may depend on their number.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(run.parent / f"{run.name}.log").open("ab"),
    )


def training_seconds(run: Path, process: subprocess.Popen[bytes]) -> float:
    """Wait for the end; how long it lasted from the first picture (training's start) on."""
    began = wait_for_start(run, process)
    process.wait()
    return time.monotonic() - began


def wait_for_start(run: Path, process: subprocess.Popen[bytes]) -> float:
    """Wait until training begins."""
    while not (run / "images" / "real.png").exists() and process.poll() is None:
        time.sleep(0.005)
    return time.monotonic()


def trial(folder: Path, config: Path, workers: int, kind: int, moment: float) -> dict[str, Any]:
    """One interrupted and resumed run."""
    run = folder / f"trial-{moment:.3f}"
    process = start(run, config, workers, resume=False)
    wait_for_start(run, process)
    time.sleep(moment)
    process.send_signal(kind)
    status = process.wait()
    last = run / "checkpoints" / "last.ckpt"
    saving = any(last.parent.glob(".last.ckpt.partial-*"))
    killed_at = read_checkpoint(last)["global_step"] if last.exists() else None  # raises if it is torn
    start(run, config, workers, resume=True).wait()
    return {
        "moment": round(moment, 3),
        "status": status,
        "mid_save": saving,
        "resumed_from": killed_at,
        "hash": content_hash(last) if last.exists() else None,
    }


def main(
    trials: int = 20,
    workers: list[int] = [0, 2],  # noqa: B006
    signals: list[Literal["SIGKILL", "SIGTERM", "SIGINT"]] = ["SIGKILL"],  # noqa: B006
    seed: int = 0,
    out: str | None = None,
) -> None:
    """Run the trials and print how many ended with the uninterrupted run's weights.

    Args:
        trials: Interrupted runs per signal and number of workers.
        workers: Numbers of loader workers.
        signals: Which signals.
        seed: Of the random moments.
        out: Write the results as JSON here.
    """
    draw, results = random.Random(seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config.yaml"
        config.write_text(CONFIG)
        for count in workers:
            reference = folder / f"reference-{count}"
            seconds = training_seconds(reference, start(reference, config, count, resume=False))
            expected = content_hash(reference / "checkpoints" / "last.ckpt")
            for kind in signals:
                rows = [
                    trial(folder, config, count, getattr(signal, kind), draw.uniform(0.0, seconds))
                    for _ in range(trials)
                ]
                equal = sum(row["hash"] == expected for row in rows)
                saves = sum(row["mid_save"] for row in rows)
                outcome = f"{equal} of {trials} equal the uninterrupted run ({saves} killed mid-save)"
                print(f"{kind}, {count} workers: {outcome}")
                results.append(
                    {"signal": kind, "workers": count, "equal": equal, "trials": trials, "rows": rows}
                )
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")
    if any(result["equal"] != result["trials"] for result in results):
        raise SystemExit("a resumed run differs from the uninterrupted one")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
