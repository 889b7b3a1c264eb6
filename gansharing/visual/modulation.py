"""Box plots of the scales and shifts that AdaFM learns (Zhao et al. 2020, Figure 13)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.visual.learning_curves import COLOURS, INK, frame

_POINTS = 2000  # of a sorted curve: more than the picture has pixels
_WHISKERS = (1, 99)  # per cent: single outliers among hundreds of thousands would hide the boxes

Stages = Mapping[str, tuple[Tensor, Tensor]]


def plot_modulation(models: Mapping[str, Stages], out_path: str | Path) -> None:
    """Draw gammas and betas by stage as boxes, and the sorted gammas of the stage nearest the image.

    Boxes span the quartiles, whiskers 1 % to 99 %.

    Args:
        models: By title what :func:`gansharing.sharing.modulation` gives of each: flat gammas and betas of
            any number by stage, stages in the order of the signal.
        out_path: The PNG file.

    Raises:
        UserError: There is nothing to draw, or the file cannot be written.
    """
    stages = list(dict.fromkeys(stage for found in models.values() for stage in found))
    if not stages:
        raise UserError("nothing to draw: no weight is scaled and shifted; AdaFM and FilterSelection do that")
    figure = Figure(figsize=(11, 3.6), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    gammas, betas, ordered = figure.subplots(1, 3)
    for axis, title, part, neutral in ((gammas, "Scale γ", 0, 1.0), (betas, "Shift β", 1, 0.0)):
        frame(axis, title)
        axis.axhline(neutral, color="#999999", linewidth=0.8)
        _boxes(axis, stages, {t: {s: f[s][part] for s in f} for t, f in models.items()})
    frame(ordered, f"Sorted γ of {stages[-1]}")
    for number, (title, found) in enumerate(models.items()):
        if stages[-1] in found:
            _sorted(ordered, found[stages[-1]][0], title, number)
    ordered.set_xlabel("share of the filters, %", color=INK)
    ordered.legend(frameon=False, loc="upper left", labelcolor=INK)
    write_atomically(out_path, lambda file: canvas.print_png(file))


def _boxes(axis: Axes, stages: list[str], values: Mapping[str, Mapping[str, Tensor]]) -> None:
    width = 0.8 / len(values)
    for number, found in enumerate(values.values()):
        line = {"color": COLOURS[number % len(COLOURS)]}
        axis.boxplot(
            [found[stage].cpu().double().numpy() for stage in stages if stage in found],
            positions=[i + (number + 0.5) * width - 0.4 for i, stage in enumerate(stages) if stage in found],
            widths=0.8 * width,
            whis=_WHISKERS,
            showfliers=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops=line,
        )
    axis.set_xticks(range(len(stages)), stages)


def _sorted(axis: Axes, gamma: Tensor, title: str, number: int) -> None:
    shares = np.linspace(0, 100, min(len(gamma), _POINTS))
    values = np.percentile(gamma.cpu().double().numpy(), shares)
    axis.plot(shares, values, color=COLOURS[number % len(COLOURS)], linewidth=1.6, label=title)
