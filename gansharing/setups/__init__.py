"""Setups: who plays against whom, on what data, in what order. LightningModules."""

from gansharing.setups.adversarial import Adversarial
from gansharing.setups.base import GenerativeSetup
from gansharing.setups.multi_domain import MultiDomain
from gansharing.setups.reconstruct import Reconstruct
from gansharing.setups.self_supervised import SelfSupervised
from gansharing.setups.slimmable import Slimmable
from gansharing.setups.transfer import Transfer
from gansharing.setups.translation import Translation

__all__ = [
    "Adversarial",
    "GenerativeSetup",
    "MultiDomain",
    "Reconstruct",
    "SelfSupervised",
    "Slimmable",
    "Transfer",
    "Translation",
]
