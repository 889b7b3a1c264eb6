"""Files and commands that a page of the documentation shows."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files(page: Path) -> dict[str, str]:
    """Blocks that begin with the name of a file, ``# residual.py``, by that name."""
    named = {}
    for _, block in _FENCE.findall(page.read_text()):
        if match := re.match(r"# ([\w.-]+\.(?:py|yaml))\n", block):
            named[match[1]] = block
    return named


def commands(page: Path) -> list[list[str]]:
    """Command lines of the page's bash blocks, in order, as words."""
    blocks = [
        block.replace("\\\n", " ")
        for language, block in _FENCE.findall(page.read_text())
        if language == "bash"
    ]
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if shlex.split(line, comments=True)]
