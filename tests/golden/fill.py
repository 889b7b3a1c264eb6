"""Weights computed from names and shapes, so that recorded outputs need no stored weights.

An entry is standard normal, drawn in float64 by PCG64 seeded with the CRC-32 of its name, then changed by a
rule: ``normal`` keeps it, ``fan_in`` divides by the root of the product of all dimensions but the first,
``bias`` is a tenth of it, ``one`` adds 1 to that, ``unit`` has length one. ``rule*m`` and ``rule/m`` scale.
"""

import re
import zlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

STYLEGAN2 = {
    "*mapping.embed.weight": "normal",
    "*mapping.fc*.weight": "normal/0.01",
    "*mapping.fc*.bias": "bias/0.01",
    "*.affine.bias": "one",
    "*.bias": "bias",
    "*noise_strength": "bias",
    "*w_avg": "bias",
    "*": "normal",
}


def draw(name: str, shape: tuple[int, ...], rule: str) -> Tensor:
    """One entry."""
    source = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    x = np.asarray(source.standard_normal(shape)).astype(np.float32)
    head, sign, factor = re.fullmatch(r"(\w+)([*/]?)(.*)", rule).groups()  # type: ignore[union-attr]
    if head == "fan_in":
        x = x * np.float32(np.sqrt(1 / np.prod(shape[1:])))
    elif head == "unit":
        x = x / np.float32(np.linalg.norm(x))
    elif head in ("bias", "one"):
        x = np.float32(0.1) * x + np.float32(head == "one")
    elif head != "normal":
        raise ValueError(rule)
    if sign:
        x = x * np.float32(factor) if sign == "*" else x / np.float32(factor)
    return torch.from_numpy(np.asarray(x, np.float32).reshape(shape))


def fill(network: nn.Module, rules: Mapping[str, str]) -> None:
    """Fill every entry of the state dict by the first rule whose pattern matches its name."""
    state = network.state_dict()
    network.load_state_dict(
        {
            name: draw(name, tuple(x.shape), next(r for p, r in rules.items() if fnmatchcase(name, p)))
            for name, x in state.items()
        }
    )


def recorded(name: str) -> dict[str, Any]:
    """The recording ``tests/golden/<name>.npz``: arrays as tensors."""
    with np.load(Path(__file__).with_name(f"{name}.npz")) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
