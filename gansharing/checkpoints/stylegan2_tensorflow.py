"""The TensorFlow layout of StyleGAN2 and StyleGAN2-ADA: a pickled triple of networks with numpy variables."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from gansharing.checkpoints.foreign import Imported, choose_part
from gansharing.checkpoints.stylegan2_layout import arguments_of, fit
from gansharing.checkpoints.unpickle import Array, Stateful, Table, printable
from gansharing.errors import UserError


class TFNetwork(Stateful):
    """A network of a TensorFlow pickle, as data.

    Attributes:
        state: What it was pickled with: version, static arguments, components, variables, source text.
    """

    def __init__(self, *_: Any) -> None:
        self.state: Mapping[str, Any] = {}

    def set_state(self, state: Any) -> None:
        """Take the state; the source text in it is dropped."""
        if not isinstance(state, Mapping):
            raise TypeError("a network's state is a dictionary")
        self.state = {key: value for key, value in state.items() if key != "build_module_src"}
        for key in ("components", "static_kwargs"):
            if not isinstance(state.get(key, {}), Mapping):
                raise TypeError(f"a network's {key} are no dictionary")

    def variables(self) -> Iterator[tuple[str, Tensor]]:
        """Its variables and those of its components, as ``component/name``."""
        waiting, seen = [("", self)], set()  # a crafted network may hold itself
        while waiting:
            prefix, network = waiting.pop()
            if id(network) in seen:
                continue
            seen.add(id(network))
            for name, value in _pairs(network.state.get("variables")):
                if isinstance(value, Array):
                    yield f"{prefix}{name}", torch.from_numpy(value.values.astype("float32"))
                elif isinstance(value, (int, float)):
                    yield f"{prefix}{name}", torch.tensor(float(value))
            components = network.state.get("components", {}).items()
            waiting += [(f"{prefix}{n}/", one) for n, one in components if isinstance(one, TFNetwork)]


def _pairs(items: Any) -> Iterator[tuple[Any, Any]]:
    for item in items if isinstance(items, (list, tuple)) else ():
        if isinstance(item, (list, tuple)) and len(item) == 2:
            yield item[0], item[1]


#: What such a pickle names beside numpy's arrays.
TF_NAMES: Table = {("dnnlib.tflib.network", "Network"): TFNetwork}
_PLACES = {"generator": (0, "G"), "discriminator": (1, "D"), "ema": (2, "Gs")}
# Arguments that these networks have at one value only.
_FIXED: Mapping[str, Any] = {
    "mapping_lrmul": 0.01,
    "mapping_nonlinearity": "lrelu",
    "mbstd_num_features": 1,
    "nonlinearity": "lrelu",
    "num_channels": 3,
    "resample_kernel": [1, 3, 3, 1],
    "use_noise": True,
}


def read_tensorflow(networks: Sequence[TFNetwork], part: str | None, source: str) -> Imported:
    """Rebuild one of the networks ``(G, D, Gs)`` of a TensorFlow pickle.

    Args:
        networks: The triple.
        part: As for :func:`~gansharing.checkpoints.stylegan2_nvidia.read_nvidia`.
        source: The file's name for messages.

    Raises:
        UserError: It is of another architecture, or tensors do not fit; they are named.
    """
    held = {part: name for part, (place, name) in _PLACES.items() if place < len(networks)}
    chosen, notes = choose_part(part, held, source)
    network = networks[_PLACES[chosen][0]]
    kind = "discriminator" if chosen == "discriminator" else "generator"
    given = network.state.get("static_kwargs", {})
    fixed = dict(_FIXED, architecture="skip" if kind == "generator" else "resnet")
    for name, value in fixed.items():
        found = given.get(name, value)
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise UserError(f"{source} has a {kind} of {name} {printable(found)}; only {value} is supported")
    variables = {name: tensor for name, tensor in network.variables() if PurePath(name).name != "lod"}
    state, names = _renamed(variables, kind)
    arguments = arguments_of(state, kind) | _beyond_shapes(given, kind)
    return Imported(fit(kind, arguments, state, source, names), kind, [*notes, f"read {held[chosen]}"])


def _beyond_shapes(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(given.get("conv_clamp"), (int, float)):
        found["clamp"] = given["conv_clamp"]
    if kind == "discriminator" and isinstance(given.get("mbstd_group_size"), int):
        found["group_size"] = given["mbstd_group_size"]
    return found


def _renamed(variables: Mapping[str, Tensor], kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by NVIDIA's PyTorch names, and those names' own in the file."""
    rename = _generator_name if kind == "generator" else _discriminator_name
    state, names = {}, {}
    for name, tensor in variables.items():
        new = rename(name) or name  # one without a place is left over, and fit says so
        state[new], names[new] = _converted(name, tensor), name
    return state, names


def _generator_name(name: str) -> str | None:
    if name == "dlatent_avg":
        return "mapping.w_avg"
    component, _, rest = name.partition("/")
    if component == "mapping":
        return _mapping_name(rest, "Dense")
    if component != "synthesis":
        return None
    if rest.startswith("noise") and rest[5:].isdecimal() and len(rest) < 8:
        # noise0 is of 4 px, then two a resolution.
        number = int(rest[5:])
        return f"synthesis.b{4 << (number + 1) // 2}.conv{'0' if number % 2 else '1'}.noise_const"
    layers = {"Const": "const", "Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}
    match rest.split("/"):
        case [_, "Const", "const"]:
            return "synthesis.b4.const"
        case [size, layer, variable] if layer in layers:
            affine = {"mod_weight": "affine.weight", "mod_bias": "affine.bias"}
            return f"synthesis.b{size.partition('x')[0]}.{layers[layer]}.{affine.get(variable, variable)}"
    return None


def _discriminator_name(name: str) -> str | None:
    blocks = {"FromRGB": "fromrgb", "Conv0": "conv0", "Conv1_down": "conv1", "Skip": "skip"}
    match name.split("/"):
        case ["4x4", ("Conv" | "Dense0") as layer, variable]:
            return f"b4.{'conv' if layer == 'Conv' else 'fc'}.{variable}"
        case ["Output", variable]:
            return f"b4.out.{variable}"
        case [size, layer, variable] if layer in blocks:
            return f"b{size.partition('x')[0]}.{blocks[layer]}.{variable}"
        case [_, _]:
            return _mapping_name(name, "Mapping")
    return None


def _mapping_name(name: str, layer: str) -> str | None:
    head, _, variable = name.partition("/")
    if head == "LabelEmbed":
        return f"mapping.embed.{variable}"
    number = head.removeprefix(layer)
    return f"mapping.fc{number}.{variable}" if number.isdecimal() and head != number else None


def _converted(name: str, tensor: Tensor) -> Tensor:
    variable = PurePath(name).name
    if variable == "const" or "/noise" in name and "strength" not in name:
        return tensor.reshape(tensor.shape[1:] if variable == "const" else tensor.shape[2:])
    if variable == "mod_bias":  # the style's own 1 is a part of the bias in PyTorch's layout
        return tensor + 1
    if variable in ("weight", "mod_weight") and tensor.ndim == 2:
        return tensor.T.contiguous()
    if variable == "weight" and tensor.ndim == 4:
        # TensorFlow's transposed convolution turns its kernel.
        turned = tensor.flip(0, 1) if "/Conv0_up/" in name else tensor
        return turned.permute(3, 2, 0, 1).contiguous()
    return tensor
