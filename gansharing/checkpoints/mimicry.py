"""Checkpoints of mimicry: SNGAN and cGAN-pd; and SNDCGAN, which its fork SlimGAN adds."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gansharing.checkpoints.foreign import Imported, read_bytes, read_torch, refuse_misfits, state_of
from gansharing.checkpoints.mimicry_names import original_names
from gansharing.errors import UserError
from gansharing.networks.base import Network, build_network

State = dict[str, Tensor]
Config = dict[str, Any]
_ALIKE = "a residual discriminator of 48 px has the tensors, and is the function, of one of 64 px"
_ANY_LAYER = re.compile(r"(l1|block1|block1s\.\d+\.c1|c1|c1s\.\d+)\.")


def read_mimicry(path: Path, part: str | None) -> Imported:
    """Read a network of mimicry: its checkpoint (``model_state_dict``), or a state dict alone.

    Args:
        path: The file, which holds one network.
        part: ``generator``, ``discriminator``, or None for what the file holds.

    Raises:
        UserError: It holds code, is damaged, or holds another network; tensors that do not fit are named.
    """
    return read_named(path, part, ordinary)


def read_named(path: Path, part: str | None, describe: Callable[[State, str], Config]) -> Imported:
    """Read a network whose tensors have mimicry's names.

    Args:
        path: The file.
        part: As :func:`read_mimicry` takes it.
        describe: Gives what builds the network, from the tensors and the part.

    Raises:
        UserError: As :func:`read_mimicry`.
    """
    source = str(path)
    content = read_torch(read_bytes(path), source)
    held = content.get("model_state_dict") if isinstance(content, Mapping) else None
    state = {name: x.float() for name, x in state_of(content if held is None else held).items()}
    if not any(map(_ANY_LAYER.match, state)):
        raise UserError(f"{source} holds no network of mimicry's names")
    kind = "generator" if "l1.weight" in state else "discriminator"
    if part not in (None, kind) and not (part == "ema" and kind == "generator"):
        raise UserError(f"{source} holds no {part}; it holds a {kind}")
    state = torch_spectral(state, source)
    try:
        config = describe(state, kind)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{source} holds no known {kind} of mimicry's names ({error})") from error
    network = _filled(config, state, kind, source)
    residual = kind == "discriminator" and any(name.startswith("block1") for name in state)
    notes = [_ALIKE] if residual and getattr(network, "resolution", 0) == 64 else []
    return Imported(network.eval(), kind, notes)


@torch.no_grad()
def torch_spectral(state: State, source: str) -> State:
    """Rename mimicry's own spectral norm (``weight``, ``sn_u``) to torch's ``weight_orig``, ``_u``, ``_v``.

    The former iterates in every forward, in eval mode too, and keeps u alone: the vectors given are those
    after this iteration.

    Args:
        state: Tensors by name, in either layout or both.
        source: The file's name for messages.

    Raises:
        UserError: A vector does not fit its weight.
    """
    found = {name: x for name, x in state.items() if not name.endswith((".sn_u", ".sn_sigma"))}
    for name in [name for name in state if name.endswith(".sn_u")]:
        layer, u = name.removesuffix("sn_u"), state[name].flatten()
        weight = found.pop(f"{layer}weight", None)
        if weight is None or weight.ndim < 2 or len(weight) != len(u):
            raise UserError(f"{source}: {name} does not belong to a weight of its length")
        matrix = weight.flatten(1).double()  # vectors that have not converged let rounding through
        v = normalize(matrix.T @ u.double(), dim=0)
        u = normalize(matrix @ v, dim=0)
        found |= {
            f"{layer}weight_orig": weight, f"{layer}weight_u": u.float(), f"{layer}weight_v": v.float(),
        }  # fmt: skip
    return found


def ordinary(state: State, kind: str) -> Config:
    """What builds the ordinary network of these shapes.

    Of a slimmable one, too, what builds the network that is slimmed, or copied for each width.
    """
    name, arguments = (_generator if kind == "generator" else _discriminator)(state)
    return {"class_path": f"gansharing.networks.{name}{kind.title()}", "init_args": arguments}


def _generator(state: State) -> tuple[str, Config]:
    first, residual = state["l1.weight"], _count(state, r"block(\d+)\.")
    channels = state["block2.c1.weight"].shape[1] if residual else state["c1.weight"].shape[0]
    doublings = residual or _count(state, r"c(\d+)\.") - 1
    bottom = round((first.shape[0] / channels) ** 0.5)
    arguments = {"resolution": bottom << doublings, "latent_dim": first.shape[1], "channels": channels}
    if not residual:
        return "sndcgan.SNDCGAN", arguments
    table = state.get("block2.b1.embed.weight")
    return "sngan.SNGAN", arguments | {"num_classes": 0 if table is None else table.shape[0]}


def _discriminator(state: State) -> tuple[str, Config]:
    linear = _first(state, r"l\d+(s\.\d+)?\.weight_orig")
    residual, plain = _count(state, r"block(\d+)s?\."), _count(state, r"c(\d+)s?\.")
    if not residual:
        channels = _first(state, rf"c{plain}(s\.\d+)?\.weight_orig").shape[0]
        side = round((linear.shape[1] / channels) ** 0.5)
        return "sndcgan.SNDCGAN", {"resolution": side << (plain - 1) // 2, "channels": channels}
    resolution = {4: 32, 5: 64, 6: 128}[residual]
    if residual == 5 and "l5.weight_orig" in state:  # so mimicry calls it at 48 px, its fork does not
        resolution = 48
    classes = _first(state, r"l_y(s\.\d+)?\.weight_orig").shape[0] if _count(state, "(l_y)s?[.]") else 0
    arguments = {"resolution": resolution, "num_classes": classes, "channels": linear.shape[1]}
    return "sngan.SNGAN", arguments


def _count(state: State, pattern: str) -> int:
    return len({m[1] for name in state if (m := re.match(pattern, name))})


def _first(state: State, pattern: str) -> Tensor:
    return state[next((name for name in state if re.fullmatch(pattern, name)), pattern)]


def _filled(config: Config, state: State, kind: str, source: str) -> Network:
    with torch.device("meta"):  # shapes alone: a file may ask for any size
        expected = {name: tuple(x.shape) for name, x in build_network(config).state_dict().items()}
    names = original_names(expected, state, kind)
    wanted = {names[name]: shape for name, shape in expected.items()}
    refuse_misfits(wanted, state, f"{source} is no {config['class_path'].rpartition('.')[2]}")
    network = build_network(config)
    network.load_state_dict({own: state[name] for own, name in names.items()})
    return network
