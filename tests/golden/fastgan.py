"""State dicts of FastGAN by the original's names, and the inputs of its recorded outputs.

Spectral norm's vectors are the exact top singular pair: others would leave next to nothing to divide by.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.golden.fill import draw

ENTRIES = json.loads(Path(__file__).with_name("fastgan.json").read_text())
# Of running variances, so that the signal survives a dozen gated layers.
_SCALES = {"generator": {"": 0.1}, "discriminator": {"": 0.09, "down_from_small": 0.15, "decoder_": 0.15}}


def original(part: str) -> dict[str, Tensor]:
    """The state dict of the recorded ``generator`` or ``discriminator``: 256 px, 16 channels."""
    return dict(_original(part))


@cache
def _original(part: str) -> dict[str, Tensor]:
    shapes = {name: tuple(shape) for name, shape in ENTRIES[part]}
    return {name: _entry(name, shapes, _SCALES[part]) for name in shapes}


def _entry(name: str, shapes: dict[str, tuple[int, ...]], scales: dict[str, float]) -> Tensor:
    module, _, leaf = name.rpartition(".")
    shape = shapes[name]
    if leaf == "num_batches_tracked":
        return torch.tensor(0)
    if leaf in ("weight_u", "weight_v"):
        return _singular(module, shapes)[leaf == "weight_v"]
    if leaf == "running_var":
        scale = scales[max((prefix for prefix in scales if name.startswith(prefix)), key=len)]
        return (draw(name, shape, "normal").abs() * 0.5 + 0.75) * scale
    if len(shape) > 1:
        return draw(name, shape, "fan_in")
    gain = leaf == "weight" and f"{module}.running_mean" in shapes
    return draw(name, shape, "one" if gain else "bias")


def _singular(module: str, shapes: dict[str, tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    name = f"{module}.weight_orig"
    weight = draw(name, shapes[name], "fan_in").double()
    if module == "init.init.0":  # the one transposed convolution
        weight = weight.transpose(0, 1)
    matrix = weight.flatten(1)
    u = torch.linalg.eigh(matrix @ matrix.T)[1][:, -1]
    start = draw(f"{module}.weight_u", shapes[f"{module}.weight_u"], "normal").double()
    u = u if u @ start >= 0 else -u
    v = matrix.T @ u
    return u.float(), (v / v.norm()).float()


def noise() -> list[Tensor]:
    """The recorded noise maps, in the order in which the generator adds them."""
    return [
        draw(f"noise:feat_{size}.{layer}", (2, 1, size, size), "normal")
        for size in (8, 32, 128)
        for layer in (2, 6)
    ]


def images() -> tuple[Tensor, Tensor]:
    """The recorded images of 256 and 128 px: normal, rounded to multiples of 1/32."""
    return _image(1234, 256), _image(1235, 128)


def _image(seed: int, size: int) -> Tensor:
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal((2, 3, size, size))
    return torch.from_numpy((np.round(drawn * 16) / 32).astype(np.float32))
