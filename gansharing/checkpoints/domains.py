"""Several domains on disk: what they share, once, and a delta for each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gansharing.checkpoints.deltas import save_delta
from gansharing.checkpoints.networks import (
    find_checkpoint,
    load,
    load_domains,
    read_safetensors,
    write_safetensors,
)
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing import build_shared, merged, split_of
from gansharing.sharing.compression import Shapes
from gansharing.sharing.delta import Delta, Slots, delta_of


@dataclass(frozen=True)
class DomainFiles:
    """What :func:`export_deltas` wrote.

    Attributes:
        shared: The file of θ_S.
        deltas: The delta of each domain, by name.
        whole_bytes: What the numbers of as many whole networks take.
    """

    shared: Path
    deltas: dict[str, Path]
    whole_bytes: int

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(path.stat().st_size for path in (self.shared, *self.deltas.values()))


def export_deltas(
    model: str | Path, out: str | Path, part: str = "generator", energy: float | None = None
) -> DomainFiles:
    """Write what the domains of a multi-domain training share, and what each of them owns.

    Args:
        model: Its checkpoint, or the run's folder.
        out: Target folder, for ``shared.safetensors``, which :func:`load_base` reads, and
            ``deltas/NAME.safetensors``.
        part: ``generator`` (the averaged ones) or ``discriminator``.
        energy: As in :func:`~gansharing.checkpoints.export_delta`.

    Raises:
        UserError: The checkpoint cannot be read or holds no domains, its domains have nothing in common,
            ``energy`` is no share, or ``out`` cannot be written.
    """
    source, folder = find_checkpoint(model), Path(out)
    deltas: dict[str, tuple[Delta, Shapes]] = {}
    for name, network in load_domains(source, part):
        if Path(name).name != name:
            raise UserError(f"{source} has a domain '{name}', which cannot name a file; it is damaged")
        if not split_of(network).shared:
            raise UserError(f"the {part}s of {source} have nothing in common; export each by --part {part}")
        origin = {"source": source.name, "part": f"{part}.{name}"}
        deltas[name] = delta_of(network, origin), Slots(network).shapes()
    if len({delta.shared_hash for delta, _ in deltas.values()}) > 1:
        raise UserError(
            f"{source} is damaged: its domains differ in what they share; take another checkpoint"
        )
    paths = {name: folder / "deltas" / f"{name}.safetensors" for name in deltas}
    for name, (delta, shapes) in deltas.items():
        save_delta(delta, paths[name], None if energy is None else (shapes, energy))
    own = split_of(network)
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name not in own.domain and name not in own.domain_buffers
    }
    header = {"version": 1, "kind": "shared", "part": part, "network": network.config}
    write_safetensors(state, folder / "shared.safetensors", header | {"origin": {"source": source.name}})
    whole = sum(tensor.nbytes for tensor in merged(network).state_dict().values())
    return DomainFiles(folder / "shared.safetensors", paths, len(paths) * whole)


def load_base(path: str | Path) -> Network:
    """What deltas are put into: a whole network, or what :func:`export_deltas` wrote as shared.

    Args:
        path: A file that :func:`~gansharing.checkpoints.load` reads, or ``shared.safetensors``.

    Returns:
        The network on the CPU, in eval mode, without gradients. Of ``shared.safetensors`` it is divided, and
        the domain's weights are NaN until :func:`~gansharing.sharing.apply_delta` brings them.

    Raises:
        UserError: The file is missing, damaged, or no base.
    """
    path = find_checkpoint(path)
    meta, state = read_safetensors(path) if path.suffix == ".safetensors" else (dict[str, Any](), {})
    if meta.get("kind") != "shared":
        return load(path)
    network = build_shared(meta["network"])
    split = split_of(network)
    own = split.domain | split.domain_buffers
    try:
        network.load_state_dict({**{name: tensor.detach() for name, tensor in own.items()}, **state})
    except RuntimeError:
        raise UserError(
            f"{path} is damaged: it is not what the network it names shares; export it again"
        ) from None
    with torch.no_grad():
        for tensor in own.values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
    return network.eval().requires_grad_(False)
