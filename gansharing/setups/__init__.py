"""Setups: who plays against whom, on what data, in what order. LightningModules."""

from gansharing.setups.adversarial import Adversarial
from gansharing.setups.base import GenerativeSetup

__all__ = ["Adversarial", "GenerativeSetup"]
