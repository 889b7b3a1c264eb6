"""What a run leaves behind for people and for tables: results.json and curves.png."""

import json
import platform
import subprocess
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint

from gansharing.callbacks.diversity import Diversity
from gansharing.callbacks.loggers import log_artifact, log_image
from gansharing.callbacks.scores import Scores
from gansharing.callbacks.summary import print_summary
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.visual import curves, read_metrics

_PACKAGES = ("torch", "lightning", "torchmetrics", "torch-fidelity", "kornia", "numpy", "pillow")


class Report(Checkpoint):
    """Write ``results.json`` and ``curves.png`` into the run's folder after every validation and at the end.

    The wall time and the score history continue over resumes. A ``Checkpoint`` to Lightning, listed behind
    :class:`BestCheckpoint`: a score that is in the report has had its consequences.
    """

    def __init__(self) -> None:
        self._seconds_before, self._started = 0.0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock; write the first results, those of the untrained network."""
        self._recall(Path(trainer.default_root_dir) / "results.json", trainer.global_step)
        self._started = time.monotonic()
        self._write(trainer, pl_module, "running")

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the results so far."""
        if trainer.state.fn == "fit":  # type: ignore[attr-defined]
            self._write(trainer, pl_module, "running")
            picture = Path(trainer.default_root_dir) / "curves.png"
            if picture.is_file():  # only where a CSV logger wrote what there is to draw
                log_image(trainer, "curves", picture)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the final results and hand the checkpoints to loggers that keep artifacts."""
        self._write(trainer, pl_module, "finished")
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = Path(trainer.default_root_dir)
            print_summary(folder, self.results(trainer, pl_module, "finished"))
            for name in ("best", "last"):
                log_artifact(
                    trainer, name, "model", Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"
                )

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Say why the run ended."""
        if self._started:
            self._write(trainer, pl_module, f"stopped: {type(exception).__name__}")

    def seconds(self) -> float:
        """Wall time of the training so far, over all its parts."""
        return self._seconds_before + (time.monotonic() - self._started if self._started else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The wall time so far."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the wall time."""
        self._seconds_before = state_dict["seconds"]

    def _recall(self, results: Path, step: int) -> None:
        # What followed the last checkpoint, a validation as a rule, is in the report only.
        with suppress(OSError, ValueError):
            written = json.loads(results.read_text())
            if written["steps"] == step > 0:
                self._seconds_before = max(self._seconds_before, written["wall_seconds"])

    def _write(self, trainer: Trainer, pl_module: Any, status: str) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = Path(trainer.default_root_dir)
        results = self.results(trainer, pl_module, status)
        text = json.dumps(results, indent=2, default=str) + "\n"
        write_atomically(folder / "results.json", lambda file: file.write(text.encode()))
        with suppress(UserError):  # a run that logs neither losses nor FID has no curves
            curves(metric_rows(folder), folder / "curves.png")

    def results(self, trainer: Trainer, pl_module: Any, status: str) -> dict[str, Any]:
        """The run in one dictionary: scores with their protocol, counts, seed, versions, time."""
        scores = next((c for c in trainer.callbacks if isinstance(c, Scores)), None)  # type: ignore[attr-defined]
        history = scores.history if scores else []
        name = scores.fid_name if scores else "fid"
        scored = [entry for entry in history if name in entry]
        watch = next((c for c in trainer.callbacks if isinstance(c, Diversity)), None)  # type: ignore[attr-defined]
        return {
            "status": status,
            "steps": trainer.global_step,
            "images": pl_module.images,
            "wall_seconds": round(self.seconds(), 1),
            "scores": scored[-1] if scored else {},
            "best": min(scored, key=lambda entry: entry[name]) if scored else {},
            "protocol": scores.protocol() if scores else {},
            "diversity": watch.protocol() if watch else {},
            "history": history,
            "parameters": {
                network: sum(p.numel() for p in module.parameters())
                for network, module in pl_module.networks().items()
            },
            "seed": torch.initial_seed(),
            "world_size": trainer.world_size,
            "precision": str(trainer.precision),
            "device": f"{platform.machine()} {pl_module.device}",
            **pl_module.about(),
            "git": git_hash(),
            "versions": {package: version(package) for package in _PACKAGES}
            | {"python": platform.python_version()},
        }


def metric_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of all ``metrics.csv`` of a run, oldest first: a resumed run writes a further file."""
    files = sorted(
        folder.glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])
    )
    return [row for path in files for row in read_metrics(path)]


def git_hash() -> str | None:
    """Commit of the working directory, with ``+`` when it has uncommitted changes; ``None`` outside git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
