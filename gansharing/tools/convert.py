"""Weights in and out: safetensors, and the layouts of original repositories."""

from pathlib import Path
from typing import Literal

from rich.console import Console

from gansharing.checkpoints import find_checkpoint, load, save_network
from gansharing.checkpoints.foreign import flat_state, read_tensors
from gansharing.checkpoints.spectral_style import read_ssd

Part = Literal["generator", "discriminator"]
Format = Literal["ssd"]
_READERS = {"ssd": read_ssd}


def export(model: str, out: str = "generator.safetensors", part: Part = "generator") -> None:
    """Write a network of a checkpoint as safetensors, with a header that rebuilds it.

    Args:
        model: A checkpoint or a run's folder.
        out: Target file.
        part: Which network; the generator is the averaged one.
    """
    network = load(model, part)
    save_network(network, out, part, {"source": find_checkpoint(model).name})
    _say(network, part, out)


def import_(
    source: str, out: str = "imported.safetensors", format: Format = "ssd", part: Part = "generator"
) -> None:
    """Read a checkpoint of an original repository and write it as safetensors.

    Nothing in the file is executed: its tensors are read, every other object is ignored.

    Args:
        source: The original's checkpoint.
        out: Target file.
        format: Whose: ssd (Spectral Style-DCGAN).
        part: Which of its networks.
    """
    network = _READERS[format](flat_state(read_tensors(source)), part)
    save_network(network, out, part, {"source": Path(source).name, "format": format})
    _say(network, part, out)


def _say(network: object, part: str, out: str) -> None:
    count = sum(p.numel() for p in network.parameters())  # type: ignore[attr-defined]
    Console().print(f"{type(network).__name__} ({part}, {count:,} parameters) in {out}")
