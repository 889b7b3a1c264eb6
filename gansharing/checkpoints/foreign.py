"""Reading pickled checkpoints of other projects without running what is in them."""

import pickle
import types
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gansharing.errors import UserError

# What torch needs to rebuild tensors; everything else becomes an inert placeholder.
_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}


class Placeholder(dict[Any, Any]):
    """Stands for an object whose class is never looked up; swallows whatever the pickle does to it."""

    def __new__(cls, *_: Any, **__: Any) -> "Placeholder":
        """Ignore the constructor's arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    def __call__(self, *_: Any, **__: Any) -> "Placeholder":
        """Pretend to be a function."""
        return self

    def append(self, _: Any) -> None:
        """Ignore list items."""

    def extend(self, _: Any) -> None:
        """Ignore list items."""


class _TensorsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Known tensor constructors, storage types, or a placeholder."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[(module, name)]
        if module in ("torch", "torch.storage") and name.endswith("Storage") and name.isidentifier():
            return getattr(torch, name, None) or getattr(torch.storage, name)
        return Placeholder


_pickle_module = types.ModuleType("tensors_only")
_pickle_module.Unpickler = _TensorsOnly  # type: ignore[attr-defined]
_pickle_module.load = lambda file, **kw: _TensorsOnly(file, **kw).load()  # type: ignore[attr-defined]


def read_tensors(path: str | Path) -> Any:
    """Read a torch file as nested containers of tensors.

    Classes named by the file are neither imported nor called: their objects become empty placeholders.

    Raises:
        UserError: The file is missing or no torch file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        return torch.load(path, map_location="cpu", pickle_module=_pickle_module, weights_only=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"cannot read {path} as a torch checkpoint: {reason}") from error


def flat_state(content: Any) -> dict[str, Tensor]:
    """The checkpoint's state dict, with or without Lightning's ``state_dict`` level."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        return {}
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
