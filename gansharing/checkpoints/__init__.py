"""Weights on disk: checkpoints, safetensors, and the layouts of original repositories."""

from gansharing.checkpoints.atomic import AtomicCheckpointIO, read_checkpoint
from gansharing.checkpoints.deltas import export_delta, read_delta, save_delta
from gansharing.checkpoints.networks import find_checkpoint, load, save_network
from gansharing.checkpoints.slimmed import slimmed

__all__ = [
    "AtomicCheckpointIO",
    "export_delta",
    "find_checkpoint",
    "load",
    "read_checkpoint",
    "read_delta",
    "save_delta",
    "save_network",
    "slimmed",
]
