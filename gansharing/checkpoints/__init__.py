"""Weights on disk: checkpoints, safetensors, and the layouts of original repositories."""

from gansharing.checkpoints.atomic import AtomicCheckpointIO, read_checkpoint
from gansharing.checkpoints.networks import find_checkpoint, load, save_network

__all__ = ["AtomicCheckpointIO", "find_checkpoint", "load", "read_checkpoint", "save_network"]
