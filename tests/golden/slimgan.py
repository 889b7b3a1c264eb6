"""State dicts of SlimGAN and mimicry by the originals' names, and networks read from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gansharing.checkpoints.foreign import Imported
from tests.golden.fill import draw, recorded

ENTRIES = json.loads(Path(__file__).with_name("slimgan.json").read_text())


def original(name: str) -> dict[str, Tensor]:
    """The state dict of the recording ``name``, or of its part, ``name:part``."""
    entries = [(key, tuple(shape), *rule) for key, shape, *rule in ENTRIES[name]]
    state = {key: _entry(key, shape, *rule) for key, shape, *rule in entries}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if leaf in ("weight_u", "weight_v", "sn_u"):
            kept = f"{layer}.{'weight' if leaf == 'sn_u' else 'weight_orig'}"
            u = f"{layer}.{'sn_u' if leaf == 'sn_u' else 'weight_u'}"
            state[key] = _singular(state[kept], u)[leaf == "weight_v"].reshape(tensor.shape)
    return state


def _entry(name: str, shape: tuple[int, ...], rule: str = "") -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        return draw(name, shape, "normal").abs() * 0.5 + 0.75
    if rule == "cbn":
        gain = torch.arange(shape[1]) < shape[1] // 2
        return draw(name, shape, "bias") + gain
    if len(shape) >= 2:
        head, _, factor = rule.partition("/")
        return draw(name, shape, "fan_in") * (float(factor) if head == "scale" else 1)
    gain_of_norm = name.endswith(".weight") and not name.endswith("running_mean")
    return draw(name, shape, "one" if gain_of_norm else "bias")


def _singular(weight: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """u and v after five power iterations in double precision, from the u that its name draws."""
    matrix = weight.double().flatten(1).numpy()
    u = draw(name, (len(matrix),), "normal").double().numpy()
    u = u / np.linalg.norm(u)
    for _ in range(5):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return torch.from_numpy(u).float(), torch.from_numpy(v).float()


def arrays(name: str) -> dict[str, Tensor]:
    """Inputs and outputs of the recording ``name``; images are every third pixel of every third row."""
    return {
        key.removeprefix(f"{name}:"): value
        for key, value in recorded("slimgan").items()
        if key.startswith(f"{name}:")
    }


def network(folder: Path, state: dict[str, Tensor], read: Callable[..., Imported]) -> Any:
    """The network of a state dict, through a checkpoint."""
    torch.save({"model_state_dict": state, "global_step": 7}, folder / "original.pth")
    return read(folder / "original.pth", None).network
