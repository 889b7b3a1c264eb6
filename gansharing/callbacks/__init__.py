"""Everything a run writes, measures or shows beside its training. Lightning callbacks."""

from gansharing.callbacks.best import BestCheckpoint
from gansharing.callbacks.diversity import Diversity
from gansharing.callbacks.ema import GeneratorEMA
from gansharing.callbacks.grids import Grids
from gansharing.callbacks.predictions import Predictions
from gansharing.callbacks.progress import Progress
from gansharing.callbacks.report import Report
from gansharing.callbacks.resume import Resumable, TrainingStopped
from gansharing.callbacks.scores import Scores
from gansharing.callbacks.throughput import Throughput

__all__ = [
    "BestCheckpoint",
    "Diversity",
    "GeneratorEMA",
    "Grids",
    "Predictions",
    "Progress",
    "Report",
    "Resumable",
    "Scores",
    "Throughput",
    "TrainingStopped",
]
