"""Seconds and memory of a SlimGAN iteration at four widths, against the original's way of computing it.

The baseline is algorithm 1 as it stands: every discriminator forward divides by its spectral norms anew, real
images pass the shared stages at every width, generators build graphs in the discriminator's step too,
discriminators take gradients in the generator's, and the distillation keeps the graphs of all widths to its
end. It runs in fp32, channels first, with PyTorch's default Adam. Ours is ``Slimmable`` in a Lightning
trainer with a fused Adam, channels last. ``separate`` are the four widths trained one after the other by
``Adversarial``, each against a discriminator of full width.

An iteration is ``n_dis`` discriminator steps and one generator step. Each measurement is a process of its
own, so its peak memory is its own too; times are processor times, and the ways take turns. The baseline holds
less than the authors' own code does, whose peak stands beside. What bf16 is worth depends on the processor:
the rate of its convolutions is printed first. Beside the times stand what products alone would give.
"""

# isort: off
import gansharing  # noqa: F401  (before lightning: it mends an import of torchvision beside a CPU torch)

# isort: on
import copy
import json
import logging
import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any, Literal

import torch
from jsonargparse import auto_cli
from parts.by_trainer import batch_seconds
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gansharing.networks import SNDCGANDiscriminator, SNDCGANGenerator, SNGANDiscriminator, SNGANGenerator
from gansharing.networks.sngan_layers import DownBlock, FirstDownBlock, halved
from gansharing.objectives import Hinge
from gansharing.setups import Adversarial, Slimmable
from gansharing.slimmable import (
    PerWidthDiscriminator,
    SlimmableGenerator,
    at_width,
    distillation,
    extract,
)

WIDTHS, LAMBDA = (0.25, 0.5, 0.75, 1.0), 20.0
Model = Literal["sndcgan", "sngan"]
# Peak of the authors' code at batch 16 and that of its imports, MiB; another machine, torch 2.15.
ORIGINAL = {"sndcgan": (1147, 528), "sngan": (1581, 528)}
# Networks, discriminator steps, Adam's betas, shared stages: those of experiments/slimgan.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[], Any], int, tuple[float, float], int]] = {
    "sndcgan": (SNDCGANGenerator, SNDCGANDiscriminator, 1, (0.5, 0.999), 4),
    "sngan": (SNGANGenerator, SNGANDiscriminator, 5, (0.0, 0.9), 2),
}


def noise(batch_size: int) -> Tensor:
    """The images of every batch."""
    return torch.rand(batch_size, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def networks(model: Model) -> tuple[SlimmableGenerator, PerWidthDiscriminator]:
    """The same weights in every process."""
    torch.manual_seed(0)
    generator, discriminator, _, _, shared = SETTINGS[model]
    return SlimmableGenerator(generator(), WIDTHS), PerWidthDiscriminator(discriminator(), WIDTHS, shared)


def by_trainer(setup: Adversarial, iterations: int, batch_size: int, precision: Any) -> list[float]:
    """Seconds of each iteration after the first."""
    n_dis = setup.discriminator_steps
    seconds = batch_seconds(setup, [noise(batch_size)] * (iterations * n_dis), precision)[n_dis - 1 :]
    return [sum(seconds[start : start + n_dis]) for start in range(0, len(seconds), n_dis)]


def ours(model: Model, iterations: int, batch_size: int, precision: Any) -> list[float]:
    """The setup, at all widths."""
    _, _, n_dis, betas, _ = SETTINGS[model]

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, 2e-4, betas, fused=True)

    setup = Slimmable(
        *networks(model), distillation=LAMBDA, optimizer_g=adam, optimizer_d=adam, discriminator_steps=n_dis
    )
    return by_trainer(setup, iterations, batch_size, precision)


def separate(model: Model, iterations: int, batch_size: int) -> list[float]:
    """Each width by itself; the sums of the four."""
    _, _, n_dis, betas, _ = SETTINGS[model]

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, 2e-4, betas, fused=True)

    g, _ = networks(model)
    judge = SETTINGS[model][1]()
    rows = []
    for width in WIDTHS:
        alone: Any = extract(g, width)
        setup = Adversarial(
            alone,
            copy.deepcopy(judge),
            Hinge(),
            optimizer_g=adam,
            optimizer_d=adam,
            discriminator_steps=n_dis,
        )
        rows.append(by_trainer(setup, iterations, batch_size, "32-true"))
    return [sum(times) for times in zip(*rows, strict=True)]


def plain_first(block: FirstDownBlock, images: Tensor) -> Tensor:
    """Convolve, then halve."""
    return halved(block.c2(block.c1(images).relu())) + block.c_sc(halved(images))


def plain_down(block: DownBlock, x: Tensor) -> Tensor:
    """Convolve, then halve."""
    x = x.relu()
    branch = block.c2(block.c1(x).relu())
    shortcut = x if block.c_sc is None else block.c_sc(x)
    return halved(branch) + halved(shortcut) if block.down else branch + shortcut


def as_the_original(discriminator: nn.Module) -> None:
    """Spectral norm by the hooks of its day, residual blocks as their equations are written."""
    for module in list(discriminator.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            nn.utils.spectral_norm(module)
        for kind, forward in ((FirstDownBlock, plain_first), (DownBlock, plain_down)):
            if type(module) is kind:
                module.forward = MethodType(forward, module)  # type: ignore[method-assign]


def plain(model: Model, iterations: int, batch_size: int) -> list[float]:
    """Algorithm 1, line by line."""
    (g, d), (_, _, n_dis, betas, _) = networks(model), SETTINGS[model]
    as_the_original(d)
    og, od = (torch.optim.Adam(network.parameters(), 2e-4, betas) for network in (g, d))
    real, loss, seconds = noise(batch_size), Hinge(), []
    for _ in range(iterations):
        began = time.process_time()
        for _ in range(n_dis):
            od.zero_grad()
            for width in WIDTHS:
                with at_width(width):
                    fake = g(g.sample_latent(batch_size)).detach()
                    loss.discriminator(d(real), d(fake)).backward()
            od.step()
        og.zero_grad()
        fixed, images = g.sample_latent(batch_size), []
        for width in WIDTHS:
            with at_width(width):
                loss.generator(d(g(g.sample_latent(batch_size)))).backward()
                images.append(g(fixed))
        (LAMBDA * distillation(images)).backward()
        og.step()
        seconds.append(time.process_time() - began)
    return seconds[1:]


def measure(kind: str, model: Model, iterations: int, batch_size: int) -> dict[str, float]:
    """Median seconds after one iteration to warm up, and peak memory in MiB less that of the imports."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if kind == "plain":
        seconds = plain(model, iterations, batch_size)
    elif kind == "separate":
        seconds = separate(model, iterations, batch_size)
    else:
        precision = "bf16-mixed" if kind == "bf16" else "32-true"
        seconds = ours(model, iterations, batch_size, precision)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "mib": peak / 1024, "own_mib": (peak - before) / 1024}


def conv_rate() -> float:
    """How many times as fast as in fp32 a convolution runs in bf16, channels last and forth and back."""
    torch.set_num_threads(1)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = (
            torch.randn(shape).to(dtype, memory_format=torch.channels_last).requires_grad_(True)
            for shape in ((16, 256, 16, 16), (256, 256, 3, 3))
        )
        taken = []
        for _ in range(6):
            began = time.process_time()
            y = nn.functional.conv2d(x, weight, padding=1)
            y.backward(y.detach())
            taken.append(time.process_time() - began)
        seconds[dtype] = min(taken)
    return seconds[torch.float32] / seconds[torch.bfloat16]


class Products(TorchDispatchMode):
    """Counts those of convolutions and matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        rule = flop_registry.get(func._overloadpacket)
        if rule is not None:
            self.count += rule(*args, **(kwargs or {}), out_val=out)
        return out


def products(model: Model, batch_size: int) -> dict[str, int]:
    """Of one iteration, by way."""
    counts = {}
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(model, 1, batch_size),
        "ours": lambda: ours(model, 1, batch_size, "32-true"),
        "separate": lambda: separate(model, 1, batch_size),
    }
    for name, train in ways.items():
        with Products() as counter:
            train()
        counts[name] = counter.count
    return counts


def apart(*arguments: Any) -> dict[str, float]:
    """:func:`measure` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main(
    models: list[Model] = ["sndcgan", "sngan"],  # noqa: B006
    batch_size: int = 16,
    iterations: int = 5,
    repeats: int = 3,
    out: str | None = None,
) -> None:
    """Print ratios to the original's way: median, lowest and highest.

    Args:
        models: Which networks, at 32 px.
        batch_size: Images a step.
        iterations: Of each process, the first of which is not timed.
        repeats: Turns.
        out: Write the results as JSON here.
    """
    results: dict[str, Any] = {"bf16_convolutions": conv_rate()}
    print(f"this machine's bf16 convolutions run at {results['bf16_convolutions']:.2f}x the rate of fp32's")
    for model in models:
        kinds = ("plain", "ours", "bf16", "separate")
        rows = [{k: apart(k, model, iterations, batch_size) for k in kinds} for _ in range(repeats)]
        count = products(model, batch_size)
        results[model] = {"rows": rows, "products": count}
        for kind in ("ours", "bf16"):
            faster = sorted(row["plain"]["seconds"] / row[kind]["seconds"] for row in rows)
            memory = statistics.median(row[kind]["mib"] / row["plain"]["mib"] for row in rows)
            own = statistics.median(row[kind]["own_mib"] / row["plain"]["own_mib"] for row in rows)
            speed = statistics.median(faster)
            whole, imports = ORIGINAL[model]
            theirs = statistics.median((row[kind]["own_mib"] + imports) / whole for row in rows)
            results[model][kind] = {"speed": speed, "low": faster[0], "high": faster[-1]}
            results[model][kind] |= {"memory": memory, "own_memory": own, "original_memory": theirs}
            print(
                f"{model} {kind}: {speed:.2f}x the original's way ({faster[0]:.2f}-{faster[-1]:.2f}), "
                f"{memory:.2f}x its peak memory ({own:.2f}x without what imports take); with the authors' "
                f"imports {theirs:.2f}x their code's"
            )
        together = sorted(row["ours"]["seconds"] / row["separate"]["seconds"] for row in rows)
        results[model]["together"] = statistics.median(together)
        print(
            f"{model}: four widths together {statistics.median(together):.2f}x the four trained separately "
            f"({together[0]:.2f}-{together[-1]:.2f})"
        )
        shares = count["ours"] / count["separate"], count["plain"] / count["ours"]
        print(f"{model}: by products alone {shares[0]:.2f}x, and {shares[1]:.2f}x the original's speed")
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
