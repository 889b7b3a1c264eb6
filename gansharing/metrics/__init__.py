"""Scores of generated images: extractors, torchmetrics on shared features, a suite of all of them."""

from gansharing.metrics.consistency import InceptionConsistency
from gansharing.metrics.diversity import Diversity
from gansharing.metrics.domains import DomainSuites
from gansharing.metrics.extractors import FeatureExtractor, Features, build_extractor
from gansharing.metrics.frechet import FrechetDistance
from gansharing.metrics.inception_score import LogitScore
from gansharing.metrics.kernel import KernelDistance
from gansharing.metrics.neighbours import PRDC
from gansharing.metrics.real import RealFeatures, real_features
from gansharing.metrics.suite import ScoreSuite
from gansharing.metrics.widths import WidthSuites

__all__ = [
    "PRDC",
    "Diversity",
    "FeatureExtractor",
    "Features",
    "FrechetDistance",
    "InceptionConsistency",
    "KernelDistance",
    "LogitScore",
    "RealFeatures",
    "DomainSuites",
    "ScoreSuite",
    "WidthSuites",
    "build_extractor",
    "real_features",
]
