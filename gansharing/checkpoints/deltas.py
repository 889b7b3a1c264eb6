"""Deltas on disk: one flat tensor a kind and type, and a header that names network, sharing and base."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from gansharing.checkpoints.networks import HEADER, find_checkpoint, load
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.sharing.compression import Shapes, compress, expand, low_rank_of
from gansharing.sharing.delta import Delta, Slots, delta_of

_FIELDS = ("network", "shared_hash", "layout", "content_hash")


def export_delta(
    model: str | Path, out: str | Path, part: str = "generator", energy: float | None = None
) -> Delta:
    """Write what the domain owns of a transferred network.

    Args:
        model: A checkpoint or a run's folder of a transfer.
        out: Target file.
        part: ``generator`` (the averaged one) or ``discriminator``.
        energy: Keep of each matrix beside frozen weights the largest singular values, this share of their
            sum (:func:`~gansharing.sharing.compression.compress`).

    Returns:
        The delta that :func:`read_delta` makes of the file.

    Raises:
        UserError: The checkpoint cannot be read, its network is not divided, ``energy`` is no share, or
            ``out`` cannot be written.
    """
    network = load(model, part, divided=True)
    source = find_checkpoint(model)
    if "sharing" not in network.config:
        raise UserError(
            f"the {part} of {source} is not divided, so it has no delta; export one of a run of Transfer"
        )
    delta = delta_of(network, {"source": source.name, "part": part})
    if energy is None:
        save_delta(delta, out)
        return delta
    save_delta(delta, out, (Slots(network).shapes(), energy))
    return read_delta(out)


def save_delta(delta: Delta, path: str | Path, low_rank: tuple[Shapes, float] | None = None) -> None:
    """Write a delta as safetensors, atomically; the file is at most 4 kB larger than its numbers.

    Args:
        delta: The delta.
        path: Target file.
        low_rank: Names and shapes of its tensors, and the share of their singular values that is kept.

    Raises:
        UserError: The file cannot be written, or the delta not compressed.
    """
    tensors, more = delta.tensors, dict[str, Any]()
    if low_rank is not None:
        compressed = compress(delta, *low_rank)
        tensors, more = compressed.tensors, {"energy": low_rank[1], "low_rank": compressed.pieces}
    header = {
        "version": 2 if more else 1,
        "kind": "delta",
        "network": delta.config,
        "shared_hash": delta.shared_hash,
        "layout": delta.layout,
        "content_hash": _content_hash(tensors),
        "origin": delta.origin,
        **more,
    }
    text = json.dumps(header, separators=(",", ":"))
    payload = to_bytes({k: v.contiguous() for k, v in tensors.items()}, metadata={HEADER: text})
    write_atomically(path, lambda file: file.write(payload))


def kind_of(path: str | Path) -> str | None:
    """What a file says of itself: ``delta``, ``shared``, or None for anything else. It may be damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get(HEADER, "null"))
    except (SafetensorError, json.JSONDecodeError, OSError):
        return None
    kind = meta.get("kind") if isinstance(meta, dict) else None
    return kind if isinstance(kind, str) else None


def read_delta(path: str | Path) -> Delta:
    """Read a delta; :func:`~gansharing.sharing.apply_delta` puts it into its base.

    Raises:
        UserError: The file is missing, damaged, or no delta.
    """
    if not Path(path).is_file():
        raise UserError(f"no delta at {path}; write one with 'gansharing export RUN --delta true'")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get(HEADER, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
    if not isinstance(meta, dict) or meta.get("kind") != "delta":
        raise UserError(f"{path} is no delta; write one with 'gansharing export RUN --delta true'")
    _check(path, meta, tensors)
    if "low_rank" in meta:
        try:
            tensors = expand(low_rank_of(tensors, meta["low_rank"]))
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}; export it again") from error
    return Delta(
        meta["network"], meta["shared_hash"], meta["layout"], tensors, meta.get("origin", {}), str(path)
    )


def _check(path: str | Path, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    if meta.get("version") not in (1, 2):
        raise UserError(f"{path} is a delta of format {meta.get('version')}, this program reads 1 and 2")
    missing = [name for name in _FIELDS if name not in meta]
    if missing or not isinstance(meta["network"], dict):
        raise UserError(f"{path} is damaged: its header lacks {', '.join(missing) or 'a network'}")
    if meta["content_hash"] != _content_hash(tensors):
        raise UserError(f"{path} is damaged: its numbers do not have the hash in its header; copy it again")


def _content_hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].contiguous()
        digest.update(f"{name} {tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
