"""Networks on disk: read from checkpoints and safetensors files, written as safetensors."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

import gansharing.slimmable  # noqa: F401  (makes its networks known)
from gansharing.checkpoints.atomic import read_checkpoint
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.networks import Network
from gansharing.sharing import build_shared, merged

HEADER = "gansharing"


def load(path: str | Path, part: str = "generator", divided: bool = False) -> Network:
    """A ready network from a run, a checkpoint or an exported file.

    Nothing stored in the file is executed, and neither data nor configuration are needed.

    Args:
        path: A ``.ckpt`` of a run, a ``.safetensors`` file of ``gansharing export`` or ``import``, or a
            run's folder (its best checkpoint, else its last).
        part: ``generator`` (the averaged one) or ``discriminator``.
        divided: Keep the division into θ_D and θ_S that a transfer trained; without it the parts are merged
            into an ordinary network that computes the same.

    Returns:
        The network on the CPU, in eval mode, without gradients.

    Raises:
        UserError: The file is missing, damaged, no file of gansharing, or holds no such part.
    """
    path = find_checkpoint(path)
    config, state = _read_safetensors(path, part) if path.suffix == ".safetensors" else _read_part(path, part)
    network = build_shared(config)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit the network it names: {' '.join(str(error).split())}"
        ) from error
    return (network if divided else merged(network)).eval().requires_grad_(False)


def find_checkpoint(path: str | Path) -> Path:
    """The file that ``path`` means: itself, or a run folder's best, else last, checkpoint.

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        for name in ("best.ckpt", "last.ckpt"):
            if (folder / name).is_file():
                return folder / name
        raise UserError(
            f"no checkpoint in {path}; expected best.ckpt or last.ckpt in it or in its checkpoints/"
        )
    if not path.is_file():
        raise UserError(f"no file {path}; pass a .ckpt, a .safetensors or a run's folder")
    return path


def _read_part(path: Path, part: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = read_checkpoint(path)
    networks = checkpoint.get("networks")
    if not isinstance(networks, dict):
        raise UserError(f"{path} was not written by gansharing; read it with 'gansharing import'")
    if part not in networks:
        raise UserError(f"{path} holds no {part}; it holds {', '.join(networks)}")
    prefix = f"{part}."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    return networks[part], state


def _read_safetensors(path: Path, part: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            state = {name: file.get_tensor(name) for name in file.keys()}
        meta = json.loads(header) if header else None
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
    if not isinstance(meta, dict) or "network" not in meta:
        raise UserError(
            f"{path} has no gansharing header, so its network is unknown; make it with 'gansharing export'"
        )
    if meta.get("kind") == "delta":
        raise UserError(
            f"{path} is a delta, which needs its base: gansharing sample --base BASE --delta {path}"
        )
    if meta.get("part") != part:
        raise UserError(f"{path} holds a {meta.get('part')}, not a {part}")
    return meta["network"], state


def save_network(network: Network, path: str | Path, part: str, origin: dict[str, Any] | None = None) -> None:
    """Write a network as safetensors whose header rebuilds it.

    Args:
        network: The network.
        path: Target file, written atomically.
        part: ``generator`` or ``discriminator``.
        origin: Where it comes from (source file, step); plain values, kept in the header.

    Raises:
        UserError: The file cannot be written.
    """
    header = json.dumps({"version": 1, "part": part, "network": network.config, "origin": origin or {}})
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    # safetensors refuses tensors that share memory; a copy of each costs nothing here.
    state = {name: torch.empty_like(tensor).copy_(tensor) for name, tensor in state.items()}
    payload = to_bytes(state, metadata={HEADER: header})
    write_atomically(path, lambda file: file.write(payload))
