"""What transfers have made of the source's filters."""

from pathlib import Path

from rich.console import Console
from torch import Tensor

from gansharing.checkpoints import load
from gansharing.checkpoints.deltas import read_delta
from gansharing.checkpoints.networks import find_checkpoint
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing import build_shared
from gansharing.sharing import modulation as modulation_of
from gansharing.sharing.delta import fill_domain
from gansharing.visual import plot_modulation

Stages = dict[str, tuple[Tensor, Tensor]]


def modulation(models: list[str], out: str = "modulation.png") -> None:
    """Draw the scales and shifts that transfers with AdaFM have learned, side by side.

    Box plots of both by stage, and the sorted scales of the stage nearest the image.

    Args:
        models: Runs' folders, checkpoints, divided .safetensors files, or deltas (no base is needed).
        out: Target file.
    """
    found: dict[str, Stages] = {}
    for model in models:
        stages = modulation_of(_network(model))
        if not stages:
            raise UserError(
                f"{model} has no scales and shifts: it is no transfer with AdaFM or FilterSelection"
            )
        title = Path(model).stem
        found[title if title not in found else model] = stages
    plot_modulation(found, out)
    for title, stages in found.items():
        spreads = ", ".join(f"{s} γ {g.mean():.3f} ± {g.std():.3f}" for s, (g, _) in stages.items())
        Console().print(f"{title}: {spreads}", highlight=False, markup=False)
    Console().print(f"{len(found)} compared: {out}")


def _network(model: str) -> Network:
    path = find_checkpoint(model)
    try:
        delta = read_delta(path)
    except UserError:  # something else, or damaged: load says which
        return load(path, divided=True)
    network = build_shared(delta.config)
    fill_domain(network, delta)
    return network
