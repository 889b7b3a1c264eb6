"""How torchmetrics' image metrics are fed with features instead of images."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class Passthrough(nn.Identity):
    """Stands where torchmetrics expects a feature extractor, so that one feature pass serves all metrics.

    Args:
        num_features: D of the (N, D) features that will be given as "images".
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


@contextmanager
def keeping_features() -> Iterator[None]:
    """Silence torchmetrics' warning that features are kept: they are, once, on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"Metric `.*` will save all extracted features", category=UserWarning
        )
        yield
