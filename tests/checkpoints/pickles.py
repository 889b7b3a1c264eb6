"""Writes checkpoints as the original programs pickle them, without those programs."""

import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FIR = torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
SOURCE = "open('EXECUTED', 'w').close()\nraise SystemExit('the source text in a checkpoint was run')\n"


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = function, arguments, state

    def __reduce__(self) -> Any:
        return self.parts if self.parts[2] is not None else self.parts[:2]


@contextmanager
def pretending(*paths: str) -> Iterator[list[Any]]:
    """Functions that pickle takes for the named ones; their modules exist for the while."""
    made, added = [], set()
    for path in paths:
        module, _, name = path.rpartition(".")
        for end in range(1, module.count(".") + 2):
            whole = ".".join(module.split(".")[:end])
            if whole not in sys.modules:
                sys.modules[whole] = types.ModuleType(whole)
                added.add(whole)
        stub = type(name, (), {"__module__": module, "__qualname__": name})
        if not hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, stub)
        made.append(getattr(sys.modules[module], name))
    try:
        yield made
    finally:
        for name in added:
            del sys.modules[name]


def with_filters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The constant filters that the official modules keep beside their weights."""
    blocks = {name.rpartition(".")[0].rpartition(".")[0] for name in state if ".conv1.weight" in name}
    ends = tuple(f".{layer}.weight" for layer in ("conv0", "conv1", "conv", "skip", "fromrgb"))
    layers = {name.removesuffix(".weight") for name in state if name.endswith(ends)}
    return {**state, **{f"{holder}.resample_filter": FIR for holder in blocks | layers}}


def nvidia_pickle(
    networks: Mapping[str, tuple[str, Mapping[str, Tensor], dict[str, Any]]], **options: Any
) -> bytes:
    """A pickle of stylegan2-ada-pytorch.

    Args:
        networks: ``G``, ``D``, ``G_ema`` to class name, state dict and constructor arguments.
        options: Of :func:`pickle.dumps`.
    """
    with pretending("torch_utils.persistence._reconstruct_persistent_obj", "dnnlib.util.EasyDict") as (
        build,
        _,
    ):
        content: dict[str, Any] = {"training_set_kwargs": {"path": "images.zip"}, "augment_pipe": None}
        for key, (name, state, arguments) in networks.items():
            content[key] = _module(build, name, with_filters(state), arguments)
        return pickle.dumps(content, **options)


def _module(build: Any, name: str, state: Mapping[str, Tensor], arguments: dict[str, Any] | None) -> Call:
    own: OrderedDict[str, Any] = OrderedDict((k, v) for k, v in state.items() if "." not in k)
    names = dict.fromkeys(key.partition(".")[0] for key in state if "." in key)
    children = {
        child: _module(
            build,
            "Part",
            {k.removeprefix(f"{child}."): v for k, v in state.items() if k.startswith(f"{child}.")},
            None,
        )
        for child in names
    }
    buffers = ("resample_filter", "noise_const", "w_avg")
    attributes = {
        "training": False,
        "_parameters": OrderedDict((k, nn.Parameter(v)) for k, v in own.items() if k not in buffers),
        "_buffers": OrderedDict((k, v) for k, v in own.items() if k in buffers),
        "_modules": OrderedDict(children),
        "weight_gain": 0.5,
    }
    if arguments is not None:
        attributes |= {"_init_args": (), "_init_kwargs": arguments}
    meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": name, "state": attributes}
    return Call(build, meta)


def tensorflow_pickle(networks: list[dict[str, Any]], **options: Any) -> bytes:
    """A pickle of the TensorFlow versions: states of ``dnnlib.tflib.network.Network`` in a tuple."""
    with pretending("dnnlib.tflib.network.Network") as (cls,):

        def network(state: dict[str, Any]) -> Any:
            made = cls()
            made.__dict__.update(state)
            made.components = {name: network(one) for name, one in state.get("components", {}).items()}
            made.version, made.build_module_src = 4, SOURCE
            return made

        return pickle.dumps(tuple(network(state) for state in networks), **options)


def torch_zip(data: bytes) -> bytes:
    """A file of ``torch.save`` whose pickle is ``data``."""
    import zipfile

    file = io.BytesIO()
    torch.save({}, file)
    old, new = zipfile.ZipFile(file), io.BytesIO()
    with zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            archive.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return new.getvalue()
