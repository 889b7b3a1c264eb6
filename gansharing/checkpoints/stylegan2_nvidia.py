"""NVIDIA's PyTorch layout of StyleGAN2 (stylegan2-ada-pytorch): its pickles, and its state dicts.

A pickle holds each module as its class's whole source text and its attributes. The text is never looked at;
the attributes hold the tensors and the constructor's arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gansharing.checkpoints.foreign import Imported, choose_part, is_torch, read_bytes, read_torch, state_of
from gansharing.checkpoints.stylegan2_layout import arguments_of, fir, fit, part_of
from gansharing.checkpoints.stylegan2_tensorflow import TF_NAMES, TFNetwork, read_tensorflow
from gansharing.checkpoints.unpickle import ARRAYS, TENSORS, Refused, Table, printable, unpickle
from gansharing.errors import UserError
from gansharing.networks import Network

_PARTS = {"G_ema": "ema", "G": "generator", "D": "discriminator"}


@dataclass
class Module:
    """A module of a pickle, as data.

    Attributes:
        class_name: Its class.
        attributes: Its ``__dict__``.
    """

    class_name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether it holds its constructor's arguments."""
        return bool(self.attributes.get("_init_kwargs") or self.attributes.get("_init_args"))

    @property
    def children(self) -> Mapping[str, Any]:
        """Its modules by name."""
        found = self.attributes.get("_modules")
        return found if isinstance(found, Mapping) else {}

    def state(self) -> dict[str, Tensor]:
        """Its state dict."""
        found: dict[str, Tensor] = {}
        waiting: list[tuple[str, Module]] = [("", self)]
        seen: set[int] = set()  # a crafted module may hold itself
        while waiting:
            prefix, module = waiting.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            for kind in ("_parameters", "_buffers"):
                held = module.attributes.get(kind)
                for name, tensor in held.items() if isinstance(held, Mapping) else ():
                    if isinstance(tensor, Tensor):
                        found[f"{prefix}{name}"] = tensor
            waiting += [
                (f"{prefix}{name}.", child)
                for name, child in module.children.items()
                if isinstance(child, Module)
            ]
        return found


def _module(meta: Any) -> Module:
    if (
        not isinstance(meta, Mapping)
        or meta.get("type") != "class"
        or not isinstance(meta.get("state"), Mapping)
    ):
        raise UserError("a module is written in an unknown way; only stylegan2-ada-pytorch's is read")
    return Module(str(meta.get("class_name")), meta["state"])


def _table(source: str) -> Table:
    return {
        **TENSORS,
        **ARRAYS,
        **TF_NAMES,
        ("builtins", "set"): lambda items=(): set(items),
        ("dnnlib.util", "EasyDict"): lambda *_: {},
        ("torch.storage", "_load_from_bytes"): lambda blob: read_torch(bytes(blob), source),
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
    }


def read_nvidia(path: Path, part: str | None) -> Imported:
    """Read a ``.pkl`` of stylegan2-ada-pytorch or of the TensorFlow versions, or a state dict by their names.

    Args:
        path: The file.
        part: ``ema``, ``generator`` (the live one), ``discriminator``, or None: the averaged generator if
            there is one.

    Raises:
        UserError: It names what no StyleGAN2 needs, is damaged, of another architecture, or does not hold
            the part; tensors that do not fit are named.
    """
    content = _read(path)
    source = str(path)
    if isinstance(content, (tuple, list)) and content and all(isinstance(n, TFNetwork) for n in content):
        return read_tensorflow(content, part, source)
    networks, names = _networks(content)
    chosen, notes = choose_part(part, names, source)
    network, kind = networks[chosen], "discriminator" if chosen == "discriminator" else "generator"
    if isinstance(network, Module):
        state = network.state()
    else:
        state = state_of(network)
    if isinstance(network, Module) and network.given:
        arguments = _arguments_of_module(network, kind, source)
    else:
        arguments = arguments_of(state, kind)
        notes.append("no constructor arguments: taken from the shapes, without clamp, groups of 4")
    return Imported(fit(kind, arguments, state, source), kind, [*notes, f"read {names[chosen]}"])


def _read(path: Path) -> Any:
    content, source = read_bytes(path), str(path)
    if is_torch(content):
        return read_torch(content, source)
    try:
        return unpickle(content, _table(source), source)
    except Refused as error:
        if any(f"'{other}" in str(error) for other in ("R3GAN.", "training.networks.")):
            raise Refused(f"{error}; it looks like R3GAN's, and only StyleGAN2 is read") from error
        raise


def _networks(content: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The networks by part, and their names in the file."""
    if isinstance(content, Module):
        return _alone(content, "discriminator" if content.class_name == "Discriminator" else "generator")
    if isinstance(content, Mapping):
        if part := part_of(state_of(content)):
            return _alone(content, part)
        named = {
            part: (content[name], name)
            for name, part in _PARTS.items()
            if isinstance(content.get(name), (Module, Mapping))
        }
        return {part: n for part, (n, _) in named.items()}, {part: name for part, (_, name) in named.items()}
    return {}, {}


def _alone(network: Any, part: str) -> tuple[dict[str, Any], dict[str, str]]:
    # A lone generator does not say whether it is averaged: it answers to both names.
    parts = ("ema", "generator") if part == "generator" else (part,)
    return dict.fromkeys(parts, network), dict.fromkeys(parts, f"its only {part}")


_ORDER = {
    "generator": (
        "z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs",
    ),
    "discriminator": (
        "c_dim", "img_resolution", "img_channels", "architecture", "channel_base", "channel_max",
        "num_fp16_res", "conv_clamp", "cmap_dim", "block_kwargs", "mapping_kwargs", "epilogue_kwargs",
    ),
}  # fmt: skip
# Arguments that change nothing about an fp32 network that is used, or that shapes repeat.
_WITHOUT_EFFECT = {
    "channels_last", "cmap_dim", "embed_features", "fp16_channels_last", "freeze_layers", "layer_features",
    "num_fp16_res", "num_ws", "w_avg_beta",
}  # fmt: skip
# Arguments that these networks have at one value only.
_FIXED: Mapping[str, Any] = {
    "activation": "lrelu",
    "img_channels": 3,
    "kernel_size": 3,
    "lr_multiplier": 0.01,
    "mbstd_num_channels": 1,
    "resample_filter": [1, 3, 3, 1],
    "use_noise": True,
}


def _arguments_of_module(module: Module, part: str, source: str) -> dict[str, Any]:
    given = _flattened(module, part)
    synthesis = module.children.get("synthesis")
    if part == "generator" and isinstance(synthesis, Module) and "input" in synthesis.children:
        raise UserError(f"{source} holds a StyleGAN3 generator; only StyleGAN2 is read")
    fixed = dict(_FIXED, architecture="skip" if part == "generator" else "resnet")
    for name, value in fixed.items():
        found = given.pop(name, value)
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise UserError(f"{source} has a {part} of {name} {printable(found)}; only {value} is supported")
    taken = {
        "resolution": given.pop("img_resolution", None),
        "num_classes": given.pop("c_dim", None),
        "channel_base": given.pop("channel_base", 32768),
        "channel_max": given.pop("channel_max", 512),
        "mapping_layers": given.pop("num_layers", 8),
        "clamp": given.pop("conv_clamp", None),
    }
    if part == "generator":
        taken |= {"latent_dim": given.pop("z_dim", None), "w_dim": given.pop("w_dim", None)}
    else:
        taken["group_size"] = given.pop("mbstd_group_size", 4)
    if unknown := sorted(map(str, given.keys() - _WITHOUT_EFFECT)):
        raise UserError(
            f"{source} has a {part} with arguments that are not supported: {printable(', '.join(unknown))}"
        )
    for name, value in taken.items():
        most = 64 if name == "mapping_layers" else 1 << 20
        if (name, value) != ("clamp", None) and not (isinstance(value, (int, float)) and 0 <= value <= most):
            raise UserError(
                f"{source} has a {part} of {name} {printable(value)}, which is no number up to {most}"
            )
    return taken


def _flattened(module: Module, part: str) -> dict[str, Any]:
    """All arguments of the constructor, those of its parts beside its own: no name occurs twice."""
    positional, by_name = module.attributes.get("_init_args"), module.attributes.get("_init_kwargs")
    given: dict[str, Any] = {}
    if isinstance(positional, (list, tuple)):
        given |= dict(zip(_ORDER[part], positional, strict=False))
    if isinstance(by_name, Mapping):
        given |= {str(name): value for name, value in by_name.items()}
    flat: dict[str, Any] = {}
    for name, value in given.items():
        inner = value if isinstance(value, Mapping) and name.endswith("_kwargs") else {name: value}
        for key, one in inner.items():
            flat |= dict(one) if isinstance(one, Mapping) and key.endswith("_kwargs") else {key: one}
    return flat


def nvidia_state(network: Network) -> dict[str, Tensor]:
    """The network's state dict as NVIDIA's class of the same arguments has it, constant filters included.

    Args:
        network: A :class:`StyleGAN2Generator` or a :class:`StyleGAN2Discriminator`.
    """
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    holders: set[str] = set()
    for name in state:
        block, _, layer = name.removesuffix(".weight").rpartition(".")
        if name.endswith(".weight") and layer in ("conv0", "conv1", "conv", "skip", "fromrgb"):
            holders |= {f"{block}.{layer}"} | ({block} if layer != "conv" else set())
    return state | {f"{holder}.resample_filter": fir() for holder in sorted(holders)}


def write_nvidia_state(network: Network, file: Any) -> None:
    """Write :func:`nvidia_state` by ``torch.save``: tensors, no pickled class."""
    torch.save(nvidia_state(network), file)
