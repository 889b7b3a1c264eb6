"""Scores of several domains in one validation."""

import statistics
from collections.abc import Mapping

import torch
from torch import Tensor

from gansharing.data.cache import CachedImages
from gansharing.metrics.real import real_features
from gansharing.metrics.suite import ScoreSuite


class DomainSuites:
    """A suite of scores for each domain, against its own real images, through one extractor.

    Args:
        suite: The settings of all; it is the first domain's.
        references: Real images of each domain.
    """

    def __init__(self, suite: ScoreSuite, references: Mapping[str, CachedImages]) -> None:
        self.suites = {
            name: suite if number == 0 else suite.another() for number, name in enumerate(references)
        }
        for name, reference in references.items():
            self.suites[name].set_real(real_features(reference, suite.extractor))

    def reset(self) -> None:
        """Forget the generated images."""
        for suite in self.suites.values():
            suite.reset()

    def update(self, images: Mapping[str, Tensor]) -> None:
        """Look at generated images: of each domain uint8 ``(N, 3, H, W)``."""
        for name, suite in self.suites.items():
            suite.update(images[name])

    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """Scores of each domain, ``fid_lite/NAME``, and under the plain names their means over domains."""
        scores = {name: suite.compute() for name, suite in self.suites.items()}
        keys = next(iter(scores.values())).keys()
        mean = {key: statistics.fmean(own[key] for own in scores.values()) for key in keys}
        return mean | {f"{key}/{name}": value for name, own in scores.items() for key, value in own.items()}
