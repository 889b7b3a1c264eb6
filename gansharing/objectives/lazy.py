"""Regularisers evaluated every few steps, and what that asks of the optimiser.

Lazy regularisation is StyleGAN2's (Karras et al. 2020, "Analyzing and Improving the Image Quality of
StyleGAN", appendix B): a penalty is evaluated in an optimiser step of its own every k steps and then weighs
k times as much. So the optimiser takes (k + 1) / k steps where it took one, and its rates are corrected.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TypeVar

from torch.optim import Optimizer

L = TypeVar("L", bound="Lazy")


class Lazy:
    """What is evaluated every ``every`` steps.

    Args:
        weight: Weight per step.
        every: Interval in steps; 1 makes it part of every step.
    """

    def __init__(self, weight: float, every: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self.weight, self.every = weight, every

    def due(self, step: int) -> bool:
        """Whether it is evaluated at ``step`` (0, 1, ...)."""
        return step % self.every == 0


def with_main_step(regularizers: Iterable[L]) -> list[L]:
    """Those that are part of every main step."""
    return [r for r in regularizers if r.every == 1]


def after_main_step(regularizers: Iterable[L], step: int) -> list[L]:
    """Those due at ``step`` in an optimiser step of their own; all of them share that one step."""
    return [r for r in regularizers if r.every > 1 and r.due(step)]


def main_share(regularizers: Sequence[Lazy]) -> float:
    """Share of the main steps in all steps of the optimiser.

    Returns:
        The appendix's ``c = k / (k + 1)`` for one interval k > 1, 1 without lazy regularisers. With several
        intervals those due at once share a step, so ``c = 1 / (1 + f)`` with f the share of main steps at
        which at least one is due.
    """
    intervals = {r.every for r in regularizers if r.every > 1}
    # Inclusion and exclusion: of all steps 1 / lcm(a, b) are multiples of both a and b.
    due = sum(
        (-1) ** (size + 1) / math.lcm(*chosen)
        for size in range(1, len(intervals) + 1)
        for chosen in combinations(intervals, size)
    )
    return 1 / (1 + due)


def correct_rates(optimizer: Optimizer, share: float) -> None:
    """Make ``1 / share`` steps of ``optimizer`` go as far, and remember as long, as one did.

    The learning rate becomes ``share * lr`` and each of Adam's betas ``beta ** share`` (Karras et al. 2020,
    appendix B). Optimisers without betas keep their other settings.

    Args:
        optimizer: Changed in place.
        share: What :func:`main_share` returns; 1 changes nothing.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * share
        if "betas" in group:
            group["betas"] = tuple(beta**share for beta in group["betas"])
