"""Commands that are no trainer verbs. Each is a typed function; jsonargparse makes its options."""

import importlib
import json
from collections.abc import Sequence
from inspect import signature  # not the module: a tool of this package has its name
from itertools import takewhile, zip_longest
from typing import Any

from jsonargparse import auto_cli

from gansharing.usage import ToolParser

# Imported only when called: a command should not pay for the others.
TOOLS = {
    "sample": "gansharing.tools.sample:sample",
    "interpolate": "gansharing.tools.sample:interpolate",
    "mix": "gansharing.tools.style:mix",
    "truncation": "gansharing.tools.style:truncation",
    "project": "gansharing.tools.project:project",
    "score": "gansharing.tools.score:score",
    "explore": "gansharing.tools.explore:explore",
    "report": "gansharing.tools.report:report",
    "inspect": "gansharing.tools.inspect:inspect",
    "modulation": "gansharing.tools.modulation:modulation",
    "export": "gansharing.tools.convert:export",
    "import": "gansharing.tools.convert:import_",
    "data": "gansharing.tools.data:COMMANDS",
    "experiments": "gansharing.tools.experiments:experiments",
    "slurm": "gansharing.tools.slurm:slurm",
}
# Another function of the same name: what it is to work on is given by options.
_WITH_OPTION = {("sample", option): "gansharing.tools.domains:sample_domains" for option in ("base", "delta")}


def run_tool(args: Sequence[str]) -> Any:
    """Run the tool ``args[0]`` with the rest of the command line.

    Raises:
        SystemExit: ``--help`` was asked for (status 0).
        UserError: Bad options or bad input.
    """
    options = {word.removeprefix("--").partition("=")[0] for word in args if word.startswith("--")}
    special = [
        target for (tool, option), target in _WITH_OPTION.items() if tool == args[0] and option in options
    ]
    module, _, name = (special or [TOOLS[args[0]]])[0].partition(":")
    component = getattr(importlib.import_module(module), name)
    return auto_cli(
        component,
        args=_with_flags(component, _with_lists(component, list(args[1:]))),
        prog=f"gansharing {args[0]}",
        as_positional=not special,
        parser_class=ToolParser,
    )


def _with_lists(component: Any, args: list[str]) -> list[str]:
    """Write ``MODEL A B`` as ``MODEL ["A", "B"]`` where the last of the required arguments is a list."""
    if isinstance(component, dict):
        return args
    parameters = signature(component).parameters.values()
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    words = list(takewhile(lambda word: not word.startswith("-"), args))
    if not required or required[-1].annotation != list[str] or len(words) < len(required):
        return args
    first = len(required) - 1
    return [*words[:first], json.dumps(words[first:]), *args[len(words) :]]


def _with_flags(component: Any, args: list[str]) -> list[str]:
    """Write ``--flag`` as ``--flag=true`` where no value follows and the argument is a truth value."""
    if isinstance(component, dict):
        return args
    flags = {
        f"--{name}"
        for name, parameter in signature(component).parameters.items()
        if parameter.annotation is bool
    }
    return [
        f"{word}=true" if word in flags and after.startswith("--") else word
        for word, after in zip_longest(args, args[1:], fillvalue="--")
    ]
