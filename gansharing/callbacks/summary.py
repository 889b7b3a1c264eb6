"""What a person wants to read when training ends."""

from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table


def summary(folder: Path, results: dict[str, Any]) -> Group:
    """The scores of a run, first, best and last, and where its files lie.

    Args:
        folder: The run's folder.
        results: What ``results.json`` holds.
    """
    parts: list[Any] = []
    history, best = results["history"], results["best"]
    if history and best:
        parts.append(_score_table(history[0], best, results["scores"], results["protocol"]))
    parts += [f"{name:12} {path}" for name, path in _files(folder)]
    return Group(*parts)


def _score_table(
    first: dict[str, float], best: dict[str, float], last: dict[str, float], how: dict[str, Any]
) -> Table:
    about = f"{how['n_fake']:,} generated against {how['n_real']:,} real images, {how['extractor']} extractor"
    table = Table(title=f"Scores: {about}", title_justify="left")
    table.add_column("score")
    for name, entry in (("first", first), ("best", best), ("last", last)):
        label = f"{name}, step {entry['step']:,.0f}"
        if entry["step"] == 0:
            label = "untrained" if name == "first" else f"{name}: untrained"
        table.add_column(label, justify="right")
    for score in [key for key in last if key not in ("step", "images") and "_std" not in key]:
        table.add_row(
            score, *(f"{entry[score]:.4g}" if score in entry else "" for entry in (first, best, last))
        )
    return table


def _files(folder: Path) -> list[tuple[str, Path]]:
    grids = sorted((folder / "images").glob("step_*[0-9].png"))
    candidates = [
        ("samples", grids[-1] if grids else folder / "images" / "none"),
        *((kind, _latest(folder, kind)) for kind in ("transfer", "domains", "widths")),
        ("real images", folder / "images" / "real.png"),
        ("curves", folder / "curves.png"),
        ("results", folder / "results.json"),
        ("best", folder / "checkpoints" / "best.ckpt"),
        ("last", folder / "checkpoints" / "last.ckpt"),
    ]
    return [(name, path) for name, path in candidates if path.exists()]


def _latest(folder: Path, kind: str) -> Path:
    found = sorted((folder / "images").glob(f"step_*_{kind}.png"))
    return found[-1] if found else folder / "images" / "none"


def print_summary(folder: Path, results: dict[str, Any]) -> None:
    """Print :func:`summary`, paths unbroken."""
    Console(soft_wrap=True).print(summary(folder, results), highlight=False)
