"""One generator at many widths: their images beside each other, what they cost, one of them alone."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gansharing.errors import UserError
from gansharing.networks import Generator, Network
from gansharing.slimmable import SlimmableGenerator, at_width, extract
from gansharing.slimmable.costs import Cost, costs
from gansharing.tools.render import Renderer
from gansharing.visual import grid, save_png

_COLUMNS = 32  # of the grid
_TURNS = 15  # of a timing


def cut_out(network: Network, width: float) -> Generator:
    """The ordinary generator that a slimmable one is at a width.

    Raises:
        UserError: The network is not slimmable, or has no such width.
    """
    if not isinstance(network, SlimmableGenerator):
        raise UserError(f"a {type(network).__name__} has one width only; leave --width {width:g} out")
    narrow = extract(network, width)
    assert isinstance(narrow, Generator)
    return narrow


def at_widths(renderer: Renderer, widths: str) -> dict[float, Renderer]:
    """A renderer at each width of a list such as ``0.25,0.5``, in that order.

    Raises:
        UserError: The list holds no number, or the generator has no such width.
    """
    try:
        numbers = [float(word) for word in widths.split(",")]
    except ValueError:
        raise UserError(f"width '{widths}' is no list of numbers; write for example --width 0.25,1") from None
    return {width: Renderer(cut_out(renderer.generator, width), renderer.look) for width in numbers}


def sample_widths(
    renderers: Mapping[float, Renderer], seeds: list[int], folder: Path, batch_size: int, model: str
) -> None:
    """Write images of every width into a folder each, and a grid: a row a width, a column a latent.

    Args:
        renderers: By width.
        seeds: The latents, the same at every width.
        folder: Target.
        batch_size: Images generated at once.
        model: Where the generator comes from; kept in the files.
    """
    tiles: dict[float, list[Tensor]] = {width: [] for width in renderers}
    for first in range(0, len(seeds), batch_size):
        part = seeds[first : first + batch_size]
        for width, renderer in renderers.items():
            images = renderer.of_seeds(part)
            for seed, image in zip(part, images, strict=True):
                about = {"seed": str(seed), "width": f"{width:g}", "model": model}
                save_png(image, folder / f"width{width:g}" / f"seed{seed:07d}.png", metadata=about)
            tiles[width].append(images[: max(0, _COLUMNS - first)])
    rows = ", ".join(f"{width:g}" for width in renderers)
    sheet = grid(torch.cat([image for row in tiles.values() for image in row]), min(len(seeds), _COLUMNS))
    save_png(sheet, folder / "grid.png", metadata={"rows": rows, "model": model})
    text = f"{len(seeds)} images at each of {len(renderers)} widths in {folder}; rows of grid.png: {rows}"
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def width_table(name: str, network: SlimmableGenerator, latency: bool = False) -> Table:
    """What each width of a generator costs.

    Args:
        name: Of the network.
        network: Left as it is.
        latency: Measure, too, what an image takes on this machine: of the network, and of what is cut out.
    """
    title = f"{name}: widths"
    times: dict[float, tuple[float, float]] = {}
    if latency:
        times = latencies(network)
        title += f"; ms for one image, {platform.processor() or platform.machine()}, {_threads()}"
    table = Table(title=title, title_justify="left")
    for column in ("width", "parameters", "alone", "MMACs", *(("ms", "ms alone") if latency else ())):
        table.add_column(column, justify="right")
    for cost in costs(network):
        table.add_row(*_row(cost), *(f"{ms:.2f}" for ms in times.get(cost.width, ())))
    return table


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"


def _row(cost: Cost) -> Sequence[str]:
    return f"{cost.width:g}", f"{cost.used:,}", f"{cost.alone:,}", f"{cost.macs / 1e6:,.1f}"


@torch.no_grad()
def latencies(network: SlimmableGenerator) -> dict[float, tuple[float, float]]:
    """Milliseconds for one image by width: of the slimmable network, and of the ordinary one cut out of it.

    Medians of turns that all of them take in one round after the other.
    """
    training = network.training
    network.eval()
    latent, labels = network.sample_latent(1), torch.zeros(1, dtype=torch.long)
    alone = {width: cut_out(network, width) for width in network.widths}

    def inside(width: float) -> Tensor:
        with at_width(width):
            return network(latent, labels)

    taken: dict[float, list[tuple[float, float]]] = {width: [] for width in network.widths}
    for turn in range(_TURNS + 1):
        for width, kept in taken.items():
            pair = _ms(lambda w=width: inside(w)), _ms(lambda w=width: alone[w](latent, labels))  # type: ignore[misc]
            kept.extend([pair] if turn else [])  # the first warms up
    network.train(training)
    return {
        width: (statistics.median(a for a, _ in kept), statistics.median(b for _, b in kept))
        for width, kept in taken.items()
    }


def _ms(function: Callable[[], Tensor]) -> float:
    began = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - began)
