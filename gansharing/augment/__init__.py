"""Differentiable augmentation of what the discriminator sees."""

from gansharing.augment.ada import ADA
from gansharing.augment.base import Augmentation
from gansharing.augment.diffaugment import DiffAugment

__all__ = ["ADA", "Augmentation", "DiffAugment"]
