"""Processes and the collectives that two players need."""

from gansharing.distributed.collectives import (
    average_buffers,
    average_gradients,
    broadcast_from_first,
    changing_buffers,
)
from gansharing.distributed.lost import naming_a_lost_process
from gansharing.distributed.owners import Owners
from gansharing.distributed.strategy import ExplicitDDP

__all__ = [
    "ExplicitDDP",
    "Owners",
    "average_buffers",
    "average_gradients",
    "broadcast_from_first",
    "changing_buffers",
    "naming_a_lost_process",
]
