"""Serving many domains of one StyleGAN2: a batch in which every sample is of another domain.

Three ways to make a batch of images take turns: ``one`` domain for all samples, ``mixed`` by
:class:`~gansharing.sharing.Domains`, and ``grouped``: every sample's whole weights side by side, as
``torch.func.stack_module_state`` lays them out, and grouped convolutions over them; laying them out is not
timed. Then: what is held in memory, how long swapping a delta takes, and 100 domains on one base.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F

from gansharing.networks import StyleGAN2Generator, stylegan2_layers, winograd
from gansharing.sharing import Delta, Domains, WidthWise, apply_delta, delta_of, merged, split_of


def drawn(delta: Delta, seed: int) -> Delta:
    """A domain that has moved away from ``delta``."""
    source = torch.Generator().manual_seed(seed)
    tensors = {k: t + 0.1 * torch.randn(t.shape, generator=source) for k, t in delta.tensors.items()}
    return Delta(delta.config, delta.shared_hash, delta.layout, tensors)


@contextmanager
def library_convolutions() -> Iterator[None]:
    """Convolutions by torch alone: the project's own know nothing of a weight a sample."""
    ours = winograd.conv3x3
    setattr(stylegan2_layers, "conv3x3", lambda x, weight: F.conv2d(x, weight, padding=1))  # noqa: B010
    try:
        yield
    finally:
        setattr(stylegan2_layers, "conv3x3", ours)  # noqa: B010


def grouped(base: StyleGAN2Generator, deltas: list[Delta]) -> Callable[[Tensor], Tensor]:
    """A forward in which every sample has a network of its own."""
    plain: Any = merged(base)
    states = []
    for delta in deltas:
        apply_delta(base, delta)
        states.append({name: tensor.clone() for name, tensor in merged(base).state_dict().items()})
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}

    def one(latent: Tensor, state: dict[str, Tensor]) -> Tensor:
        images: Tensor = functional_call(plain, state, (latent[None],))
        return images[0]

    def forward(latent: Tensor) -> Tensor:
        with library_convolutions():
            return vmap(one)(latent, stacked)

    return forward


def seconds(function: Callable[[], Any]) -> float:
    # Of this process alone, which runs on one thread: other processes' turns do not count.
    began = time.process_time()
    function()
    return time.process_time() - began


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def show(name: str, values: dict[str, float], bar: str) -> None:
    print(f"{name}: {values['median']:.2f} ({values['low']:.2f}-{values['high']:.2f}), bar {bar}")


@torch.inference_mode()
def main(
    domains: int = 16,
    learn_ratio: float = 0.1,
    resolution: int = 64,
    channel_base: int = 16384,
    channel_max: int = 512,
    repeats: int = 5,
    many: int = 100,
    out: str | None = None,
) -> None:
    """Print the ratios, what is held, and the time of a swap: medians, lowest and highest.

    Args:
        domains: Domains, and samples in the batch.
        learn_ratio: λ of WidthWise.
        resolution: Pixels of the StyleGAN2.
        channel_base: Its width; 2048 for a quick look, in which bookkeeping weighs more.
        channel_max: Its most channels.
        repeats: Turns of the three.
        many: Domains of the last measurement.
        out: Write the results as JSON here.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode(False):
        base = StyleGAN2Generator(resolution, channel_base=channel_base, channel_max=channel_max).eval()
        base.requires_grad_(False)
        WidthWise(learn_ratio).apply(base)
        start = delta_of(base)
        deltas = [drawn(start, seed) for seed in range(domains)]
        served = Domains(base, deltas)
        latent, rows = base.sample_latent(domains), torch.randperm(domains)
        by_groups = grouped(base, [deltas[row] for row in rows])
    ways = {
        "one": lambda: base(latent),
        "mixed": lambda: served(latent, rows),
        "grouped": lambda: by_groups(latent),
    }
    difference = (ways["mixed"]() - ways["grouped"]()).abs().max().item()
    turns = [{name: seconds(way) for name, way in ways.items()} for _ in range(repeats)]
    split, theta = split_of(base), sum(p.numel() for p in merged(base).parameters())
    ratio = split.learn_ratio
    swaps = [1e3 * seconds(lambda d=delta: apply_delta(base, d)) for delta in deltas * 2]  # type: ignore[misc]
    results: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "parameters": theta,
        "learn_ratio": ratio,
        "difference": difference,
        "turns": turns,
        "over_one": summary([turn["mixed"] / turn["one"] for turn in turns]),
        "over_grouped": summary([turn["grouped"] / turn["mixed"] for turn in turns]),
        "held": served.numbers() / theta / (1 - ratio + domains * ratio),
        "swap_ms": summary(swaps[1:]),
    }
    print(f"{domains} domains of {theta:,} weights, {ratio:.2%} their own; difference {difference:.1e}")
    show("mixed, times one domain's forward", results["over_one"], "1.2")
    show("mixed, times faster than grouped convolutions", results["over_grouped"], "1.5")
    print(f"weights held, times (1 - λ + Kλ) |θ|: {results['held']:.3f}, bar 1.05")
    show("swap of a delta, ms", results["swap_ms"], "5")
    ways.clear()
    hundred = Domains(base, [deltas[n % domains] if n < domains else drawn(start, n) for n in range(many)])
    chosen = torch.randperm(many)[:domains]
    hundred(latent, chosen)
    taken = [seconds(lambda: hundred(latent, chosen)) / seconds(lambda: base(latent)) for _ in range(repeats)]
    results["many"] = {"domains": many, "numbers": hundred.numbers(), "over_one": summary(taken)}
    held = hundred.numbers() / theta
    show(f"{many} domains ({held:.1f} |θ| held), times one", results["many"]["over_one"], "none")
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
