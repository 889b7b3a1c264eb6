"""State dicts of GP-GAN, AdaFM and GAN Memory by the originals' names, and networks read from them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gansharing.checkpoints.gan_stability import read_gan_stability, read_ganmemory
from tests.golden.fill import draw, recorded

ENTRIES = json.loads(Path(__file__).with_name("gpgan.json").read_text())


def original(name: str, prefix: str = "") -> dict[str, Tensor]:
    """The state dict of the recording ``name``, or its entries under ``prefix`` without it."""
    state = {}
    for key, shape, rule in ENTRIES[name]:
        tensor = draw(key, tuple(shape), "bias" if rule == "adain" else rule)
        if rule == "adain":
            tensor[: len(tensor) // 2] += 1
        if key.startswith(prefix):
            state[key.removeprefix(prefix)] = tensor
    return state


def arrays(file: str, name: str) -> dict[str, Tensor]:
    """What ``file`` has of the recording ``name``."""
    return {
        key.removeprefix(f"{name}:"): value
        for key, value in recorded(file).items()
        if key.startswith(f"{name}:")
    }


def network(folder: Path, state: dict[str, Tensor], memory: bool = False) -> Any:
    """The network of a state dict, through a file."""
    torch.save(state, folder / "original.pt")
    read = read_ganmemory if memory else read_gan_stability
    return read(folder / "original.pt", None).network
