"""Seconds of a StyleGAN2 generator step that trains a share of the weights, over one that trains all.

Forward through generator and discriminator, backward, Adam; and the path length step on half the batch. The
ways take turns on one thread, timed by the processor time of this process. Also: numbers in the optimiser.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn import functional as F

from gansharing.networks import StyleGAN2Discriminator, StyleGAN2Generator
from gansharing.sharing import Full, Sharing, WidthWise


class Steps:
    """A generator under a sharing, its optimiser, and the two kinds of steps.

    Args:
        sharing: Which weights are trained.
        discriminator: What the generator is trained against; not trained itself.
        channel_base: Width of the generator.
        batch_size: Images a step.
    """

    def __init__(
        self, sharing: Sharing, discriminator: StyleGAN2Discriminator, channel_base: int, batch_size: int
    ) -> None:
        torch.manual_seed(0)
        self.generator = StyleGAN2Generator(discriminator.resolution, channel_base=channel_base)
        self.discriminator, self.batch_size = discriminator, batch_size
        sharing.apply(self.generator).freeze_shared()
        trained = [p for p in self.generator.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=1e-4, betas=(0.0, 0.99), fused=True)

    def latents(self, count: int) -> Tensor:
        """Latents of the step."""
        return self.generator.sample_latent(count)

    def main(self) -> None:
        """The adversarial step."""
        self.step(F.softplus(-self.discriminator(self.generator(self.latents(self.batch_size)))).mean())

    def path_length(self) -> None:
        """The path length step."""
        ws = self.generator.style(self.latents(max(1, self.batch_size // 2)))
        images = self.generator.synthesis(ws)
        noise = torch.randn_like(images) / images[0, 0].numel() ** 0.5
        (slope,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
        self.step((slope.square().sum(2).mean(1).sqrt() - 1).square().mean())

    def step(self, loss: Tensor) -> None:
        """Backward and Adam."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def held(self) -> int:
        """Numbers in the optimiser's state."""
        states: Any = self.optimizer.state.values()
        return sum(value.numel() for state in states for value in state.values() if value.ndim)


def seconds(function: Callable[[], Any]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def main(
    learn_ratio: float = 0.1,
    resolution: int = 64,
    channel_base: int = 16384,
    batch_size: int = 4,
    repeats: int = 5,
    out: str | None = None,
) -> None:
    """Print the ratio of WidthWise to Full: median, lowest and highest.

    Args:
        learn_ratio: λ of WidthWise.
        resolution: Pixels.
        channel_base: 16384 is configuration E.
        batch_size: Images a step.
        repeats: Turns.
        out: Write the results as JSON here.
    """
    torch.set_num_threads(1)
    discriminator = StyleGAN2Discriminator(resolution, channel_base=channel_base).requires_grad_(False)
    full, width = (
        Steps(s, discriminator, channel_base, batch_size) for s in (Full(), WidthWise(learn_ratio))
    )
    results: dict[str, Any] = {"threads": 1, "batch_size": batch_size, "channel_base": channel_base}
    for name in ("main", "path_length"):
        for way in (full, width):
            getattr(way, name)()
        ratios = []
        for _ in range(repeats):
            ours, theirs = seconds(getattr(width, name)), seconds(getattr(full, name))
            ratios.append(ours / theirs)
        results[name] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        print(f"{name}: {results[name]['median']:.2f}x Full ({min(ratios):.2f}-{max(ratios):.2f}), bar 1.05")
    results["optimizer"] = width.held() / full.held()
    print(f"optimiser state: {results['optimizer']:.2%} of Full's")
    if out:
        Path(out).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
