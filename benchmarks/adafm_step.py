"""CPU seconds and memory of a training iteration of Zhao et al.'s transfer against a plain implementation.

"Our" at full width: the small head before a source's general part with scaled and shifted filters, against
a discriminator with frozen lower groups (D2), G - average - D on the same fakes, R1 in every step. The
baseline takes each step as the equations are written, in fp32 with PyTorch's default Adam: scales and shifts
repeated to the filters' size, three passes back through the discriminator on real images, the fakes scored
anew. Ours is the project's own training step, with the program's average and the experiments' Adam, which
keeps no first moment. Weights, latents and noise are the same, and the losses of the first two iterations are
compared.

Each measurement is a process of its own, so its peak memory is its own too; baseline and ours take turns.
"""

# isort: off
import gansharing  # noqa: F401  (before lightning: it mends an import of torchvision beside a CPU torch)

# isort: on
import copy
import json
import multiprocessing
import resource
import statistics
import time
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from jsonargparse import auto_cli
from lightning.pytorch.callbacks import Callback
from parts.by_trainer import batch_seconds
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.callbacks import GeneratorEMA
from gansharing.networks import GPGANDiscriminator, SmallHeadGenerator
from gansharing.objectives import R1, R2, BinaryCrossEntropy, Regularizer
from gansharing.optimizers import MomentumFreeAdam
from gansharing.setups import Adversarial
from gansharing.sharing import AdaFM, Combined, FreezeLower
from gansharing.sharing.adafm import Modulated

Losses = dict[str, float]


def networks(latent_dim: int, frozen: int) -> tuple[SmallHeadGenerator, GPGANDiscriminator]:
    """Both at 128 px and full width, divided as experiments/adafm/our.yaml does."""
    torch.manual_seed(0)
    g, d = SmallHeadGenerator(latent_dim=latent_dim), GPGANDiscriminator()
    ours = Combined([AdaFM(include=["resnet_*.conv_[01].weight"]), FreezeLower(4)])
    ours.apply(g).freeze_shared()
    FreezeLower(frozen).apply(d).freeze_shared()
    return g, d


def plain_modulation(self: Modulated, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Scale and shift at the size of the filters."""
    repeats = (1, 1, *weight.shape[2:])
    return weight * gamma.repeat(repeats) + beta.repeat(repeats)


class Plain:
    """The iteration as it is written."""

    def __init__(self, latent_dim: int, frozen: int, fakes: bool) -> None:
        self.g, self.d = networks(latent_dim, frozen)
        for module in self.g.modules():
            if isinstance(module, Modulated):
                module.forward = MethodType(plain_modulation, module)  # type: ignore[method-assign]
        self.average = copy.deepcopy(self.g)
        self.trained: dict[nn.Module, list[nn.Parameter]] = {
            net: [p for p in net.parameters() if p.requires_grad] for net in (self.g, self.d)
        }
        self.adam: dict[nn.Module, torch.optim.Adam] = {
            net: torch.optim.Adam(p, 1e-4, (0.0, 0.99)) for net, p in self.trained.items()
        }
        self.penalised = {"r1", "r2"} if fakes else {"r1"}

    def play(self, net: nn.Module) -> None:
        """Let only ``net`` learn."""
        for other, parameters in self.trained.items():
            for parameter in parameters:
                parameter.requires_grad_(other is net)
        self.adam[net].zero_grad()

    def iterate(self, real: Tensor) -> Losses:
        """One iteration on a batch."""
        latent = self.g.sample_latent(len(real))
        self.play(self.g)
        fake = self.g(latent)
        loss = F.softplus(-self.d(fake)).mean()
        loss.backward()
        self.adam[self.g].step()
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.g.parameters(), strict=True):
                mean.copy_(mean * 0.999 + now * 0.001)
        self.play(self.d)
        losses = {"loss_g": loss.item(), "loss_d": 0.0}
        for name, images, sign in (("r1", real, -1), ("r2", fake, 1)):
            x = images.detach().requires_grad_(True)
            scores = self.d(x)
            loss = F.softplus(sign * scores).mean()
            loss.backward(retain_graph=name in self.penalised)
            losses["loss_d"] += loss.item()
            if name in self.penalised:
                (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
                penalty = 10 * slope.square().flatten(1).sum(1).mean()
                penalty.backward()
                losses[name] = penalty.item()
        self.adam[self.d].step()
        return losses


class Watch(Callback):
    """CPU seconds and losses of every step, averages included."""

    def __init__(self) -> None:
        self.losses: list[Losses] = []
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock."""
        torch.manual_seed(batch_idx)
        self.began = time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Again."""
        self.seconds.append(time.process_time() - self.began)
        self.losses.append({name: value.item() for name, value in outputs.items()})


def run_ours(batches: list[Tensor], latent_dim: int, frozen: int, fakes: bool) -> Watch:
    """The project's step, by its own trainer."""
    penalties: list[Regularizer] = [R1(20.0, every=1), *([R2(20.0, every=1)] if fakes else [])]
    adam = partial(MomentumFreeAdam, lr=1e-4, betas=(0.0, 0.99))
    setup = Adversarial(
        *networks(latent_dim, frozen),
        loss=BinaryCrossEntropy(),
        regularizers=penalties,
        optimizer_g=adam,
        optimizer_d=adam,
        order="gd",
        share_fakes=True,
    )
    watch = Watch()
    batch_seconds(setup, batches, callbacks=[GeneratorEMA(0.999, rampup=None), watch])
    return watch


def measure(kind: str, batch_size: int, steps: int, *options: Any) -> dict[str, Any]:
    """Median CPU seconds after one step to warm up, losses of the first two steps, peak memory in MiB."""
    torch.set_num_threads(1)
    source = torch.Generator().manual_seed(2)
    batches = [torch.rand(batch_size, 3, 128, 128, generator=source) * 2 - 1 for _ in range(steps + 1)]
    if kind == "ours":
        watch = run_ours(batches, *options)
    else:
        watch, plain = Watch(), Plain(*options)
        for number, images in enumerate(batches):
            torch.manual_seed(number)
            began = time.process_time()
            watch.losses.append(plain.iterate(images))
            watch.seconds.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(watch.seconds[1:]), "losses": watch.losses[:2], "mib": peak}


def apart(*arguments: Any) -> dict[str, Any]:
    """:func:`measure` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main(
    batch_size: int = 4,
    latent_dim: int = 256,
    frozen: int = 2,
    fakes: bool = False,
    steps: int = 2,
    repeats: int = 3,
    out: str | None = None,
) -> None:
    """Print ratios to the plain implementation: median, lowest and highest.

    Args:
        batch_size: Images a step.
        latent_dim: Length of a latent.
        frozen: Frozen groups of the discriminator.
        fakes: The penalty on fakes too, as for 25 images.
        steps: Timed steps per process.
        repeats: Turns of the two.
        out: Write the results as JSON here.
    """
    rows = []
    for _ in range(repeats):
        row = {k: apart(k, batch_size, steps, latent_dim, frozen, fakes) for k in ("plain", "ours")}
        for plain, ours in zip(row["plain"]["losses"], row["ours"]["losses"], strict=True):
            for name, value in plain.items():
                torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)
        rows.append(row)
    faster = sorted(row["plain"]["seconds"] / row["ours"]["seconds"] for row in rows)
    memory = sorted(row["ours"]["mib"] / row["plain"]["mib"] for row in rows)
    speed, share = statistics.median(faster), statistics.median(memory)
    seconds, mib = (statistics.median(row["ours"][key] for row in rows) for key in ("seconds", "mib"))
    print(f"{speed:.2f}x plain fp32 ({faster[0]:.2f}-{faster[-1]:.2f}), {seconds:.1f} CPU-s; bar 1.3")
    print(f"{share:.2f}x its peak memory ({memory[0]:.2f}-{memory[-1]:.2f}), {mib:.0f} MiB; bar 0.8")
    if out:
        results = {"speed": speed, "low": faster[0], "high": faster[-1], "memory": share, "rows": rows}
        Path(out).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
