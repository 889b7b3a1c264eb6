"""Everything a run writes, measures or shows beside its training. Lightning callbacks."""

from gansharing.callbacks.best import BestCheckpoint
from gansharing.callbacks.diversity import Diversity
from gansharing.callbacks.early_stop import EarlyStop
from gansharing.callbacks.ema import GeneratorEMA
from gansharing.callbacks.grids import Grids
from gansharing.callbacks.modulation import Modulation
from gansharing.callbacks.predictions import Predictions
from gansharing.callbacks.progress import Progress
from gansharing.callbacks.report import Report
from gansharing.callbacks.resume import Resumable, TrainingStopped
from gansharing.callbacks.scores import Scores
from gansharing.callbacks.throughput import Throughput
from gansharing.callbacks.unfreeze import Unfreeze

__all__ = [
    "BestCheckpoint",
    "Diversity",
    "EarlyStop",
    "GeneratorEMA",
    "Grids",
    "Modulation",
    "Predictions",
    "Progress",
    "Report",
    "Resumable",
    "Scores",
    "Throughput",
    "TrainingStopped",
    "Unfreeze",
]
