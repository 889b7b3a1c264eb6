"""How mimicry and SlimGAN name the tensors of the networks here."""

import re
from collections.abc import Iterable

_CHAIN = re.compile(r"\.parametrizations\.(weight|bias)\.(?:original|\d+\.(_[uv]))$")
# Here to there, of names without parametrisations. N stands for the number of the file's last layers.
_GENERATOR = [
    (r"first\.", "l1."),
    (r"norm\.norms\.(\d+)\.", r"bN.bn.\1."),
    (r"norm\.", "bN."),
    (r"to_rgb\.", "cN."),
    (r"blocks\.(\d+)\.conv\.", r"c{1}."),
    (r"blocks\.(\d+)\.norm\.norms\.(\d+)\.", r"b{1}.bn.\2."),
    (r"blocks\.(\d+)\.norm\.", r"b{1}."),
    (r"blocks\.(\d+)\.(b[12])\.norms\.(\d+)\.", r"block{2}.\2.bn.\3."),
    (r"blocks\.(\d+)\.(b[12])\.norm\.", r"block{2}.\2.bn."),
    (r"blocks\.(\d+)\.", r"block{2}."),
]
_DISCRIMINATOR = [
    (r"blocks\.(\d+)\.conv\.", r"c{1}."),
    (r"blocks\.(\d+)\.", r"block{1}."),
    (r"trunk\.block(\d+)\.(\d+)\.conv\.", r"c\1s.\2."),
    (r"trunk\.block(\d+)\.(\d+)\.", r"block\1s.\2."),
    (r"head\.linear\.", "lN."),
    (r"head\.embed\.", "l_y."),
    (r"head\.(\d+)\.linear\.", r"lNs.\1."),
    (r"head\.(\d+)\.embed\.", r"l_ys.\1."),
]


def original_names(own: Iterable[str], file: Iterable[str], kind: str) -> dict[str, str]:
    """Names of a network's tensors here to those in a file.

    Args:
        own: Of the network, ordinary or slimmable.
        file: Names in the file, which number its last layers and tell norms by class.
        kind: ``generator`` or ``discriminator``.
    """
    file = list(file)
    letter = "c" if kind == "generator" else "l"
    last = max((int(m[1]) for name in file if (m := re.match(rf"{letter}(\d+)s?\.", name))), default=0)
    by_class = any(".cbn." in name for name in file)
    found = {}
    for name in own:
        there = _renamed(_plain(name.removeprefix("network."), kind), kind, last)
        found[name] = there.replace(".bn.", ".cbn.") if by_class and there.startswith("block") else there
    return found


def _plain(name: str, kind: str) -> str:
    chained = _CHAIN.search(name)
    if chained is None:
        return name
    orig = "_orig" if kind == "discriminator" and chained[1] == "weight" else ""
    return f"{name[: chained.start()]}.{chained[1]}{chained[2] or orig}"


def _renamed(name: str, kind: str, last: int) -> str:
    for pattern, there in _GENERATOR if kind == "generator" else _DISCRIMINATOR:
        if match := re.match(pattern, name):
            # Blocks here count from 0, there from {1} or {2}.
            for base in (1, 2):
                if f"{{{base}}}" in there:
                    there = there.replace(f"{{{base}}}", str(int(match[1]) + base))
            return match.expand(there).replace("N", str(last)) + name[match.end() :]
    return name
