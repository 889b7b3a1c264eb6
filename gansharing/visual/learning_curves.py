"""Learning curves: one picture of losses and FID from what a run has logged."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from gansharing.errors import UserError
from gansharing.files import write_atomically

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#333333"
_SMOOTH_SHARE = 0.02  # the bold line averages over this share of the run


@dataclass
class Series:
    """One logged quantity: step to value, in order of steps."""

    name: str
    points: dict[int, float] = field(default_factory=dict)

    def xy(self) -> tuple[list[int], list[float]]:
        """Steps and values, sorted by step."""
        steps = sorted(self.points)
        return steps, [self.points[step] for step in steps]


def read_metrics(path: str | Path, step: str = "step") -> list[dict[str, str]]:
    """Read the rows of a Lightning CSVLogger's ``metrics.csv``.

    Raises:
        UserError: The file is missing, or has no column of that name.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; it is written while a run logs") from error
    if step not in columns:
        raise UserError(f"{path} has no column {step!r}; its columns are {', '.join(columns) or 'none'}")
    return rows


def curves(
    source: str | Path | Iterable[Mapping[str, object]], out_path: str | Path, step: str = "step"
) -> None:
    """Draw losses and FID over the steps of a run.

    Columns are told by the last part of their name: ``loss_g`` or ``train/loss_g`` are losses, ``fid``,
    ``fid_lite`` or ``val/fid`` are FID. Rows may be sparse. Where a step occurs twice, as after a resume,
    its last value counts.

    Args:
        source: a ``metrics.csv`` of Lightning's CSVLogger, or its rows.
        out_path: the PNG file.
        step: the column to draw over.

    Raises:
        UserError: The file cannot be read or written, or holds neither losses nor FID.
    """
    rows = read_metrics(source, step) if isinstance(source, str | Path) else source
    series = _collect(rows, step)
    panels = [(title, [s for s in series if s.name.startswith(prefix)]) for title, prefix in _PANELS]
    panels = [(title, members) for title, members in panels if members]
    if not panels:
        raise UserError("nothing to draw: there is no column whose name starts with 'loss' or 'fid'")
    figure = Figure(figsize=(8, 0.6 + 2.9 * len(panels)), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (title, members) in zip(axes, panels, strict=True):
        _dress(axis, title)
        (_draw_scores if title == "FID" else _draw_losses)(axis, members)
        axis.legend(frameon=False, loc="upper right", ncols=min(3, len(members)), labelcolor=INK)
    axes[-1].set_xlabel(step, color=INK)
    write_atomically(out_path, lambda file: canvas.print_png(file))


_PANELS = (("Loss", "loss"), ("FID", "fid"))


def _collect(rows: Iterable[Mapping[str, object]], step: str) -> list[Series]:
    points: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        at = _number(row.get(step))
        for column, cell in row.items():
            value = _number(cell)
            if at is not None and value is not None and column is not None:
                points[column.rsplit("/", 1)[-1]][int(at)] = value
    return [Series(name, points[name]) for name in sorted(points)]


def _number(cell: object) -> float | None:
    """A logged value; empty cells, text and a cell torn by a kill give None."""
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def frame(axis: Axes, title: str) -> None:
    """Give a panel its title, and the look that all of the house's plots have."""
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(colors=INK)
    axis.grid(color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)


def _dress(axis: Axes, title: str) -> None:
    frame(axis, title)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _draw_losses(axis: Axes, members: list[Series]) -> None:
    for colour, series in zip(_cycle(len(members)), members, strict=True):
        steps, values = series.xy()
        axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        axis.plot(steps, _smoothed(values), color=colour, linewidth=1.8, label=series.name)


def _draw_scores(axis: Axes, members: list[Series]) -> None:
    for colour, series in zip(_cycle(len(members)), members, strict=True):
        steps, values = series.xy()
        label = series.name
        finite = {at: value for at, value in zip(steps, values, strict=True) if math.isfinite(value)}
        if finite:
            best = min(finite, key=finite.__getitem__)
            axis.plot([best], [finite[best]], marker="o", markersize=9, markerfacecolor="none", color=colour)
            label = f"{series.name}, best {finite[best]:.4g}"
        axis.plot(steps, values, color=colour, marker="o", markersize=3.5, linewidth=1.8, label=label)


def _cycle(number: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(number)]


def _smoothed(values: list[float]) -> list[float]:
    """Exponential average without start-up bias; gaps (NaN, infinite) stay gaps and are not averaged in."""
    keep = 1 - 1 / max(1.0, _SMOOTH_SHARE * len(values))
    total = weight = 0.0
    out = []
    for value in values:
        if not math.isfinite(value):
            out.append(math.nan)
            continue
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight)
    return out
