"""Seconds and memory of a FastGAN training iteration against a plain implementation of the same equations.

An iteration is the original's (Liu et al. 2021, section 3, and what its code adds): the generator once, both
heads augmented each by draws of their own; the discriminator on real images with three reconstructions, then
on the fakes, hinge losses with a margin drawn for each score; the generator against the discriminator just
updated; the average of its parameters. L1 stands for LPIPS, whose weights not everybody has.

The baseline computes every layer as it is written: images are enlarged and then convolved; noise, batch norm
and gate follow one after the other; spectral norm is a hook before each forward; the discriminator's
gradients are computed in the generator's step and thrown away; Adam is PyTorch's default. Ours are the
project's networks, channels-last, and Adam with ``fused=True``. Both start from the same weights and see the
same draws; the losses of the first iteration are compared. ``setup`` is ``SelfSupervised`` as the program
trains it, in Lightning's trainer with the average's callback, its draws its own.

Time is the processor's, of one process in which the ways take turns; each way's peak memory is that of a
process of its own.
"""

# isort: off
import gansharing  # noqa: F401  (before lightning: it mends an import of torchvision beside a CPU torch)

# isort: on
import json
import logging
import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from jsonargparse import auto_cli
from parts.by_trainer import batch_seconds
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from gansharing.augment import DiffAugment
from gansharing.callbacks import GeneratorEMA
from gansharing.networks import FastGANDiscriminator, FastGANGenerator
from gansharing.networks.fastgan_discriminator import ResidualDown
from gansharing.networks.fastgan_layers import Excitation, GatedConv, UpBlock
from gansharing.objectives import AbsoluteError, AutoEncoding
from gansharing.setups import SelfSupervised

POLICY = "color,translation"


def plain_gated(layer: GatedConv, x: Tensor, noise: Any = "none", statistics: Any = "running") -> Tensor:
    """Convolution, noise, batch norm, gate: each step by itself."""
    x = layer.conv(x)
    if layer.noise is not None:
        x = x + layer.noise.strength * torch.randn(len(x), 1, *x.shape[2:])
    x = nn.BatchNorm2d.forward(layer.norm, x)
    value, gate = x.chunk(2, 1)
    return value * torch.sigmoid(gate)


def plain_up(block: UpBlock, x: Tensor, noises: Sequence[Any] = (), statistics: Any = "running") -> Tensor:
    """Enlarge, then convolve."""
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    for gated in block.convs:
        x = gated(x)
    return x


def plain_down(block: ResidualDown, x: Tensor) -> Tensor:
    """Two convolutions, and a pooled one."""
    return (block.main(x) + block.direct(F.avg_pool2d(x, 2))) / 2


def plain_excitation(layer: Excitation, source: Tensor, target: Tensor) -> Tensor:
    """Pool, two convolutions, scale."""
    x = layer.squeeze(F.adaptive_avg_pool2d(source, 4))
    return target * torch.sigmoid(layer.expand(x * torch.sigmoid(x)))


PLAIN: dict[type[nn.Module], Any] = {
    GatedConv: plain_gated,
    UpBlock: plain_up,
    ResidualDown: plain_down,
    Excitation: plain_excitation,
}


def make_plain(network: nn.Module) -> None:
    """Let every layer of ``network`` compute as it is written, spectral norm by the older hook."""
    for module in list(network.modules()):
        if type(module) in PLAIN:
            module.forward = MethodType(PLAIN[type(module)], module)
        if isinstance(module, nn.LeakyReLU):
            module.inplace = False
        if parametrize.is_parametrized(module, "weight"):
            held: Any = module.parametrizations
            u, v = held.weight[0]._u.clone(), held.weight[0]._v.clone()
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            nn.utils.spectral_norm(module)
            module.weight_u.copy_(u)  # type: ignore[operator]
            module.weight_v.copy_(v)  # type: ignore[operator]


class Training:
    """Networks, optimisers and an iteration.

    Args:
        kind: ``plain``, ``ours``, or ``bf16``.
        resolution: Pixels.
        base_channels: Of both networks.
        batch_size: Images.
    """

    def __init__(self, kind: str, resolution: int, base_channels: int, batch_size: int) -> None:
        torch.manual_seed(0)
        self.kind = kind
        self.g = FastGANGenerator(resolution, base_channels=base_channels)
        self.d = FastGANDiscriminator(resolution, base_channels=base_channels)
        for network in (self.g, self.d):
            if kind == "plain":
                make_plain(network)
            else:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = [p.detach().clone() for p in self.g.parameters()]
        self.og, self.od = (
            torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999), fused=kind != "plain")
            for n in (self.g, self.d)
        )
        self.augment = DiffAugment(POLICY)
        torch.manual_seed(1)
        self.real = torch.rand(batch_size, 3, resolution, resolution) * 2 - 1
        self.draws = torch.Generator().manual_seed(1)

    def hinge(self, scores: Tensor) -> Tensor:
        """With a margin of 0.8 to 1 for each score."""
        margin = 0.8 + 0.2 * torch.rand(scores.shape, generator=self.draws)
        return F.relu(margin - scores).mean()

    def step(self) -> list[float]:
        """An iteration.

        Returns:
            Losses: real, reconstruction, fake, the generator's.
        """
        with torch.autocast("cpu", torch.bfloat16, enabled=self.kind == "bf16"):
            heads = self.g.heads(torch.randn(len(self.real), self.g.latent_dim))
        real = self.augment(self.real)
        fakes = tuple(self.augment(head.float()) for head in heads)
        losses = self.discriminator_step(real, tuple(fake.detach() for fake in fakes))
        learns = self.kind == "plain"
        self.d.requires_grad_(learns)
        self.og.zero_grad()
        loss = -self.scores(fakes).mean()
        loss.backward()
        self.d.requires_grad_(True)
        self.og.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.g.parameters()), 0.001)
        return [*losses, loss.item()]

    def scores(self, images: Any) -> Tensor:
        """Of images, or of heads."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.kind == "bf16"):
            scores: Tensor = self.d(images)
        return scores.float()

    def discriminator_step(self, real: Tensor, fakes: Any) -> list[float]:
        """One step on real images with reconstructions, and on fakes."""
        self.od.zero_grad()
        quadrant = int(torch.randint(4, (), generator=self.draws))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.kind == "bf16"):
            scores, rebuilt = self.d.score_and_reconstruct(real, quadrant)
        targets = self.d.targets(real, quadrant)
        reconstruction = sum(
            (F.l1_loss(image.float(), target) for image, target in zip(rebuilt, targets, strict=True)),
            torch.zeros([]),
        )
        loss_real = self.hinge(scores.float())
        (loss_real + reconstruction).backward()
        loss_fake = self.hinge(-self.scores(fakes))
        loss_fake.backward()
        self.od.step()
        return [loss_real.item(), reconstruction.item(), loss_fake.item()]


def by_setup(resolution: int, base_channels: int, batch_size: int, iterations: int = 3) -> float:
    """Seconds of an iteration of the setup, the first not counted."""
    torch.manual_seed(0)

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, 2e-4, (0.5, 0.999), fused=True)

    setup = SelfSupervised(
        FastGANGenerator(resolution, base_channels=base_channels),
        FastGANDiscriminator(resolution, base_channels=base_channels),
        [AutoEncoding(AbsoluteError())],
        optimizer_g=adam,
        optimizer_d=adam,
        augment=DiffAugment(POLICY),
    )
    images = torch.rand(batch_size, 3, resolution, resolution) * 2 - 1
    average = GeneratorEMA(0.999, rampup=None)
    return statistics.median(batch_seconds(setup, [images] * iterations, callbacks=[average]))


def peak(kind: str, resolution: int, base_channels: int, batch_size: int) -> float:
    """MiB that a process of its own needs at most, in two iterations."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (kind, resolution, base_channels, batch_size))


def _peak(kind: str, resolution: int, base_channels: int, batch_size: int) -> float:
    torch.set_num_threads(1)
    if kind == "setup":
        by_setup(resolution, base_channels, batch_size)
    else:
        training = Training(kind, resolution, base_channels, batch_size)
        for _ in range(2):
            training.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def floor(training: Training) -> dict[str, float]:
    """Seconds that an iteration's products would take at this machine's measured rate, and both factors.

    Products are counted in the layers as they are written, by torch's own counter; those that an iteration
    could do without, the discriminator's gradients in the generator's step, are in.
    """
    with FlopCounterMode(display=False) as counter:
        training.step()
    x, weight = torch.randn(4, 256, 32, 32), torch.randn(256, 256, 3, 3)
    x, weight = (t.to(memory_format=torch.channels_last) for t in (x, weight))
    times = [seconds(lambda: F.conv2d(x, weight, padding=1)) for _ in range(9)]
    rate = 2 * 9 * 256 * 256 * 4 * 32 * 32 / min(times)
    operations = counter.get_total_flops()
    return {"gmac": operations / 2e9, "gflop_per_second": rate / 1e9, "seconds": operations / rate}


def seconds(function: Callable[[], Any]) -> float:
    """Processor time."""
    began = time.process_time()
    function()
    return time.process_time() - began


def profiled(training: Training, rows: int = 12) -> list[dict[str, Any]]:
    """What an iteration's time is spent in: operation, calls, share of the time."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        training.step()
    events = sorted(trace.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [{"name": e.key, "calls": e.count, "share": e.self_cpu_time_total / total} for e in events[:rows]]


def main(
    resolution: int = 256,
    base_channels: int = 64,
    batch_size: int = 4,
    repeats: int = 5,
    table: bool = False,
    out: str | None = None,
) -> None:
    """Print ratios to the plain implementation: median, lowest and highest; and the distance to the floor.

    Args:
        resolution: Pixels.
        base_channels: Of both networks.
        batch_size: Images an iteration.
        repeats: Turns.
        table: Print what the time of an iteration is spent in.
        out: Write the results as JSON here.
    """
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    sizes = (resolution, base_channels, batch_size)
    # First of all: a process starts with the peak of the one that starts it.
    memory = {kind: peak(kind, *sizes) for kind in ("plain", "ours", "bf16", "setup")}
    ways = {kind: Training(kind, *sizes) for kind in memory if kind != "setup"}
    losses = {}
    for kind, way in ways.items():
        torch.manual_seed(2)
        losses[kind] = way.step()
    torch.testing.assert_close(
        torch.tensor(losses["ours"]), torch.tensor(losses["plain"]), rtol=1e-2, atol=0.02
    )
    turns = [
        {kind: seconds(way.step) for kind, way in ways.items()} | {"setup": by_setup(*sizes)}
        for _ in range(repeats)
    ]
    results: dict[str, Any] = {"losses": losses, "turns": turns, "mib": memory}
    for kind in ("ours", "bf16", "setup"):
        faster = sorted(turn["plain"] / turn[kind] for turn in turns)
        results[kind] = {"speed": statistics.median(faster), "low": faster[0], "high": faster[-1]}
        results[kind]["memory"] = memory[kind] / memory["plain"]
        print(
            f"{kind}: {results[kind]['speed']:.2f}x plain fp32 ({faster[0]:.2f}-{faster[-1]:.2f}), "
            f"{statistics.median(turn[kind] for turn in turns):.2f} s, "
            f"{results[kind]['memory']:.2f}x its peak memory ({memory[kind]:.0f} MiB)"
        )
    results["floor"] = low = floor(ways["plain"])
    for kind in ways:
        least = statistics.median(turn[kind] for turn in turns)
        print(f"{kind}: {least / low['seconds']:.2f}x the floor", end="; ")
    print(f"{low['gmac']:.0f} GMAC at {low['gflop_per_second']:.0f} GFLOP/s are {low['seconds']:.2f} s")
    if table:
        results["profile"] = {kind: profiled(way) for kind, way in ways.items()}
        for kind, rows in results["profile"].items():
            print(f"\n{kind}")
            for row in rows:
                print(f"{row['share']:6.1%} {row['calls']:6d} {row['name']}")
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
