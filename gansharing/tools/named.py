"""Networks and sharings as a configuration names them, built as sizes alone."""

import importlib
from collections.abc import Mapping
from typing import Any

import torch

from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.sharing import Sharing

_ROOMS = ("gansharing.networks", "gansharing.sharing", "gansharing.slimmable")


def built(spec: Mapping[str, Any]) -> Any:
    """A network or a sharing of this package on the meta device: shapes without weights.

    Args:
        spec: ``{"class_path": ..., "init_args": {...}}`` as a run's ``config.yaml`` has it, possibly nested.
            Nothing outside of the package is imported, so the file need not be trusted.

    Raises:
        UserError: The class is none of this package, or does not take these arguments.
    """
    path = str(spec.get("class_path"))
    module, _, name = path.rpartition(".")
    known = any(module == room or module.startswith(f"{room}.") for room in _ROOMS)
    kind = getattr(importlib.import_module(module), name, None) if known else None
    if not isinstance(kind, type) or not issubclass(kind, Network | Sharing):
        raise UserError(f"'{path}' is no network and no sharing of gansharing; its size cannot be told")
    arguments = {key: _value(value) for key, value in (spec.get("init_args") or {}).items()}
    try:
        with torch.device("meta"):
            return kind(**arguments)
    except TypeError as error:
        raise UserError(f"'{path}' cannot be built from these arguments: {error}") from error


def _value(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return built(value)
    return [_value(part) for part in value] if isinstance(value, list) else value
