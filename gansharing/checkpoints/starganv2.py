"""Checkpoints of StarGAN v2's original code, read.

``N_nets_ema.ckpt`` holds the averaged ``generator``, ``mapping_network`` and ``style_encoder``;
``N_nets.ckpt`` the live ones, and the ``discriminator``. Each is a state dict, with or without the prefix of
``DataParallel``. What else is there (the ``fan`` that finds landmarks) is left.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gansharing.checkpoints.foreign import (
    Imported,
    choose_part,
    read_bytes,
    read_torch,
    refuse_misfits,
    state_of,
)
from gansharing.checkpoints.unpickle import printable
from gansharing.errors import UserError
from gansharing.networks.base import Network, build_network

State = dict[str, Tensor]
Config = dict[str, Any]
_FILTER = "hpf.filter"
_BASE = 16384  # the original's channels at a resolution are this divided by it
# Of each part: its name in the file, and a tensor that it alone has.
_NAMES = {
    "generator": ("generator", "from_rgb.weight"),
    "mapping": ("mapping_network", "unshared.0.6.weight"),
    "style_encoder": ("style_encoder", "unshared.0.weight"),
    "discriminator": ("discriminator", "main.0.weight"),
}


def read_starganv2(path: Path, part: str | None) -> Imported:
    """Read one of the original's networks, or a state dict of one alone.

    Args:
        path: The file.
        part: ``generator``, ``ema`` (the generator of a file of averages), ``mapping``, ``style_encoder``,
            ``discriminator``, or None: the generator, or the file's only network.

    Raises:
        UserError: It holds code, is damaged, or does not hold the part; tensors that do not fit are named.
    """
    source = str(path)
    found = _found(read_torch(read_bytes(path), source))
    if part is None and len(found) == 1:
        (part,) = found
    chosen, notes = choose_part(part, {name: _label(name) for name in found}, source)
    kind = "generator" if chosen == "ema" else chosen
    network, more = _network(kind, found[chosen], source)
    return Imported(network, kind, [*notes, *more])


def _label(part: str) -> str:
    return _NAMES["generator" if part == "ema" else part][0]


def _found(content: Any) -> dict[str, State]:
    """The networks in a file, by part; the generator of a file without discriminator is an average."""
    named = content if isinstance(content, Mapping) else {}
    found = {part: state for part, (name, _) in _NAMES.items() if (state := state_of(named.get(name)))}
    if found:
        if "generator" in found and "discriminator" not in found:
            found = {"ema": found.pop("generator"), **found}
        return found
    alone = state_of(content)
    return next(({part: alone} for part, (_, own) in _NAMES.items() if own in alone), {})


def _network(part: str, state: State, source: str) -> tuple[Network, list[str]]:
    try:
        name, arguments = _GUESSES[part](state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{source} holds no {part} of StarGAN v2: {printable(error)} is missing, or of no fitting shape"
        ) from error
    notes = []
    if arguments.get("high_pass") and _FILTER not in state:
        notes.append("the file does not hold its high-pass filter: 1 was taken, as its original has")
    config = {"class_path": f"gansharing.networks.{name}", "init_args": arguments}
    with torch.device("meta"):  # shapes alone: a file may ask for any size
        shapes = {key: tuple(tensor.shape) for key, tensor in build_network(config).state_dict().items()}
    own = {key: tensor for key, tensor in state.items() if key != _FILTER}
    refuse_misfits(shapes, own, f"{source} is no {name.rpartition('.')[2]}")
    network = build_network(config)
    network.load_state_dict({key: tensor.float() for key, tensor in own.items()})
    return network.eval(), notes


def _generator(state: State) -> tuple[str, Config]:
    """The number of blocks says whether there was a filter, which older files do not hold."""
    sizes = _sizes(state, "encode.")
    filtered = len(_numbers(state, "encode.")) == sizes["resolution"].bit_length() - 2
    arguments = sizes | {"style_dim": state["decode.0.norm1.fc.weight"].shape[1]}
    return "starganv2.StarGANv2Generator", arguments | {"high_pass": _divisor(state) if filtered else 0.0}


def _divisor(state: State) -> float:
    if _FILTER not in state:
        return 1.0
    kernel = state[_FILTER].float()
    if kernel.shape != (3, 3) or not 0 < kernel[1, 1] < float("inf"):
        raise ValueError(_FILTER)
    expected = torch.full((3, 3), -1.0)
    expected[1, 1] = 8
    if not torch.allclose(kernel * 8 / kernel[1, 1], expected, rtol=1e-5):
        raise ValueError(_FILTER)
    return float(8 / kernel[1, 1])


def _mapping(state: State) -> tuple[str, Config]:
    hidden, latent_dim = state["shared.0.weight"].shape
    arguments = {
        "latent_dim": latent_dim,
        "style_dim": len(state["unshared.0.6.weight"]),
        "num_domains": len(_numbers(state, "unshared.")),
        "hidden": hidden,
    }
    return "starganv2_styles.StarGANv2Mapping", arguments


def _style_encoder(state: State) -> tuple[str, Config]:
    sizes = _sizes(state, "shared.")
    heads = {
        "style_dim": len(state["unshared.0.weight"]),
        "num_domains": len(_numbers(state, "unshared.")),
    }
    return "starganv2_styles.StarGANv2StyleEncoder", sizes | heads


def _discriminator(state: State) -> tuple[str, Config]:
    sizes = _sizes(state, "main.")
    last = max(int(number) for number in _numbers(state, "main."))
    scores = {"num_domains": len(state[f"main.{last}.weight"])}
    return "starganv2_discriminator.StarGANv2Discriminator", sizes | scores


_GUESSES: Mapping[str, Callable[[State], tuple[str, Config]]] = {
    "generator": _generator,
    "mapping": _mapping,
    "style_encoder": _style_encoder,
    "discriminator": _discriminator,
}


def _sizes(state: State, layers: str) -> Config:
    """Resolution and channels, by the first layer's outputs and by those of the last block that halves.

    Args:
        state: The network's tensors.
        layers: What names of its first layer, if that has a number, and of these blocks begin with.
    """
    first = "from_rgb.weight" if layers == "encode." else f"{layers}0.weight"
    width = len(state[first])
    if width < 1 or _BASE % width:
        raise ValueError(first)
    blocks = {int(n) for n in _numbers(state, layers) if f"{layers}{n}.conv2.weight" in state}
    last = state[f"{layers}{max(blocks)}.conv2.weight"]
    return {"resolution": _BASE // width, "channel_base": _BASE, "channel_max": len(last)}


def _numbers(state: State, prefix: str) -> set[str]:
    return {name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)}
