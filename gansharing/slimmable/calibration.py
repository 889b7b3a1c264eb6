"""Statistics of batch norms that nothing has measured, as those of a width that was never trained."""

import torch
from torch import nn

from gansharing.networks.base import Generator
from gansharing.networks.seeded import seeded_latents


@torch.no_grad()
def recalibrate(generator: Generator, samples: int = 1024, batch_size: int = 64) -> Generator:
    """Measure the running statistics of batch norms anew, as Yu and Huang (2019) do for a width in between.

    They become the mean over batches of latents of seeds 0, 1, ..., with labels in turn. Nothing else
    changes, and no random stream moves. Without batch norms there is nothing to do.

    Args:
        generator: In place.
        samples: Latents.
        batch_size: Of them at once.

    Returns:
        The generator, in the mode it was in.
    """
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return generator
    training, momenta = generator.training, [norm.momentum for norm in norms]
    generator.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    classes = max(1, generator.classes)
    for count, start in enumerate(range(0, samples, batch_size), 1):
        seeds = range(start, min(start + batch_size, samples))
        for norm in norms:
            norm.momentum = 1 / count  # the mean of all batches so far
        latents = seeded_latents(generator, seeds).to(next(generator.parameters()))
        generator(latents, torch.tensor(seeds, device=latents.device) % classes)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return generator.train(training)
