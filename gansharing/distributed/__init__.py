"""Processes and the collectives that two players need."""

from gansharing.distributed.collectives import average_buffers, average_gradients, broadcast_from_first
from gansharing.distributed.strategy import ExplicitDDP

__all__ = ["ExplicitDDP", "average_buffers", "average_gradients", "broadcast_from_first"]
