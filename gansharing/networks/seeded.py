"""Latents that depend on a seed alone: not on the batch they are drawn in, nor on the process that draws."""

from collections.abc import Iterable

import torch
from torch import Tensor

from gansharing.networks.base import Generator


def seeded_latents(generator: Generator, seeds: Iterable[int]) -> Tensor:
    """One latent per seed, from the generator's own prior.

    Args:
        generator: The network whose ``sample_latent`` is asked.
        seeds: Non-negative integers.

    Returns:
        ``(N, ...)`` as ``generator.sample_latent(N)`` gives; torch's global random state is untouched.
    """
    source = torch.Generator()
    return torch.cat([generator.sample_latent(1, source.manual_seed(seed)) for seed in seeds])


def seeded_labels(generator: Generator, seeds: Iterable[int]) -> Tensor | None:
    """One class index per seed, ``seed`` modulo the number of classes; None for a network without classes."""
    if not generator.classes:
        return None
    where = next(generator.parameters()).device
    return torch.tensor([seed % generator.classes for seed in seeds], device=where)
