"""Checkpoints of GAN_stability, of Zhao et al.'s transfer code (AdaFM) and of GAN Memory, read and written.

All three hold GP-GAN networks by the same names. AdaFM's code adds ``small_*`` entries, GAN Memory's adds
``AdaFM*``; both are θ_D of a divided network here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gansharing.checkpoints.foreign import (
    Imported,
    choose_part,
    fixed_noise,
    read_bytes,
    read_torch,
    refuse_misfits,
    state_of,
)
from gansharing.checkpoints.gan_stability_names import entries, renamed
from gansharing.checkpoints.networks import load
from gansharing.errors import UserError
from gansharing.networks import GPGANDiscriminator, GPGANGenerator, Network, SmallHeadGenerator
from gansharing.sharing import AdaFM, Combined, FreezeLower, LayerWise, Sharing, build_shared, merged

_PARTS = {"generator_test": "ema", "generator": "generator", "discriminator": "discriminator"}
_CONVOLUTIONS = "resnet_*.conv_[01].weight"
# What the original codes train of their networks.
TRANSFER = Combined([AdaFM([_CONVOLUTIONS]), FreezeLower(4)])
MEMORY = AdaFM(["fc.weight", _CONVOLUTIONS], linear=True, bias=True, normalise=True)
MEMORY_DISCRIMINATOR = Combined([AdaFM([_CONVOLUTIONS], bias=True), LayerWise(["fc"])])


def read_gan_stability(path: Path, part: str | None) -> Imported:
    """Read a checkpoint of GAN_stability or of Zhao et al.'s code.

    A dictionary of networks (``generator_test`` is the average) or one state dict alone, with or without the
    prefix of ``DataParallel``. A generator with a small head comes divided: θ_D is its head, gamma and beta.

    Arguments and errors are those of :class:`~gansharing.checkpoints.foreign.Reader`.
    """
    source, (state, kind, notes) = str(path), _part_of(path, part)
    state = _one_label(renamed(state), notes)
    return Imported(_network(state, kind, source), kind, notes)


def _one_label(state: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """A small head's labels reach no output, so that one stands for any number of any length."""
    labels = state.get("small_embedding.weight")
    if labels is None or labels.shape == (1, 1):
        return state
    notes.append(f"small_embedding {tuple(labels.shape)} reaches no output of the original: left out")
    return state | {"small_embedding.weight": torch.ones(1, 1)}


def read_ganmemory(path: Path, part: str | None, over: str | None = None) -> Imported:
    """Read a checkpoint of GAN Memory: whole networks, or one task's entries alone.

    Args:
        path: The file.
        part: As :func:`read_gan_stability`.
        over: For a task's entries alone, the network that they modulate: an imported file or a run.

    Raises:
        UserError: As :func:`read_gan_stability`; or entries come without the network, or for another one.
    """
    source, (state, kind, notes) = str(path), _part_of(path, part)
    if "conv_img.weight" not in state:
        if over is None:
            raise UserError(f"{source} holds one task's entries alone; give their {kind} with --over FILE")
        base = load(over, kind)
        if type(base) is not _CLASSES[kind]:
            raise UserError(f"{over} holds a {type(base).__name__}; {source} modulates a GP-GAN {kind}")
        (MEMORY if kind == "generator" else MEMORY_DISCRIMINATOR).apply(base)
        state = _foreign_state(base) | state
        notes.append(f"one task's entries over {Path(over).name}")
    return Imported(_network(state, kind, source), kind, notes)


_CLASSES: Mapping[str, type[Network]] = {"generator": GPGANGenerator, "discriminator": GPGANDiscriminator}


def _part_of(path: Path, part: str | None) -> tuple[dict[str, Tensor], str, list[str]]:
    source = str(path)
    content = read_torch(read_bytes(path), source)
    alone, named = state_of(content), content if isinstance(content, Mapping) else {}
    found = {part: ("its only network", alone) for part in _alone(alone)}
    if not found:
        found = {part: (name, state_of(named[name])) for name, part in _PARTS.items() if name in named}
    chosen, notes = choose_part(part, {part: name for part, (name, _) in found.items()}, source)
    name, state = found[chosen]
    if chosen == "generator" and part is None:
        notes.append("no generator_test: the live generator was read, which is not averaged")
    return state, "discriminator" if chosen == "discriminator" else "generator", [*notes, f"read {name}"]


def _alone(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    marks = ("embedding.weight", "small_fc.weight", "AdaFM_fc_b")
    if any(mark in state for mark in marks):
        return ("ema", "generator")  # whether it is averaged, it does not say
    return ("discriminator",) if "fc.weight" in state else ()


def _network(state: Mapping[str, Tensor], kind: str, source: str) -> Network:
    try:
        config = _config(state, kind)
    except (KeyError, IndexError) as error:
        raise UserError(
            f"{source} holds no GP-GAN {kind}: no tensor {error}, or of no fitting shape"
        ) from error
    with torch.device("meta"):  # shapes alone: a file may ask for any size
        expected = entries(build_shared(config))
    what = f"{source} is no {config['class_path'].rpartition('.')[2]}"
    refuse_misfits({entry.name: entry.shape for entry in expected}, state, what)
    network = build_shared(config)
    own = network.state_dict()
    own |= {e.own: state[e.name].float().reshape(own[e.own].shape) for e in expected}
    network.load_state_dict(own | fixed_noise(own))
    return network.eval()


def _config(state: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    network: type[Network] = SmallHeadGenerator
    sharing: Sharing | None
    if "small_fc.weight" in state:
        arguments = _small_head(state)
        sharing = TRANSFER if any("style_gama" in name for name in state) else None
    else:
        memory = any("AdaFM" in name for name in state)
        network, arguments = _CLASSES[kind], _gpgan(state, kind)
        sharing = (MEMORY if kind == "generator" else MEMORY_DISCRIMINATOR) if memory else None
    config = {"class_path": f"{network.__module__}.{network.__qualname__}", "init_args": arguments}
    return config if sharing is None else config | {"sharing": sharing.config}


def _small_head(state: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = [n for n in state if re.fullmatch(r"small_style\.\d+\.linear\.weight", n)]
    return {
        "resolution": 8 * state["small_H.norm.weight"].shape[0],
        "latent_dim": state["small_fc.weight"].shape[1],
        "style_dim": state["small_style.1.linear.weight"].shape[0],
        "mapping_layers": len(layers),
        "base_channels": state["conv_img.weight"].shape[1],
    }


def _gpgan(state: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    generator = kind == "generator"
    fc, image = state["fc.weight"], state["conv_img.weight"]
    variant, groups = _variant(state)
    base = image.shape[1 if generator else 0]
    numbers = fc.shape[0 if generator else 1]
    found: dict[str, Any] = {"base_channels": base, "variant": variant}
    if variant == "resnet":
        found["resolution"] = 4 << (groups - 1)
        found["channel_max"] = numbers // 16
    else:
        coarsest = round((numbers // (16 * base)) ** 0.5)
        found["resolution"] = coarsest << (5 if variant == "resnet2" else 6)
    labels = state["embedding.weight"].shape if generator else (fc.shape[0], 0)
    found["num_classes"] = labels[0] if labels[0] > 1 else 0
    if generator:
        found |= {"embed_dim": labels[1], "latent_dim": fc.shape[1] - labels[1]}
    return found


def _variant(state: Mapping[str, Tensor]) -> tuple[str, int]:
    sequence = {name.split(".")[1] for name in state if name.startswith("resnet.")}
    if sequence:
        return "resnet", len(sequence)
    groups = {match[1] for name in state if (match := re.match(r"resnet_(\d+)_", name))}
    if "resnet_0_1.conv_0.weight" in state:
        return "resnet2", len(groups)
    if len(groups) != 7:
        raise UserError(
            f"{len(groups)} groups of one residual block are no variant that is known: resnet2 has two "
            "blocks a group, resnet4 seven groups, and resnet names its blocks resnet.0, resnet.2, ..."
        )
    return "resnet4", 7


def _foreign_state(network: Network) -> dict[str, Tensor]:
    own = network.state_dict()
    return {e.name: own[e.own].detach().cpu().reshape(e.shape).clone() for e in entries(network)}


def gan_stability_state(network: Network, part: str) -> dict[str, Any]:
    """A checkpoint as GAN_stability's scripts read it; the live and the averaged generator are the same.

    Args:
        network: A GP-GAN; of a divided one, what it computes.
        part: ``generator`` or ``discriminator``.

    Raises:
        UserError: It is no GP-GAN.
    """
    state = _foreign_state(_plain(network, (GPGANGenerator, GPGANDiscriminator), "gan-stability"))
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    return {name: prefixed for name in (["generator", "generator_test"] if part == "generator" else [part])}


def adafm_state(network: Network) -> dict[str, Tensor]:
    """A state dict as Zhao et al.'s code reads it.

    Their small-headed generator has gamma and beta always: 1 and 0 where the network has none of its own.

    Args:
        network: A GP-GAN, or a :class:`SmallHeadGenerator`, divided as theirs or not.

    Raises:
        UserError: It is neither.
    """
    if type(network) is SmallHeadGenerator and not _modulated_alone(network, "small_adafm"):
        network = merged(network)
        AdaFM([_CONVOLUTIONS]).apply(network)
    elif type(network) is not SmallHeadGenerator:
        network = _plain(network, (GPGANGenerator, GPGANDiscriminator), "adafm")
    return _foreign_state(network)


def ganmemory_state(network: Network) -> dict[str, Tensor]:
    """A complete state dict as GAN Memory's code reads it.

    Args:
        network: A GP-GAN of the variant ``resnet4``, divided as GAN Memory divides it.

    Raises:
        UserError: It is not.
    """
    fits = type(network) in _CLASSES.values() and _modulated_alone(network, "AdaFM")
    if not fits or network.config["init_args"]["variant"] != "resnet4":
        raise UserError(
            "ganmemory is a layout of GP-GANs of the variant resnet4 that AdaFM divides as GAN Memory does; "
            "use safetensors"
        )
    return _foreign_state(network)


def _modulated_alone(network: Network, mark: str) -> bool:
    """Whether the layout has a name for all that the sharing made, as it has for AdaFM's parts."""
    own = {name for name in network.state_dict() if not name.endswith(".const")}
    named = [entry for entry in entries(network) if entry.own in own]
    return len(named) == len(own) and any(mark in entry.name for entry in named)


def _plain(network: Network, classes: tuple[type[Network], ...], layout: str) -> Network:
    if type(network) not in classes:
        raise UserError(
            f"{layout} is a layout of GP-GAN; this is a {type(network).__name__}: use safetensors"
        )
    return merged(network)
