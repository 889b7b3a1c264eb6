"""Scores of a slimmable generator at each of its widths, from one look at the real images."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gansharing.metrics.consistency import InceptionConsistency
from gansharing.metrics.suite import ScoreSuite


class WidthSuites:
    """A suite of scores for each narrower width beside that of the full one, and how alike they all are.

    All look through one extractor, and at one set of real features. No ``nn.Module``, as a suite is none.

    Args:
        full: Of the full width; it has its reference.
        widths: The narrower ones, ascending.
    """

    def __init__(self, full: ScoreSuite, widths: Sequence[float]) -> None:
        self.full = full
        self.suites = {width: full.another() for width in widths}
        device = next(full.extractor.parameters()).device
        self.consistency = InceptionConsistency([*widths, 1.0], full.extractor.suffix).to(device)

    def reset(self) -> None:
        """Forget the generated images of the narrower widths."""
        for suite in self.suites.values():
            suite.reset()
        self.consistency.reset()

    def update(self, narrow: Mapping[float, Tensor], full: Tensor) -> None:
        """Look at the images of the same latents.

        Args:
            narrow: At each width uint8 ``(N, 3, H, W)``.
            full: Features ``(N, D)`` of the full width's, as its suite returned them.
        """
        features = [suite.update(narrow[width]) for width, suite in self.suites.items()]
        self.consistency.update([*features, full])

    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """``fid/0.25`` and so on, with the extractor's suffix (``fid_lite/0.25``); ``mic`` and ``ic``."""
        scores = {
            f"{name}/{width:g}": value
            for width, suite in self.suites.items()
            for name, value in suite.compute().items()
        }
        return scores | {name: float(value) for name, value in self.consistency.compute().items()}
