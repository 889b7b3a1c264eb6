"""State dicts of StarGAN v2's networks by the original's names, as recorded: 64 px, 3 domains, 64 channels.

Recorded images are every fourth pixel, from row 1 and column 2 on.
"""

import json
from pathlib import Path

from torch import Tensor

from tests.golden.fill import draw

ENTRIES = json.loads(Path(__file__).with_name("starganv2.json").read_text())
FILTER = "hpf.filter"


def original(part: str) -> dict[str, Tensor]:
    """Of ``generator``, ``high_pass``, ``mapping``, ``style_encoder`` or ``discriminator``.

    Without the filter, which is a constant.
    """
    return {name: _entry(name, tuple(shape)) for name, shape in ENTRIES[part] if name != FILTER}


def seen(images: Tensor) -> Tensor:
    """The recorded pixels."""
    return images[..., 1::4, 2::4]


def _entry(name: str, shape: tuple[int, ...]) -> Tensor:
    if len(shape) > 1:
        return draw(name, shape, "fan_in*1.4142135623730951")
    return draw(name, shape, "one" if name.endswith("weight") else "bias")
