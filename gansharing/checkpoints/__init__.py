"""Weights on disk: checkpoints, safetensors, and the layouts of original repositories."""

from gansharing.checkpoints.atomic import AtomicCheckpointIO, read_checkpoint
from gansharing.checkpoints.deltas import export_delta, kind_of, read_delta, save_delta
from gansharing.checkpoints.domains import export_deltas, load_base
from gansharing.checkpoints.networks import find_checkpoint, load, save_network
from gansharing.checkpoints.slimmed import slimmed

__all__ = [
    "AtomicCheckpointIO",
    "export_delta",
    "export_deltas",
    "find_checkpoint",
    "kind_of",
    "load",
    "load_base",
    "read_checkpoint",
    "read_delta",
    "save_delta",
    "save_network",
    "slimmed",
]
