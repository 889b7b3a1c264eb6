"""StyleGAN2's tensors by NVIDIA's names: which network they are, and a strict fit of one to the other."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gansharing.checkpoints.unpickle import printable
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.networks.stylegan2 import StyleGAN2Generator
from gansharing.networks.stylegan2_discriminator import StyleGAN2Discriminator

#: The classes by part.
CLASSES: Mapping[str, type[Network]] = {
    "generator": StyleGAN2Generator,
    "discriminator": StyleGAN2Discriminator,
}


def fir(gain: float = 1.0) -> Tensor:
    """The constant low-pass filter ``outer([1, 3, 3, 1]) / 64`` times ``gain``, ``(4, 4)``."""
    kernel = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return kernel.outer(kernel) / 64 * gain


def is_fir(tensor: Tensor, gain: float = 1.0) -> bool:
    """Whether ``tensor`` is :func:`fir`."""
    return tensor.shape == (4, 4) and torch.allclose(tensor.float(), fir(gain), atol=1e-6)


def part_of(state: Mapping[str, Tensor]) -> str | None:
    """``generator`` or ``discriminator``, by NVIDIA's names; None for neither."""
    if "synthesis.b4.const" in state:
        return "generator"
    return "discriminator" if "b4.conv.weight" in state else None


def arguments_of(state: Mapping[str, Tensor], part: str) -> dict[str, Any]:
    """The constructor arguments that the tensors' shapes tell.

    What shapes do not tell (clamp, size of the groups) is left out.

    Args:
        state: Tensors by NVIDIA's names.
        part: ``generator`` or ``discriminator``.

    Raises:
        UserError: They are no such network; the message names a tensor.
    """
    try:
        return _generator_arguments(state) if part == "generator" else _discriminator_arguments(state)
    except KeyError as error:
        raise UserError(f"not a StyleGAN2 {part}: no tensor {error}") from error
    except (IndexError, ValueError) as error:
        raise UserError(f"not a StyleGAN2 {part}: its tensors have no fitting shapes ({error})") from error


def _generator_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    widths = {4: state["synthesis.b4.const"].shape[0]}
    for size in _sizes(state, r"synthesis\.b(\d+)\.conv1\.weight"):
        widths[size] = state[f"synthesis.b{size}.conv1.weight"].shape[0]
    w_dim = state["synthesis.b4.conv1.affine.weight"].shape[1]
    classes = state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0
    base, most = _base_and_max(widths)
    return {
        "resolution": max(widths),
        "latent_dim": state["mapping.fc0.weight"].shape[1] - (w_dim if classes else 0),
        "w_dim": w_dim,
        "num_classes": classes,
        "mapping_layers": _mapping_layers(state),
        "channel_base": base,
        "channel_max": most,
    }


def _discriminator_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    widths = {4: state["b4.conv.weight"].shape[0]}
    for size in _sizes(state, r"b(\d+)\.conv0\.weight"):
        widths[size] = state[f"b{size}.conv0.weight"].shape[0]
    classes = state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0
    base, most = _base_and_max(widths)
    found = {
        "resolution": max(widths), "num_classes": classes, "channel_base": base, "channel_max": most,
    }  # fmt: skip
    return found | ({"mapping_layers": _mapping_layers(state)} if classes else {})


def _sizes(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    return sorted(int(match[1]) for name in state if (match := re.fullmatch(pattern, name)))


def _mapping_layers(state: Mapping[str, Tensor]) -> int:
    return len(_sizes(state, r"mapping\.fc(\d+)\.weight"))


def _base_and_max(widths: Mapping[int, int]) -> tuple[int, int]:
    """The least ``channel_base`` and the ``channel_max`` that give ``min(base // size, max)`` everywhere."""
    most = max(widths.values())
    base = max(width * size for size, width in widths.items())
    wrong = [f"{width} at {size} px" for size, width in widths.items() if min(base // size, most) != width]
    if wrong:
        raise UserError(
            f"channels {', '.join(wrong)} are not min(channel_base // resolution, channel_max); "
            f"such a StyleGAN2 is not supported"
        )
    return base, most


def fit(
    part: str,
    arguments: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    foreign_names: Mapping[str, str] | None = None,
) -> Network:
    """Build a network and give it exactly these tensors.

    The constant low-pass filters are checked and dropped; every other tensor must find its place.

    Args:
        part: ``generator`` or ``discriminator``.
        arguments: Of the network's constructor.
        state: Tensors by NVIDIA's names.
        source: The file's name for messages.
        foreign_names: NVIDIA's name to the file's own, where they differ.

    Raises:
        UserError: A tensor is missing, left over or of another shape; the message names them.
    """
    called = foreign_names or {}
    state = _without_filters(state, source)
    with torch.device("meta"):  # shapes alone: a file's arguments may ask for any size
        expected = {name: tuple(t.shape) for name, t in CLASSES[part](**arguments).state_dict().items()}
    missing = [called.get(name, name) for name in expected.keys() - state.keys()]
    surplus = [called.get(name, name) for name in state.keys() - expected.keys()]
    misshapen = [
        f"{called.get(name, name)} {tuple(state[name].shape)} instead of {expected[name]}"
        for name in expected.keys() & state.keys()
        if tuple(state[name].shape) != expected[name]
    ]
    problems = [
        f"{kind} {_some(names)}"
        for kind, names in (("missing:", missing), ("left over:", surplus), ("misshapen:", misshapen))
        if names
    ]
    if problems:
        raise UserError(f"{source} is no {_described(part, arguments)}; {'; '.join(problems)}")
    # No file says so, but both codebases train with it: a transfer goes on as the source was trained.
    training = {"mixing": 0.9} if part == "generator" else {}
    network = CLASSES[part](**arguments, **training)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return network.eval()


def _without_filters(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    filters = {name for name in state if name.endswith("resample_filter")}
    if other := sorted(name for name in filters if not is_fir(state[name])):
        raise UserError(
            f"{source} resamples by another filter than [1, 3, 3, 1]: {_some(other)}; not supported"
        )
    return {name: tensor for name, tensor in state.items() if name not in filters}


def _some(names: list[str]) -> str:
    names = [printable(name) for name in sorted(names)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _described(part: str, arguments: Mapping[str, Any]) -> str:
    values = ", ".join(f"{key} {value}" for key, value in arguments.items())
    return f"StyleGAN2 {part} of {values}"
