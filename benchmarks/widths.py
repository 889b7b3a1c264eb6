"""What a width of a slimmable generator buys on one thread: its speed cut out, and switching at run time.

The ordinary networks cut out take turns, timed by the processor time of this process.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from gansharing.networks import Generator, SNDCGANGenerator, SNGANGenerator
from gansharing.slimmable import SlimmableGenerator, at_width, extract
from gansharing.slimmable.costs import costs

NETWORKS: dict[str, type[SNDCGANGenerator] | type[SNGANGenerator]] = {
    "sndcgan": SNDCGANGenerator,
    "sngan": SNGANGenerator,
}


def seconds(function: Callable[[], Any]) -> float:
    # Of this process alone, which runs on one thread: other processes' turns do not count.
    began = time.process_time()
    function()
    return time.process_time() - began


def switch_ms(network: Generator, width: float, times: int = 1000) -> float:
    """Milliseconds to go to a width, take every weight of it, and come back."""
    layers = [module for module in network.modules() if hasattr(module, "parametrizations")]

    def switch() -> None:
        for _ in range(times):
            with at_width(width):
                for layer in layers:
                    layer.weight  # noqa: B018

    return 1e3 * seconds(switch) / times


@torch.inference_mode()
def main(
    network: str = "sndcgan",
    resolution: int = 64,
    batch_size: int = 1,
    repeats: int = 15,
    out: str | None = None,
) -> None:
    """Print for each width parameters, operations, ms an image and how much faster than the full one it is.

    Args:
        network: sndcgan or sngan.
        resolution: Pixels.
        batch_size: Images at once.
        repeats: Turns.
        out: Write the results as JSON here.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode(False):
        slim = SlimmableGenerator(NETWORKS[network](resolution)).eval().requires_grad_(False)
        cost = costs(slim)
        alone = {width: extract(slim, width) for width in slim.widths}
    latent = slim.sample_latent(batch_size)
    for net in alone.values():
        net(latent)
    turns = [{w: seconds(lambda n=net: n(latent)) for w, net in alone.items()} for _ in range(repeats)]  # type: ignore[misc]
    rows = []
    for one in cost:
        ratio = statistics.median(turn[1.0] / turn[one.width] for turn in turns)
        ms = 1e3 * statistics.median(turn[one.width] for turn in turns) / batch_size
        rows.append(one._asdict() | {"ms": ms, "faster": ratio, "switch_ms": switch_ms(slim, one.width)})
        print(
            f"{one.width:4g}: {one.alone:>12,} parameters, {one.macs / 1e6:8.1f} MMACs, "
            f"{ms:7.2f} ms an image, {ratio:5.2f}x faster than 1 "
            f"({cost[-1].macs / one.macs:.1f}x fewer operations), switch {rows[-1]['switch_ms']:.3f} ms"
        )
    print("bars: 0.25 of sndcgan at 64 px 8x faster, a switch under 1 ms")
    if out:
        about = {"network": network, "resolution": resolution, "batch_size": batch_size, "threads": 1}
        Path(out).write_text(json.dumps(about | {"widths": rows}, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
