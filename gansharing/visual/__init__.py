"""Pictures as files: grids, strips, animations and learning curves."""

from gansharing.visual.images import grid, save_animation, save_png, strip, to_uint8
from gansharing.visual.learning_curves import curves, read_metrics
from gansharing.visual.modulation import plot_modulation

__all__ = [
    "curves",
    "grid",
    "plot_modulation",
    "read_metrics",
    "save_animation",
    "save_png",
    "strip",
    "to_uint8",
]
