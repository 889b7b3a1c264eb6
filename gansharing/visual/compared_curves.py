"""A score over the steps of several methods: the mean of the seeds, a band from the lowest to the highest."""

import io
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from gansharing.errors import UserError
from gansharing.visual.learning_curves import COLOURS, INK, frame

_DASHES = ("-", "--", ":", "-.")  # where the colours are used up


def compared_curves(methods: Mapping[str, Sequence[Mapping[int, float]]], title: str) -> bytes:
    """Draw a score by step as a PNG.

    Args:
        methods: By name the curves of its seeds: finite value by step. At a step that not all seeds have,
            the mean is that of the others.
        title: Of the panel.

    Raises:
        UserError: No curve has a point.
    """
    drawn = {name: [curve for curve in curves if curve] for name, curves in methods.items()}
    drawn = {name: curves for name, curves in drawn.items() if curves}
    if not drawn:
        raise UserError(f"nothing to draw: no run has a finite {title}")
    figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axis = figure.subplots()
    frame(axis, title)
    for number, (name, curves) in enumerate(drawn.items()):
        colour, line = COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % len(_DASHES)]
        steps = sorted({step for curve in curves for step in curve})
        values = [[curve[step] for curve in curves if step in curve] for step in steps]
        axis.plot(
            steps,
            list(map(statistics.mean, values)),
            line,
            color=colour,
            marker="o",
            markersize=3,
            label=name,
        )
        axis.fill_between(
            steps, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.15, linewidth=0
        )
    axis.set_xlabel("step", color=INK)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axis.legend(frameon=False, labelcolor=INK, ncols=min(3, len(drawn)))
    out = io.BytesIO()
    canvas.print_png(out)
    return out.getvalue()
