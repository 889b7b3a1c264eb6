"""Networks on disk: read from checkpoints and safetensors files, written as safetensors."""

import json
from collections.abc import Iterator, Mapping
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
    read = _read_exported if path.suffix == ".safetensors" else _read_part
    network = _filled(path, *read(path, part))
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


def load_domains(path: str | Path, part: str = "generator") -> Iterator[tuple[str, Network]]:
    """The networks of a multi-domain checkpoint, divided as in training, one after the other.

    Args:
        path: The checkpoint, or the run's folder.
        part: ``generator`` (the averaged ones) or ``discriminator``.

    Yields:
        A domain's name, and its network on the CPU, in eval mode, without gradients.

    Raises:
        UserError: The file is missing, damaged, or holds no domains.
    """
    path = find_checkpoint(path)
    checkpoint = _checkpoint(path)
    names = [name for name in checkpoint["networks"] if name.startswith(f"{part}.")]
    if not names:
        raise UserError(f"{path} holds no domains; give a run of MultiDomain")
    for name in names:
        network = _filled(path, *_part_of(checkpoint, name))
        yield name.removeprefix(f"{part}."), network.eval().requires_grad_(False)


def _checkpoint(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint.get("networks"), dict):
        raise UserError(f"{path} was not written by gansharing; read it with 'gansharing import'")
    return checkpoint


def _part_of(checkpoint: dict[str, Any], part: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    prefix = f"{part}."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    return checkpoint["networks"][part], state


def _read_part(path: Path, part: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = _checkpoint(path)
    if part not in checkpoint["networks"]:
        raise UserError(f"{path} holds no {part}; it holds {', '.join(checkpoint['networks'])}")
    return _part_of(checkpoint, part)


def _filled(path: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Network:
    network = build_shared(config)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit the network it names: {' '.join(str(error).split())}"
        ) from error
    return network


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file of ours.

    Raises:
        UserError: It is damaged, or another program's.
    """
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
    return meta, state


def _read_exported(path: Path, part: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    meta, state = read_safetensors(path)
    if meta.get("kind") == "delta":
        raise UserError(
            f"{path} is a delta, which needs its base: gansharing sample --base BASE --delta {path}"
        )
    if meta.get("kind") == "shared":
        raise UserError(
            f"{path} is what several domains have in common: gansharing sample --base {path} --delta DELTA"
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
    header = {"version": 1, "part": part, "network": network.config, "origin": origin or {}}
    write_safetensors(network.state_dict(), path, header)


def write_safetensors(state: Mapping[str, Tensor], path: str | Path, header: dict[str, Any]) -> None:
    """Write tensors and our header, atomically.

    Raises:
        UserError: The file cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    # safetensors refuses tensors that share memory; a copy of each costs nothing here.
    state = {name: torch.empty_like(tensor).copy_(tensor) for name, tensor in state.items()}
    payload = to_bytes(state, metadata={HEADER: json.dumps(header)})
    write_atomically(path, lambda file: file.write(payload))
