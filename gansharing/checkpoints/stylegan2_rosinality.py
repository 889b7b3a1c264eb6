"""The layout of rosinality's stylegan2-pytorch, read and written."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gansharing.checkpoints.foreign import Imported, choose_part, read_bytes, read_torch, state_of
from gansharing.checkpoints.stylegan2_layout import arguments_of, fir, fit, is_fir
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.networks.stylegan2 import StyleGAN2Generator

_PARTS = {"g_ema": "ema", "g": "generator", "d": "discriminator"}
_W_AVG = "mapping.w_avg"
_MEAN_OVER = 10_000  # latents; the original takes 4,096 to 10,000 for truncation
#: NVIDIA's name, rosinality's, and the form that the tensor has there.
Row = tuple[str, str, str]
# To rosinality's form and back.
_FORMS: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "same": (lambda t: t, lambda t: t),
    "lead": (lambda t: t[None], lambda t: t.squeeze(0)),
    "strength": (lambda t: t.reshape(1), lambda t: t.reshape(())),
    "rgb": (lambda t: t.reshape(1, 3, 1, 1), lambda t: t.flatten()),
    "noise": (lambda t: t[None, None], lambda t: t.squeeze(0).squeeze(0)),
}


def generator_rows(resolution: int, mapping_layers: int) -> Iterator[Row]:
    """How the tensors of a generator are named in both layouts; ``mapping.w_avg`` lies outside of it."""
    for number in range(mapping_layers):
        for kind in ("weight", "bias"):
            yield f"mapping.fc{number}.{kind}", f"style.{number + 1}.{kind}", "same"
    yield "synthesis.b4.const", "input.input", "lead"
    for level in range(resolution.bit_length() - 2):
        block = f"synthesis.b{4 << level}"
        convolutions = [("conv0", 2 * level - 2), ("conv1", 2 * level - 1)] if level else [("conv1", -1)]
        for own, number in convolutions:
            yield from _convolution_rows(f"{block}.{own}", number)
        other = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        yield f"{block}.torgb.weight", f"{other}.conv.weight", "lead"
        yield from _affine_rows(f"{block}.torgb", other)
        yield f"{block}.torgb.bias", f"{other}.bias", "rgb"


def _convolution_rows(own: str, number: int) -> Iterator[Row]:
    other = f"convs.{number}" if number >= 0 else "conv1"
    yield f"{own}.weight", f"{other}.conv.weight", "lead"
    yield from _affine_rows(own, other)
    yield f"{own}.noise_strength", f"{other}.noise.weight", "strength"
    yield f"{own}.bias", f"{other}.activate.bias", "same"
    yield f"{own}.noise_const", f"noises.noise_{number + 1}", "noise"


def _affine_rows(own: str, other: str) -> Iterator[Row]:
    for kind in ("weight", "bias"):
        yield f"{own}.affine.{kind}", f"{other}.conv.modulation.{kind}", "same"


def discriminator_rows(resolution: int) -> Iterator[Row]:
    """How the tensors of a discriminator are named in both layouts."""
    yield f"b{resolution}.fromrgb.weight", "convs.0.0.weight", "same"
    yield f"b{resolution}.fromrgb.bias", "convs.0.1.bias", "same"
    for number in range(1, resolution.bit_length() - 2):
        block, other = f"b{resolution >> (number - 1)}", f"convs.{number}"
        yield f"{block}.conv0.weight", f"{other}.conv1.0.weight", "same"
        yield f"{block}.conv0.bias", f"{other}.conv1.1.bias", "same"
        yield f"{block}.conv1.weight", f"{other}.conv2.1.weight", "same"
        yield f"{block}.conv1.bias", f"{other}.conv2.2.bias", "same"
        yield f"{block}.skip.weight", f"{other}.skip.1.weight", "same"
    for own, other in (("conv", "final_conv.0"), ("fc", "final_linear.0"), ("out", "final_linear.1")):
        yield f"b4.{own}.weight", f"{other}.weight", "same"
        yield f"b4.{own}.bias", "final_conv.1.bias" if own == "conv" else f"{other}.bias", "same"


def _filters(resolution: int, kind: str) -> dict[str, float]:
    """Names and gains of the constant low-pass filters that the state dicts hold."""
    levels = resolution.bit_length() - 3
    if kind == "discriminator":
        return {f"convs.{n}.{own}.0.kernel": 1.0 for n in range(1, levels + 1) for own in ("conv2", "skip")}
    up = [
        (f"convs.{2 * level}.conv.blur.kernel", f"to_rgbs.{level}.upsample.kernel") for level in range(levels)
    ]
    return {name: 4.0 for pair in up for name in pair}


def read_rosinality(path: Path, part: str | None) -> Imported:
    """Read a ``.pt`` of training or of the converter, or one of its state dicts alone.

    The averaged style of a file without ``latent_avg`` is estimated: the mean over 10,000 seeded latents.

    Arguments and errors are those of :class:`~gansharing.checkpoints.foreign.Reader`.
    """
    source = str(path)
    content = read_torch(read_bytes(path), source)
    states = _states(content)
    chosen, notes = choose_part(part, {part: name for part, (name, _) in states.items()}, source)
    kind = "discriminator" if chosen == "discriminator" else "generator"
    name, foreign = states[chosen]
    state, names = _to_nvidia(foreign, kind, source)
    if kind == "discriminator":
        network = fit(kind, arguments_of(state, kind) | {"group_size": 4}, state, source, names)
        return Imported(network, kind, [*notes, f"read {name}"])
    average = content.get("latent_avg") if isinstance(content, Mapping) else None
    arguments = arguments_of(state, kind)
    known = isinstance(average, Tensor)
    state[_W_AVG] = average.flatten() if isinstance(average, Tensor) else torch.zeros(arguments["w_dim"])
    network = fit(kind, arguments, state, source, names | {_W_AVG: "latent_avg"})
    if not known:
        _estimate_average(network)
        notes.append(f"no latent_avg: the average style is the mean over {_MEAN_OVER:,} latents of seed 0")
    return Imported(network, kind, [*notes, f"read {name}"])


def _states(content: Any) -> dict[str, tuple[str, dict[str, Tensor]]]:
    """State dicts by part, each with its name in the file."""
    if not isinstance(content, Mapping):
        return {}
    found = {part: (name, state_of(content[name])) for name, part in _PARTS.items() if name in content}
    alone = state_of(content)
    if "input.input" in alone:  # whether it is averaged, it does not say
        return {part: ("its only generator", alone) for part in ("ema", "generator")}
    if "final_conv.0.weight" in alone:
        return {"discriminator": ("its only discriminator", alone)}
    return found


def _to_nvidia(
    foreign: Mapping[str, Tensor], kind: str, source: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by NVIDIA's names, and those names' own in the file."""
    marks = {"generator": r"to_rgbs\.\d+\.bias", "discriminator": r"convs\.\d+\.conv1\.0\.weight"}
    levels = sum(re.fullmatch(marks[kind], name) is not None for name in foreign)
    resolution = 4 << min(levels, 16)
    layers = sum(re.fullmatch(r"style\.\d+\.weight", name) is not None for name in foreign)
    rows = generator_rows(resolution, layers) if kind == "generator" else discriminator_rows(resolution)
    state, names, seen = {}, {}, set()
    for own, other, form in rows:
        names[own] = other
        if other in foreign:
            seen.add(other)
            state[own] = _formed_back(foreign[other], form)
    filters = _filters(resolution, kind)
    for name in foreign.keys() - seen:
        if name not in filters:
            state[name] = foreign[name]  # left over, and fit says so
        elif not is_fir(foreign[name], filters[name]):
            raise UserError(f"{source} resamples by another filter than [1, 3, 3, 1]: {name}; not supported")
    return state, names


def _formed_back(tensor: Tensor, form: str) -> Tensor:
    try:
        return _FORMS[form][1](tensor)
    except RuntimeError:  # of a shape that the form does not have: fit names it
        return tensor


def _estimate_average(network: Network) -> None:
    assert isinstance(network, StyleGAN2Generator)
    latents = network.sample_latent(_MEAN_OVER, torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = torch.stack([network.mapping(part).double().mean(0) for part in latents.split(1000)]).mean(0)
        network.mapping.w_avg.copy_(mean)


def rosinality_state(network: Network, part: str) -> dict[str, Any]:
    """A checkpoint as the original's scripts read it: ``{"g_ema", "latent_avg"}``, or ``{"d"}``.

    The state dicts are complete, constant filters included: the original's classes load them strictly.

    Args:
        network: A :class:`StyleGAN2Generator` or a :class:`StyleGAN2Discriminator`.
        part: Which of both.

    Raises:
        UserError: The layout has no place for it (labels, styles of another length than latents).
    """
    arguments = network.config["init_args"]
    if arguments["num_classes"]:
        raise UserError("rosinality's layout has no labels; export the network as stylegan2-ada-state")
    if part == "generator" and arguments["latent_dim"] != arguments["w_dim"]:
        raise UserError(
            f"rosinality's layout has one length for latents ({arguments['latent_dim']}) and styles "
            f"({arguments['w_dim']}); export the network as stylegan2-ada-state"
        )
    own = network.state_dict()
    size = arguments["resolution"]
    rows = list(
        generator_rows(size, arguments["mapping_layers"]) if part == "generator" else discriminator_rows(size)
    )
    if surplus := sorted(own.keys() - {name for name, _, _ in rows} - {_W_AVG}):
        raise UserError(f"rosinality's layout has no place for {', '.join(surplus[:3])}")
    state = {other: _FORMS[form][0](own[name]).cpu().clone() for name, other, form in rows}
    state |= {name: fir(gain) for name, gain in _filters(size, part).items()}
    if part == "discriminator":
        return {"d": state}
    return {"g_ema": state, "latent_avg": own[_W_AVG].cpu().clone()}


def fits_original(network: Network) -> bool:
    """Whether the original's classes have these widths: they are fixed but for a factor of 1 or 2."""
    arguments = network.config["init_args"]
    size = arguments["resolution"]
    widths = [min(arguments["channel_base"] // s, arguments["channel_max"]) for s in _up_to(size)]
    return widths in ([min(base // s, 512) for s in _up_to(size)] for base in (16384, 32768))


def _up_to(size: int) -> list[int]:
    return [4 << level for level in range(size.bit_length() - 2)]
