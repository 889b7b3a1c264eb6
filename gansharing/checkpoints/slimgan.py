"""Checkpoints of SlimGAN (Hou et al. 2021), a fork of mimicry."""

import re
from pathlib import Path

from gansharing.checkpoints.foreign import Imported
from gansharing.checkpoints.mimicry import Config, State, ordinary, read_named
from gansharing.networks.base import Network
from gansharing.slimmable import PerWidthDiscriminator, SlimmableGenerator
from gansharing.slimmable.width import first_channels

# The first norm of a generator that has one for each width.
_NORM = re.compile(r"(?:block2\.)?b1\.c?bn\.(\d+)\.weight")
_COPY = re.compile(r"(?:block1s\.(\d+)\.c1|c1s\.(\d+))\.weight_orig")


def read_slimgan(path: Path, part: str | None) -> Imported:
    """Read a network of SlimGAN's code: slimmable, or one of its baselines.

    A discriminator's file holds a copy of every layer for each width and does not say how many stages were
    shared: it is read with all copies, of which ``with_shared(n_share)`` keeps those that were used.

    Args:
        path: The file: a checkpoint (``model_state_dict``) or a state dict alone.
        part: ``generator``, ``discriminator``, or None for what the file holds.

    Raises:
        UserError: It holds code, is damaged, or holds another network; tensors that do not fit are named.
    """
    read = read_named(path, part, _described)
    if isinstance(read.network, PerWidthDiscriminator):
        read.notes.append(
            "the file does not say n_share: all copies are kept; .with_shared(n) drops the rest"
        )
    return read


def _described(state: State, kind: str) -> Config:
    plain = ordinary(state, kind)
    sizes = {int(m[1]): x.shape[0] for name, x in state.items() if (m := _NORM.fullmatch(name))}
    copied = {int(m[1] or m[2]) for name in state if (m := _COPY.fullmatch(name))}
    if not sizes and not copied:
        return plain
    wrapper: type[Network] = SlimmableGenerator if kind == "generator" else PerWidthDiscriminator
    widths = _widths([sizes[number] for number in sorted(sizes)] or sorted(copied))
    return {
        "class_path": f"{wrapper.__module__}.{wrapper.__qualname__}",
        "init_args": {"network": plain, "widths": widths},
    }


def _widths(sizes: list[int]) -> list[float]:
    """Even steps where the norms' channels agree, as in all of the original's files; else by the channels."""
    even = [(number + 1) / len(sizes) for number in range(len(sizes))]
    if sizes == list(range(len(sizes))) or sizes == [first_channels(sizes[-1], width) for width in even]:
        return even
    return [size / sizes[-1] for size in sizes]
