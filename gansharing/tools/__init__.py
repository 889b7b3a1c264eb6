"""Commands that are no trainer verbs. Each is a typed function; jsonargparse makes its options."""

import importlib
from collections.abc import Sequence
from typing import Any

from jsonargparse import auto_cli

from gansharing.usage import ToolParser

# Imported only when called: a command should not pay for the others.
TOOLS = {
    "sample": "gansharing.tools.sample:sample",
    "interpolate": "gansharing.tools.sample:interpolate",
    "score": "gansharing.tools.score:score",
    "inspect": "gansharing.tools.inspect:inspect",
    "export": "gansharing.tools.convert:export",
    "import": "gansharing.tools.convert:import_",
    "data": "gansharing.tools.data:COMMANDS",
}


def run_tool(args: Sequence[str]) -> Any:
    """Run the tool ``args[0]`` with the rest of the command line.

    Raises:
        SystemExit: ``--help`` was asked for (status 0).
        UserError: Bad options or bad input.
    """
    module, _, name = TOOLS[args[0]].partition(":")
    component = getattr(importlib.import_module(module), name)
    prog = f"gansharing {args[0]}"
    return auto_cli(component, args=list(args[1:]), prog=prog, as_positional=True, parser_class=ToolParser)
