"""Sharing: which of a network's parameters a domain owns (θ_D) and which all domains share (θ_S).

Plain PyTorch: ``WidthWise(0.1).apply(network)`` divides any network in place and changes no output.
"""

from gansharing.sharing.adafm import AdaFM, FilterSelection, modulation
from gansharing.sharing.additive import LowRank, StyleOffsets
from gansharing.sharing.base import Sharing, Split, build_shared, build_sharing, described, merged, split_of
from gansharing.sharing.combined import Combined
from gansharing.sharing.delta import Delta, apply_delta, delta_of
from gansharing.sharing.domains import Domains
from gansharing.sharing.miner import Miner
from gansharing.sharing.selections import Affine, BatchStatistics, FreezeLower, Full, LayerWise
from gansharing.sharing.surgery import Divided, layers, parametrize_first
from gansharing.sharing.width import WidthWise

__all__ = [
    "AdaFM",
    "Affine",
    "BatchStatistics",
    "Combined",
    "Delta",
    "Divided",
    "Domains",
    "FilterSelection",
    "FreezeLower",
    "Full",
    "LayerWise",
    "LowRank",
    "Miner",
    "Sharing",
    "Split",
    "StyleOffsets",
    "WidthWise",
    "apply_delta",
    "build_shared",
    "build_sharing",
    "delta_of",
    "described",
    "layers",
    "merged",
    "modulation",
    "parametrize_first",
    "split_of",
]
