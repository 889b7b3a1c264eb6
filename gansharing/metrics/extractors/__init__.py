"""Frozen networks that scores look through: Inception, an embedded EfficientNet-Lite0, DINOv2."""

from pathlib import Path
from typing import Literal

from gansharing.errors import UserError
from gansharing.metrics.extractors.base import FeatureExtractor, Features, Resize
from gansharing.metrics.extractors.dinov2 import DinoExtractor
from gansharing.metrics.extractors.inception import InceptionExtractor
from gansharing.metrics.extractors.lite import LiteExtractor

__all__ = ["ExtractorName", "FeatureExtractor", "Features", "Resize", "build_extractor"]

ExtractorName = Literal["inception", "lite", "dinov2"]


def build_extractor(
    name: ExtractorName = "lite", weights: str | Path | None = None, resize: Resize = "clean"
) -> FeatureExtractor:
    """Make an extractor by name.

    Args:
        name: "inception" for figures that may stand beside a paper's, "dinov2" for FD-DINOv2, "lite" for
            machines without a network.
        weights: a file for "inception" and "dinov2"; None finds or downloads the published weights.
        resize: "clean", or "legacy" for Inception figures made the old way.

    Raises:
        UserError: for an unknown name, an option that the extractor does not have, or weights that
            cannot be had.
    """
    if name == "inception":
        return InceptionExtractor(weights, resize)
    if resize != "clean":
        raise UserError(f"resize: {resize} belongs to the extractor inception only; {name} takes clean")
    if name == "dinov2":
        return DinoExtractor(weights)
    if name == "lite":
        if weights is not None:
            raise UserError(
                "weights: the extractor lite carries its own; leave weights out or choose inception"
            )
        return LiteExtractor()
    raise UserError(f"extractor {name!r} is not known: choose inception, lite or dinov2")
