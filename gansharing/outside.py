"""Networks, sharings and setups of others: found beside the user, imported when the user names them."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gansharing.errors import UserError

_OPTION = "--import"
# What a configuration of this program names anyway; importing it runs nothing of the file's author.
_TRUSTED = {"gansharing", "lightning", "torch"}


@contextmanager
def modules_here() -> Iterator[None]:
    """Make modules of the current folder importable, as ``python -m`` does, but after all others.

    A file named like an installed package, or like a part of Python, replaces neither.
    """
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def import_named(args: Sequence[str]) -> list[str]:
    """Import what ``--import MODULE`` names, anywhere on a command line and any number of times.

    Returns:
        The command line without it.

    Raises:
        UserError: A module is not named, not found or fails while it is imported.
    """
    left = []
    words = iter(args)
    for word in words:
        if word == _OPTION or word.startswith(f"{_OPTION}="):
            import_module(word.partition("=")[2] or next(words, ""))
        else:
            left.append(word)
    return left


def import_module(name: str) -> None:
    """Import a module by its dotted name.

    Raises:
        UserError: It is not found, or fails while it is imported.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserError(
            f"{_OPTION} '{name}' is no module's name; write --import my_networks for my_networks.py"
        )
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"{_OPTION} {name} fails: {error}") from error
        raise UserError(
            f"there is no module '{name}' in this folder, on PYTHONPATH or installed; "
            "start gansharing where it lies, or set PYTHONPATH"
        ) from error
    except Exception as error:  # whatever its author's code does
        raise UserError(f"{_OPTION} {name} fails: {type(error).__name__}: {error}") from error


def require_imported(config: Any, path: str) -> None:
    """Refuse a checkpoint's configuration that names classes of modules that the user has not.

    A class path is imported when it is built, which runs its module: a file's author must not choose one.

    Args:
        config: The configuration, or a part of it.
        path: The checkpoint, for the message.

    Raises:
        UserError: It names a class of a module that is neither of this project nor imported.
    """
    for name in _import_paths(config):
        module = name.rpartition(".")[0]
        if module.partition(".")[0] not in _TRUSTED and module not in sys.modules:
            raise UserError(
                f"{path} was trained with '{name}', which is not of gansharing; "
                f"if you trust that module, add --import {module}"
            )


def _import_paths(config: Any) -> Iterator[str]:
    """Dotted names that building this configuration may import: of classes, and of functions given bare."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "class_path" and "." in str(value):
                yield str(value)
            else:
                yield from _import_paths(value)
    elif isinstance(config, list):
        for value in config:
            yield from _import_paths(value)
    elif isinstance(config, str) and "." in config and _is_module_of(config):
        yield config


def _is_module_of(word: str) -> bool:
    # "photos.zip" is a file, even beside a folder of that name; "photos" with a .py file is a module.
    if not all(part.isidentifier() for part in word.split(".")):
        return False
    spec = importlib.util.find_spec(word.partition(".")[0])
    return spec is not None and spec.origin is not None
