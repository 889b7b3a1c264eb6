"""Images per second of ``fit`` against a bare PyTorch loop of the same networks, losses and data.

The bare loop is what one writes by hand: fp32, contiguous weights, no logging, no average, no checkpoints.
``fit`` runs with the program's standing callbacks. Both read the same batches in the same order; the two
and the bf16 fast path take turns, so a machine that slows down slows all of them.
"""

# isort: off
import gansharing  # noqa: F401  (before lightning: it mends an import of torchvision beside a CPU torch)

# isort: on
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import auto_cli
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional as F

from gansharing.augment import DiffAugment
from gansharing.callbacks import GeneratorEMA, Grids, Progress, Report, Resumable, Throughput
from gansharing.data import ImageData
from gansharing.networks import DCGANDiscriminator, DCGANGenerator
from gansharing.objectives import BinaryCrossEntropy
from gansharing.setups import Adversarial

WARM_UP = 4


def adam(parameters: Any) -> torch.optim.Adam:
    """The optimiser of both."""
    return torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))


def data(batch_size: int) -> ImageData:
    """The embedded images at 64 px."""
    return ImageData("twemoji", resolution=64, batch_size=batch_size)


def bare(steps: int, batch_size: int, augment: bool) -> float:
    """Seconds per step of the hand-written loop."""
    torch.manual_seed(0)
    module = data(batch_size)
    module.setup()
    g, d = DCGANGenerator(64), DCGANDiscriminator(64)
    og, od = adam(g.parameters()), adam(d.parameters())
    look: Callable[[torch.Tensor], torch.Tensor] = DiffAugment() if augment else lambda x: x
    began = 0.0
    for step, batch in enumerate(module.train_dataloader()):
        if step == WARM_UP:
            began = time.perf_counter()
        if step == WARM_UP + steps:
            break
        real = (batch["image"].float() / 127.5 - 1).contiguous()
        with torch.no_grad():
            fake = g(torch.randn(len(real), 100))
        loss_d = F.softplus(-d(look(real))).mean() + F.softplus(d(look(fake))).mean()
        od.zero_grad()
        loss_d.backward()
        od.step()
        loss_g = F.softplus(-d(look(g(torch.randn(len(real), 100))))).mean()
        og.zero_grad()
        loss_g.backward()
        og.step()
    return (time.perf_counter() - began) / steps


class Clock(Callback):
    """Times the steps after the warm-up."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began, self.seconds = steps, 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Start after the warm-up, stop at the end."""
        if trainer.global_step == WARM_UP:
            self.began = time.perf_counter()
        if trainer.global_step == WARM_UP + self.steps:
            self.seconds = time.perf_counter() - self.began


def fit(steps: int, batch_size: int, augment: bool, precision: Literal["32-true", "bf16-mixed"]) -> float:
    """Seconds per step of the framework."""
    torch.manual_seed(0)
    clock = Clock(steps)
    setup = Adversarial(
        DCGANGenerator(64),
        DCGANDiscriminator(64),
        loss=BinaryCrossEntropy(),
        augment=DiffAugment() if augment else None,
        optimizer_g=adam,
        optimizer_d=adam,
    )
    with tempfile.TemporaryDirectory() as root:
        Trainer(
            accelerator="cpu",
            precision=precision,
            max_steps=WARM_UP + steps,
            logger=CSVLogger(root, name="csv"),
            callbacks=[clock, GeneratorEMA(), Grids(), Throughput(), Progress(), Resumable(10_000), Report()],
            default_root_dir=root,
            limit_val_batches=0,
            enable_model_summary=False,
            log_every_n_steps=50,
        ).fit(setup, datamodule=data(batch_size))
    return clock.seconds / steps


def main(
    steps: int = 20, repeats: int = 5, batch_size: int = 16, augment: bool = False, out: str | None = None
) -> None:
    """Print images per second and the ratios to the bare fp32 loop: median, lowest and highest.

    Args:
        steps: Timed steps per repeat.
        repeats: Turns of the three.
        batch_size: Images per step.
        augment: DiffAugment in both.
        out: Write the results as JSON here.
    """
    rows: list[dict[str, float]] = []
    for _ in range(repeats):
        by_hand = bare(steps, batch_size, augment)
        exact = fit(steps, batch_size, augment, "32-true")
        fast = fit(steps, batch_size, augment, "bf16-mixed")
        rows.append({"bare": by_hand, "fit": exact, "fit_bf16": fast})
    results: dict[str, Any] = {"threads": torch.get_num_threads(), "batch_size": batch_size, "rows": rows}
    for name in ("fit", "fit_bf16"):
        ratios = sorted(row["bare"] / row[name] for row in rows)
        speed = batch_size / statistics.median(row[name] for row in rows)
        results[name] = {"ratio": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]}
        spread = f"({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"{name}: {statistics.median(ratios):.2f}x bare fp32 {spread}, {speed:.0f} images/s")
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
