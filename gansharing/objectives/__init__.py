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
from gansharing.objectives.reconstruction import AbsoluteError, Reconstruction, SquaredError
from gansharing.objectives.regularizers import R1, R2, GradientPenalty, Regularizer, SlopePenalty
from gansharing.objectives.self_supervision import (
    AspectRatio,
    AutoEncoding,
    InstanceClasses,
    SelfSupervision,
)

__all__ = [
    "R1",
    "R2",
    "AbsoluteError",
    "AdversarialLoss",
    "AspectRatio",
    "AutoEncoding",
    "BinaryCrossEntropy",
    "GeneratorRegularizer",
    "GradientPenalty",
    "Hinge",
    "InstanceClasses",
    "LeastSquares",
    "NonSaturating",
    "PathLength",
    "Reconstruction",
    "Regularizer",
    "Relativistic",
    "SelfSupervision",
    "SlopePenalty",
    "SquaredError",
    "Wasserstein",
]
