"""The layout of MineGAN's miners (Wang et al. 2020), one class for each of its generators."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gansharing.checkpoints.foreign import Imported, read_bytes, read_torch, state_of
from gansharing.checkpoints.unpickle import printable
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.networks.miners import BigGANMiner, ConvMiner, Miner, NoiseMiner

State = Mapping[str, Tensor]
# A tensor that only one miner has, and how its shapes build it.
_KINDS: Mapping[str, Callable[[State], Network]] = {
    "transform.0.weight": lambda s: _mlp(s),
    "input.input": lambda s: ConvMiner([s["input.input"].shape[1], *_outputs(s, r"conv\d+\.weight")]),
    "transform_4.0.weight": lambda s: NoiseMiner(),
    "linear8.weight": lambda s: BigGANMiner(s["linear.weight"].shape[1], s["linear8.weight"].shape[0]),
}
# In the originals' state dicts, used by none of their forwards.
_UNUSED = re.compile(r"transform_(64|128)\.\d+\.(weight|bias)|shared\.weight")


def read_minegan(path: Path, part: str | None) -> Imported:
    """Read a miner: a state dict alone, or one named like ``miner`` or ``minor`` in a checkpoint.

    Layers that the originals build and never use are dropped, and named in the notes.

    Args:
        path: The file.
        part: ``miner``, or the name of one of the checkpoint's miners; None for its only one.

    Raises:
        UserError: It holds code, is damaged, or holds no miner; tensors that do not fit are named.
    """
    source = str(path)
    name, state = _find(read_torch(read_bytes(path), source), part, source)
    unused = sorted(key for key in state if _UNUSED.fullmatch(key))
    state = {key: tensor.float() for key, tensor in state.items() if key not in unused}
    mark = next((mark for mark in _KINDS if mark in state), None)
    if mark is None:
        raise UserError(
            f"{source} holds no miner that is known: no tensor {', '.join(_KINDS)} in {printable(name)}"
        )
    try:
        network = _KINDS[mark](state)
        network.load_state_dict(state)
    except (RuntimeError, KeyError, IndexError) as error:
        problem = printable(" ".join(str(error).split()), 300)
        raise UserError(f"{source} holds an incomplete miner, or of another shape: {problem}") from error
    notes = [f"dropped, unused by the original: {', '.join(unused)}"] if unused else []
    return Imported(network, "miner", [*notes, f"read {printable(name)}"])


def _find(content: Any, part: str | None, source: str) -> tuple[str, dict[str, Tensor]]:
    alone = state_of(content)
    if any(mark in alone for mark in _KINDS):
        return "its only network", alone
    held = {
        str(name): state_of(value)
        for name, value in (content.items() if isinstance(content, Mapping) else ())
        if re.search("min[eo]r", str(name).lower()) and isinstance(value, Mapping)
    }
    wanted = part if part in held else next(iter(held)) if len(held) == 1 else None
    if wanted is None:
        there = printable(", ".join(held)) or "none"
        raise UserError(f"{source}: which miner? it holds {there}; save one state dict of them alone")
    return wanted, held[wanted]


def _mlp(state: State) -> Network:
    return Miner(state["transform.0.weight"].shape[1])


def _outputs(state: State, pattern: str) -> list[int]:
    return [state[name].shape[0] for name in sorted(state) if re.fullmatch(pattern, name)]
