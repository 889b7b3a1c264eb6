"""What the two players minimise. Plain PyTorch."""

from gansharing.objectives.losses import (
    AdversarialLoss,
    BinaryCrossEntropy,
    Hinge,
    LeastSquares,
    NonSaturating,
    Relativistic,
    Wasserstein,
)
from gansharing.objectives.path_length import GeneratorRegularizer, PathLength
from gansharing.objectives.regularizers import R1, R2, GradientPenalty, Regularizer

__all__ = [
    "R1",
    "R2",
    "AdversarialLoss",
    "BinaryCrossEntropy",
    "GeneratorRegularizer",
    "GradientPenalty",
    "Hinge",
    "LeastSquares",
    "NonSaturating",
    "PathLength",
    "Regularizer",
    "Relativistic",
    "Wasserstein",
]
