"""A page on this machine to look at what was trained: one module a layer, this one the command."""

import importlib.util

from rich.console import Console

from gansharing.errors import UserError
from gansharing.tools.explore.explorer import Explorer
from gansharing.tools.explore.menu import Menu


def explore(models: list[str], port: int = 7860) -> None:
    """Open a page on this machine: seeds, walks, style mixing, domains, widths, the latents of your images.

    It shows the controls that the networks have. It is served to this machine alone, and asks no other for
    anything; from elsewhere, take 'ssh -L 7860:127.0.0.1:7860 MACHINE'.

    Args:
        models: A checkpoint, a safetensors file or a run's folder; then deltas of it, and other models of its
            architecture, for the menu of domains.
        port: Where the page is served; 0 takes any port that is free.
    """
    explorer = Explorer(Menu(models))
    if importlib.util.find_spec("gradio") is None:
        raise UserError('the page needs the package gradio: pip install "gansharing[explore]"')
    # Seconds, and nobody else needs it.
    from gansharing.tools.explore.server import HOST, serving

    with serving(explorer, port) as (server, listening):
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        domains = f"{len(explorer.names)} domain{'s' if len(explorer.names) > 1 else ''}"
        Console(soft_wrap=True).print(
            f"{domains} at {address}; Ctrl-C ends it", highlight=False, markup=False
        )
        server.run(sockets=[listening])
