"""Seconds and memory of a StyleGAN2 training iteration against a plain implementation of the same equations.

The baseline computes every layer in the order in which the equations are written: filters of every sample
``[N, O, I, 3, 3]`` for the demodulation, scale - convolve - scale, noise, bias, activation and gain one after
the other, zeros put between pixels before a separate filter. It runs in fp32 with PyTorch's default Adam.
Ours are the project's networks and Adam with ``fused=True``; weights, latents, noise and the order of the
phases are the same, and the losses of the first iteration are compared.

An amortised iteration is G and D step and average, a quarter of a path length step (half the batch), and a
sixteenth of an R1 step. Each measurement is a process of its own, so its peak memory is its own too; baseline
and ours take turns.
"""

import json
import math
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from gansharing.networks.stylegan2_layers import EqualizedConv, EqualizedLinear, Resample, StyledConv, ToRGB

PL_EVERY, R1_EVERY = 4, 16


def plain_filter(x: Tensor, taps: Tensor, padding: tuple[int, int], up: int = 1, down: int = 1) -> Tensor:
    """Zeros between the pixels, padding, filter, every ``down``-th pixel: each step by itself."""
    n, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    x = F.pad(x, (*padding, *padding))
    x = F.conv2d(x, taps.expand(c, 1, 4, 4), groups=c)
    return x[:, :, ::down, ::down]


def plain_activation(x: Tensor, bias: Tensor, gain: float) -> Tensor:
    """Bias, LeakyReLU, gain."""
    x = x + bias.reshape(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x, 0.2) * gain


def plain_linear(layer: EqualizedLinear, x: Tensor) -> Tensor:
    root = math.sqrt(2) if layer.activate else 1.0
    weight, bias = layer.weight * (layer.gain / root), layer.bias * (layer.bias_gain / root)
    if not layer.activate:
        return torch.addmm(bias, x, weight.t())
    return plain_activation(x.matmul(weight.t()), bias, root)


def plain_styled_conv(layer: StyledConv, x: Tensor, w: Tensor, noise: str) -> Tensor:
    styles, n = layer.affine(w), len(w)
    filters = layer.weight[None] * styles.reshape(n, 1, -1, 1, 1)
    demodulation = (filters.square().sum((2, 3, 4)) + 1e-8).rsqrt()
    x = x * styles.reshape(n, -1, 1, 1)
    if layer.resample is None:
        x = F.conv2d(x, layer.weight, padding=1)
    else:
        x = F.conv_transpose2d(x, layer.weight.transpose(0, 1), stride=2)
        x = plain_filter(x, layer.resample.filter, (1, 1))
    x = x * demodulation.reshape(n, -1, 1, 1) + layer.draw(x, noise) * layer.noise_strength
    return plain_activation(x, layer.bias, math.sqrt(2))


def plain_to_rgb(layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
    styles = layer.affine(w) / math.sqrt(x.shape[1])
    return F.conv2d(x * styles.reshape(len(w), -1, 1, 1), layer.weight) + layer.bias.reshape(1, -1, 1, 1)


def plain_conv(layer: EqualizedConv, x: Tensor) -> Tensor:
    root = layer.bias_gain
    weight = layer.weight * (layer.gain / root)
    size = weight.shape[-1]
    if layer.resample is None:
        x = F.conv2d(x, weight, padding=size // 2)
    elif size == 1:
        x = F.conv2d(plain_filter(x, layer.resample.filter, (1, 1), down=2), weight)
    else:
        x = F.conv2d(plain_filter(x, layer.resample.filter, (2, 2)), weight, stride=2)
    return x * root if layer.bias is None else plain_activation(x, layer.bias, root)


def plain_up(layer: Resample, x: Tensor) -> Tensor:
    return plain_filter(x, layer.filter, (2, 1), up=2)


PLAIN: dict[type[nn.Module], Callable[..., Tensor]] = {
    EqualizedLinear: plain_linear,
    StyledConv: plain_styled_conv,
    ToRGB: plain_to_rgb,
    EqualizedConv: plain_conv,
}


def make_plain(network: nn.Module) -> None:
    """Let every layer of ``network`` compute as the equations are written."""
    for module in network.modules():
        if type(module) in PLAIN:
            module.forward = MethodType(PLAIN[type(module)], module)
        if isinstance(module, Resample):
            module.up = MethodType(plain_up, module)  # type: ignore[method-assign]


class Training:
    """Networks, optimisers and the phases of training, after StyleGAN2's section 4 and appendix B."""

    def __init__(self, kind: str, resolution: int, channel_base: int, batch_size: int) -> None:
        torch.manual_seed(0)
        sizes = {"channel_base": channel_base}
        self.g = StyleGAN2Generator(resolution, mixing=0.9, **sizes)
        self.average = StyleGAN2Generator(resolution, **sizes).requires_grad_(False)
        self.average.load_state_dict(self.g.state_dict())
        self.d = StyleGAN2Discriminator(resolution, **sizes)
        if kind == "plain":
            for network in (self.g, self.d):
                make_plain(network)
        self.fast = kind == "bf16"
        if self.fast:
            for network in (self.g, self.average, self.d):
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.og, self.od = (self.adam(n, k, kind) for n, k in ((self.g, PL_EVERY), (self.d, R1_EVERY)))
        self.real = torch.rand(batch_size, 3, resolution, resolution) * 2 - 1
        self.pl_mean = torch.zeros([])

    @staticmethod
    def adam(network: nn.Module, every: int, kind: str) -> torch.optim.Adam:
        """Adam with the learning rate and momentum that lazy regularisation asks for."""
        ratio = every / (every + 1)
        betas = (0.0, 0.99**ratio)
        return torch.optim.Adam(network.parameters(), 0.002 * ratio, betas, fused=kind != "plain")

    def player(self, network: nn.Module) -> None:
        """Let only ``network`` learn."""
        for other in (self.g, self.d):
            other.requires_grad_(other is network)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step and forget the gradients."""
        optimizer.step()
        optimizer.zero_grad()

    def autocast(self) -> torch.autocast:
        """bf16 on the fast path."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.fast)

    def latents(self, count: int) -> Tensor:
        """Normal latents."""
        return torch.randn(count, self.g.latent_dim)

    def main(self) -> tuple[float, float]:
        """G's and D's adversarial steps and the average; both losses."""
        count = len(self.real)
        self.player(self.g)
        with self.autocast():
            loss_g = F.softplus(-self.d(self.g(self.latents(count)))).mean()
        loss_g.backward()
        self.step(self.og)
        self.player(self.d)
        with self.autocast():
            fake = self.g(self.latents(count))
            loss_fake = F.softplus(self.d(fake)).mean()
        loss_fake.backward()
        with self.autocast():
            loss_real = F.softplus(-self.d(self.real)).mean()
        loss_real.backward()
        self.step(self.od)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.g.parameters()), 0.002)
        return loss_g.item(), loss_fake.item() + loss_real.item()

    def path_length(self) -> float:
        """The path length step on half the batch."""
        self.player(self.g)
        with self.autocast():
            ws = self.g.style(self.latents(len(self.real) // 2))
            images = self.g.synthesis(ws)
        noise = torch.randn_like(images) / math.sqrt(images[0, 0].numel())
        (slope,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
        lengths = slope.square().sum(2).mean(1).sqrt()
        mean = self.pl_mean.lerp(lengths.mean(), 0.01)
        self.pl_mean = mean.detach()
        loss = (lengths - mean).square().mean()
        (loss * 2 * PL_EVERY).backward()
        self.step(self.og)
        return loss.item()

    def r1(self) -> float:
        """The R1 step."""
        self.player(self.d)
        real = self.real.clone().requires_grad_(True)
        with self.autocast():
            scores = self.d(real)
        (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        loss = slope.square().sum((1, 2, 3)).mean()
        (loss * (10 / 2 * R1_EVERY)).backward()
        self.step(self.od)
        return loss.item()


def measure(kind: str, resolution: int, channel_base: int, batch_size: int, steps: int) -> dict[str, Any]:
    """Median seconds of each phase after one turn to warm up, losses of that turn, peak memory in MiB."""
    torch.set_num_threads(1)
    training = Training(kind, resolution, channel_base, batch_size)
    phases = (training.main, training.path_length, training.r1)
    result: dict[str, Any] = {"losses": [phase() for phase in phases]}
    for phase in phases:
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            phase()
            seconds.append(time.perf_counter() - began)
        result[phase.__name__] = statistics.median(seconds)
    result["seconds"] = result["main"] + result["path_length"] / PL_EVERY + result["r1"] / R1_EVERY
    result["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def apart(*arguments: Any) -> dict[str, Any]:
    """:func:`measure` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main(
    resolution: int = 64,
    channel_base: int = 16384,
    batch_size: int = 4,
    steps: int = 3,
    repeats: int = 3,
    out: str | None = None,
) -> None:
    """Print ratios to the plain implementation: median, lowest and highest.

    Args:
        resolution: Pixels.
        channel_base: 16384 is configuration E.
        batch_size: Images a step.
        steps: Timed steps of each phase per process.
        repeats: Turns of the three.
        out: Write the results as JSON here.
    """
    rows = []
    for _ in range(repeats):
        sizes = (resolution, channel_base, batch_size, steps)
        row = {kind: apart(kind, *sizes) for kind in ("plain", "ours", "bf16")}
        for plain, ours in zip(row["plain"]["losses"], row["ours"]["losses"], strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(plain), rtol=1e-2, atol=1e-3)
        rows.append(row)
    results: dict[str, Any] = {"resolution": resolution, "channel_base": channel_base, "rows": rows}
    for kind in ("ours", "bf16"):
        faster = sorted(row["plain"]["seconds"] / row[kind]["seconds"] for row in rows)
        memory = statistics.median(row[kind]["mib"] / row["plain"]["mib"] for row in rows)
        median = statistics.median(faster)
        results[kind] = {"speed": median, "low": faster[0], "high": faster[-1], "memory": memory}
        seconds = statistics.median(row[kind]["seconds"] for row in rows)
        spread = f"({faster[0]:.2f}-{faster[-1]:.2f})"
        print(f"{kind}: {median:.2f}x plain fp32 {spread}, {seconds:.2f} s, {memory:.2f}x its peak memory")
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
