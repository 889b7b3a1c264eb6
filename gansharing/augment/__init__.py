"""Differentiable augmentation of what the discriminator sees."""

from gansharing.augment.diffaugment import DiffAugment

__all__ = ["DiffAugment"]
