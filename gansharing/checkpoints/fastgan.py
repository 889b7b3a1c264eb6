"""Checkpoints of FastGAN's original code, read and written.

``N.pth`` holds ``g`` (averaged parameters, live buffers) and ``d``; ``all_N.pth`` the live ``g`` and ``d``,
with the prefix of ``DataParallel``, and ``g_ema``, a list of tensors in the order of the parameters.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gansharing.checkpoints.foreign import (
    Imported,
    choose_part,
    fixed_noise,
    read_bytes,
    read_torch,
    refuse_misfits,
    state_of,
)
from gansharing.checkpoints.unpickle import printable
from gansharing.errors import UserError
from gansharing.networks import FastGANDiscriminator, FastGANGenerator, Network
from gansharing.sharing import merged

_SPECTRAL = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
    "strength": "weight",
}
_BUFFER = re.compile(r".*\.(weight_u|weight_v|running_mean|running_var|num_batches_tracked)")
_SAMPLED = (
    "the original samples with the batch's statistics and fresh noise; here running statistics and fixed "
    "noise make an image a function of its latent (forward's noise and batch_norm choose)"
)
_GENERATOR, _DISCRIMINATOR = "init.init.0.weight_orig", "rf_big.0.weight_orig"
_ALONE = "its only network"


def read_fastgan(path: Path, part: str | None) -> Imported:
    """Read the original's generator or discriminator, or a state dict of one alone.

    Arguments and errors are those of :class:`~gansharing.checkpoints.foreign.Reader`.
    """
    source = str(path)
    found = _found(read_torch(read_bytes(path), source), source)
    chosen, notes = choose_part(part, {part: name for part, (name, _) in found.items()}, source)
    name, state = found[chosen]
    notes = [*notes, f"read {name}"]
    if chosen == "discriminator":
        return Imported(_network(state, _discriminator, source), "discriminator", notes)
    if chosen == "ema" and name != _ALONE:
        notes.append("averaged parameters come with live buffers: the original averages no others")
    return Imported(_network(state, _generator, source), "generator", [*notes, _SAMPLED])


def _found(content: Any, source: str) -> dict[str, tuple[str, dict[str, Tensor]]]:
    """The networks in a file, by part, each with its name there."""
    alone = state_of(content)
    if _GENERATOR in alone:
        return {part: (_ALONE, alone) for part in ("ema", "generator")}
    if _DISCRIMINATOR in alone:
        return {"discriminator": (_ALONE, alone)}
    named = content if isinstance(content, Mapping) else {}
    found = {}
    if live := state_of(named.get("g")):
        found["ema"] = ("g", live)
        if "g_ema" in named:
            found = {"ema": ("g_ema", _averaged(named["g_ema"], live, source)), "generator": ("g", live)}
    if discriminator := state_of(named.get("d")):
        found["discriminator"] = ("d", discriminator)
    return found


def _averaged(average: Any, live: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The live generator's state dict with the average in the place of its parameters."""
    if isinstance(average, Mapping):
        return {**live, **state_of(average)}
    names = [name for name in live if not _BUFFER.fullmatch(name)]
    listed = average if isinstance(average, list | tuple) else []
    given = [tuple(t.shape) if isinstance(t, Tensor) else None for t in listed]
    if given != [tuple(live[name].shape) for name in names]:
        raise UserError(
            f"{source}: g_ema lists {len(given)} tensors, which are not the {len(names)} parameters of its g "
            "in their order; choose the live generator with --part generator"
        )
    return {**live, **dict(zip(names, listed, strict=True))}


def _generator(state: Mapping[str, Tensor]) -> tuple[type[Network], dict[str, int]]:
    latent_dim, channels = state[_GENERATOR].shape[:2]
    base = channels // 32
    _require(state, "feat_8.1.weight_orig", (16 * base, 16 * base, 3, 3))
    resolution = max(int(m[1]) for name in state if (m := re.match(r"feat_(\d{1,4})\.", name)))
    return FastGANGenerator, {"resolution": resolution, "latent_dim": latent_dim, "base_channels": base}


def _discriminator(state: Mapping[str, Tensor]) -> tuple[type[Network], dict[str, int]]:
    base = state[_DISCRIMINATOR].shape[0] // 16
    _require(state, _DISCRIMINATOR, (16 * base, 8 * base, 1, 1))
    kernel = state["down_from_big.0.weight_orig"].shape[-1]
    resolution = 256 if kernel == 3 else 1024 if "down_from_big.2.weight_orig" in state else 512
    return FastGANDiscriminator, {"resolution": resolution, "base_channels": base}


def _require(state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    """Guard the memory: a network whose widest layer is in the file is no wider than the file."""
    if tuple(state[name].shape) != shape:
        raise KeyError(name)


Guess = Callable[[Mapping[str, Tensor]], tuple[type[Network], dict[str, int]]]


def _network(state: Mapping[str, Tensor], guess: Guess, source: str) -> Network:
    try:
        network_class, arguments = guess(state)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{source} holds no FastGAN of that part: {printable(error)} is missing, or of no fitting shape"
        ) from error
    if arguments["resolution"] not in (256, 512, 1024):
        raise UserError(
            f"{source}: a FastGAN of {arguments['resolution']} px; the original has 256, 512 and 1024"
        )
    network = network_class(**arguments)
    names = _names(network)
    what = f"{source} is no {network_class.__name__} of the original with these channels"
    refuse_misfits(dict(names.values()), state, what)
    own = network.state_dict()
    own |= {name: state[there].to(own[name].dtype) for name, (there, _) in names.items()}
    network.load_state_dict(own | fixed_noise(own))
    return network.eval()


def _names(network: Network) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Each tensor's name and shape in the original's layout, by its own name; the fixed noise has none."""
    modules = _of_generator(network) if isinstance(network, FastGANGenerator) else _of_discriminator(network)
    names = {}
    for own, tensor in network.state_dict().items():
        if own.endswith(".const"):
            continue
        module = max((m for m in modules if own.startswith(f"{m}.")), key=len)
        rest = own.removeprefix(f"{module}.")
        names[own] = (f"{modules[module]}.{_SPECTRAL.get(rest, rest)}", tuple(tensor.shape))
    return names


def _gated(own: str, first: int, there: str, noisy: bool) -> dict[str, str]:
    """A gated convolution in a block whose convolution is its ``first`` layer."""
    norm = first + (2 if noisy else 1)
    names = {f"{own}.conv": f"{there}.{first}", f"{own}.norm": f"{there}.{norm}"}
    return names | ({f"{own}.noise": f"{there}.{first + 1}"} if noisy else {})


def _excitation(own: str, there: str) -> dict[str, str]:
    return {f"{own}.squeeze": f"{there}.main.1", f"{own}.expand": f"{there}.main.3"}


def _of_generator(network: FastGANGenerator) -> dict[str, str]:
    names = _gated("start", 0, "init.init", noisy=False) | {"to_small": "to_128", "to_image": "to_big"}
    for size, block in network.blocks.items():
        for index in range(len(_convs(block))):
            own = f"blocks.{size}.convs.{index}"
            names |= _gated(own, 1 + 4 * index, f"feat_{size}", noisy=len(_convs(block)) == 2)
    for size in network.excitations:
        names |= _excitation(f"excitations.{size}", f"se_{size}")
    return names


def _convs(block: nn.Module) -> Any:
    return block.convs


def _of_discriminator(network: Network) -> dict[str, str]:
    assert isinstance(network, FastGANDiscriminator)
    names = {"start.0": "down_from_big.0", "start.2.0": "down_from_big.2", "start.2.1": "down_from_big.3"}
    names |= {"small_start.0": "down_from_small.0", "small_to_score": "rf_small"}
    names |= {"to_score.0.0": "rf_big.0", "to_score.0.1": "rf_big.1", "to_score.1": "rf_big.3"}
    for index, size in enumerate(network.blocks):
        own, there = f"blocks.{size}", f"down_{4 << index}"
        names |= {f"{own}.main.{i}.{j}": f"{there}.main.{3 * i + j}" for i in range(2) for j in range(2)}
        names |= {f"{own}.direct.{j}": f"{there}.direct.{1 + j}" for j in range(2)}
    for index, size in enumerate(network.excitations):
        names |= _excitation(f"excitations.{size}", f"se_{2 << index}_{16 << index}")
    for index, size in enumerate(network.small_blocks):
        own = f"small_blocks.{size}"
        names |= {f"{own}.{j}": f"down_from_small.{2 + index}.main.{j}" for j in range(2)}
    for own, there in (("decoder", "big"), ("small_decoder", "small"), ("part_decoder", "part")):
        for index in range(4):
            names |= _gated(f"{own}.blocks.{index}.convs.0", 1, f"decoder_{there}.main.{1 + index}", False)
        names[f"{own}.to_image"] = f"decoder_{there}.main.5"
    return names


def fastgan_state(network: Network, part: str) -> dict[str, dict[str, Tensor]]:
    """A checkpoint as the original's scripts read it: ``{"g": ...}`` or ``{"d": ...}``.

    Args:
        network: A FastGAN; of a divided one, what it computes.
        part: ``generator`` or ``discriminator``.

    Raises:
        UserError: It is no FastGAN, or of a resolution or a range of images that the original does not have.
    """
    if not isinstance(network, FastGANGenerator | FastGANDiscriminator):
        raise UserError(
            f"fastgan is a layout of FastGAN; this is a {type(network).__name__}: use safetensors"
        )
    plain = merged(network)
    assert isinstance(plain, FastGANGenerator | FastGANDiscriminator)
    bounded = isinstance(plain, FastGANGenerator) and plain.bounded and plain.resolution < 1024
    arguments = plain.config["init_args"]
    whole = arguments["skip"] and arguments.get("decoders", True)
    whole = whole and arguments.get("decoder_channels", 32) == 32
    if plain.resolution < 256 or bounded or not whole or "sharing" in plain.config:
        raise UserError(
            "the original of FastGAN has 256, 512 and 1024 px, tanh at 1024 alone, no layer more or less; "
            f"this is one of {plain.resolution} px{' with tanh' if bounded else ''}"
            f"{'' if whole else ', without skip or its decoders'}: use safetensors"
        )
    own = plain.state_dict()
    state = {there: own[name].detach().cpu().clone() for name, (there, _) in _names(plain).items()}
    return {"g" if part == "generator" else "d": state}
