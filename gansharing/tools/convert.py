"""Weights in and out: safetensors, and the layouts of original repositories."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from gansharing.checkpoints import export_delta, export_deltas, find_checkpoint, load, save_network
from gansharing.checkpoints.fastgan import fastgan_state, read_fastgan
from gansharing.checkpoints.foreign import Reader
from gansharing.checkpoints.gan_stability import (
    adafm_state,
    gan_stability_state,
    ganmemory_state,
    read_gan_stability,
    read_ganmemory,
)
from gansharing.checkpoints.mimicry import read_mimicry
from gansharing.checkpoints.minegan import read_minegan
from gansharing.checkpoints.slimgan import read_slimgan
from gansharing.checkpoints.spectral_style import read_ssd
from gansharing.checkpoints.starganv2 import read_starganv2
from gansharing.checkpoints.stylegan2_layout import CLASSES
from gansharing.checkpoints.stylegan2_nvidia import nvidia_state, read_nvidia
from gansharing.checkpoints.stylegan2_rosinality import fits_original, read_rosinality, rosinality_state
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.networks import Network
from gansharing.tools.deploy import FixedNoise, write_graph
from gansharing.tools.widths import cut_out

Format = Literal[
    "ssd", "stylegan2-ada", "rosinality", "minegan", "gan-stability", "adafm", "ganmemory", "fastgan",
    "mimicry", "slimgan", "stargan-v2",
]  # fmt: skip
Layout = Literal[
    "safetensors", "onnx", "torch-export", "rosinality", "stylegan2-ada-state", "gan-stability", "adafm",
    "ganmemory", "fastgan",
]  # fmt: skip
_ENDINGS: Mapping[str, str] = {"safetensors": "safetensors", "onnx": "onnx", "torch-export": "pt2"}
_READERS: Mapping[str, Reader] = {
    "ssd": read_ssd,
    "stylegan2-ada": read_nvidia,
    "rosinality": read_rosinality,
    "minegan": read_minegan,
    "gan-stability": read_gan_stability,
    "adafm": read_gan_stability,
    "ganmemory": read_ganmemory,
    "fastgan": read_fastgan,
    "mimicry": read_mimicry,
    "slimgan": read_slimgan,
    "stargan-v2": read_starganv2,
}
_STATES: Mapping[str, Callable[[Network, str], Any]] = {
    "gan-stability": gan_stability_state,
    "adafm": lambda network, _: adafm_state(network),
    "ganmemory": lambda network, _: ganmemory_state(network),
    "fastgan": fastgan_state,
}


def export(
    model: str,
    out: str | None = None,
    part: Literal["generator", "discriminator"] = "generator",
    format: Layout = "safetensors",
    delta: bool = False,
    deltas: bool = False,
    energy: float | None = None,
    width: float | None = None,
    noise: FixedNoise | None = None,
) -> None:
    """Write a network of a checkpoint: as safetensors whose header rebuilds it, a graph, or another's layout.

    A network that was trained with a sharing is written merged, as an ordinary one; adafm and ganmemory keep
    what those divide.

    Args:
        model: A checkpoint or a run's folder.
        out: Target file; by default the part's name with .safetensors, .onnx, .pt2 or .pt. Of deltas the
            folder, deltas by default.
        part: Which network; the generator is the averaged one.
        format: safetensors; a generator's graph for any number of images, which needs no gansharing: onnx
            (opset 18, with the extra gansharing[deploy]) or torch-export; for StyleGAN2 a .pt without pickled
            classes: rosinality (stylegan2-pytorch: g_ema and latent_avg, or d) or stylegan2-ada-state (a
            state dict by NVIDIA's names); for GP-GAN gan-stability (GAN_stability's checkpoint), adafm (a
            state dict of Zhao et al.'s code; a small head too) or ganmemory (a state dict of GAN Memory's);
            for FastGAN fastgan (g or d).
        delta: Of a transfer, write only what its domain owns; 'gansharing sample --base BASE --delta FILE'
            puts it back.
        deltas: Of a training of many domains, write shared.safetensors and deltas/DOMAIN.safetensors, which
            'gansharing sample --base OUT/shared.safetensors --delta OUT/deltas' reads.
        energy: Of a delta, keep this share of the singular values of each scale, shift and other matrix that
            lies beside frozen weights; 'python experiments/compression.py' says what it costs in FID.
        width: Of a slimmable generator, cut this share of the channels out as an ordinary network.
        noise: Of an onnx or torch-export graph of a network with noise maps: const (its own, the default) or
            none.
    """
    if noise is not None and format not in ("onnx", "torch-export"):
        raise UserError(f"--noise {noise} is for onnx and torch-export; a network in {format} has no choice")
    if (delta or deltas) and width is not None:
        raise UserError(f"a delta holds every width; leave --width {width:g} out")
    if (delta or deltas) and format != "safetensors":
        raise UserError(f"a delta is written as safetensors only; leave --format {format} out")
    if deltas:
        return _export_deltas(model, out or "deltas", part, energy)
    if delta:
        return _export_delta(model, out or "delta.safetensors", part, energy)
    if energy is not None:
        raise UserError(f"energy {energy} compresses a delta only; add --delta, or leave it out")
    network = load(model, part, divided=format in ("adafm", "ganmemory"))
    network = network if width is None else cut_out(network, width)
    out, source = out or f"{part}.{_ENDINGS.get(format, 'pt')}", find_checkpoint(model).name
    if format == "safetensors":
        save_network(network, out, part, {"source": source})
    elif format == "onnx" or format == "torch-export":
        for note in write_graph(network, out, format, noise, source):
            Console(soft_wrap=True).print(f"note: {note}", markup=False, highlight=False)
    else:
        _write_foreign(network, out, part, format)
    _say(network, part, out)


def _export_delta(model: str, out: str, part: str, energy: float | None) -> None:
    written = export_delta(model, out, part, energy)
    count = sum(flat.numel() for flat in written.tensors.values())
    size = "" if energy is None else f", {Path(out).stat().st_size:,} bytes at energy {energy}"
    Console(soft_wrap=True).print(f"delta of a {part} ({count:,} numbers{size}) in {out}")


def _export_deltas(model: str, out: str, part: str, energy: float | None) -> None:
    written = export_deltas(model, out, part, energy)
    count, sizes = len(written.deltas), sorted(path.stat().st_size for path in written.deltas.values())
    each = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"
    size, whole = written.bytes, written.whole_bytes
    Console(soft_wrap=True).print(
        f"{count} domains ({part}) in {out}: shared.safetensors of {written.shared.stat().st_size:,} bytes, "
        f"deltas of {each}; {size:,} in all: {size / whole:.1%} of the {whole:,} of {count} whole networks"
    )


def _write_foreign(network: Network, out: str, part: str, layout: str) -> None:
    if layout in _STATES:
        state = _STATES[layout](network, part)
        write_atomically(out, lambda file: torch.save(state, file))
        return
    if type(network) is not CLASSES[part] or "sharing" in network.config:
        added = f" with {network.config['sharing']['class_path']}" if "sharing" in network.config else ""
        raise UserError(
            f"{layout} is a layout of StyleGAN2; this is a {type(network).__name__}{added}: use safetensors"
        )
    content = rosinality_state(network, part) if layout == "rosinality" else nvidia_state(network)
    write_atomically(out, lambda file: torch.save(content, file))
    if layout == "rosinality" and not fits_original(network):
        Console().print("note: the original's classes have other channels: they cannot load this file")


def import_(
    source: str,
    out: str = "imported.safetensors",
    format: Format = "ssd",
    part: str | None = None,
    over: str | None = None,
) -> None:
    """Read a checkpoint of an original repository and write it as safetensors.

    Nothing in the file is executed: tensors and plain values are read, and a file that names anything else is
    refused by that name.

    Args:
        source: The original's checkpoint.
        out: Target file.
        format: Whose: ssd (Spectral Style-DCGAN), stylegan2-ada (NVIDIA's .pkl, of PyTorch or TensorFlow, or
            a state dict by their names), rosinality (stylegan2-pytorch's .pt), minegan (a miner),
            gan-stability, adafm or ganmemory (GP-GAN: its source, transfers with few images, lifelong tasks),
            fastgan, mimicry (SNGAN, cGAN-pd), slimgan (their slimmable forms, SNDCGAN), stargan-v2.
        part: Which of its networks: ema (the averaged generator), generator (the live one), discriminator,
            miner; of stargan-v2 also mapping and style_encoder. By default the averaged generator if there
            is one, else the generator.
        over: For ganmemory's file of one task: what the task modulates, as it was imported.
    """
    if over is not None and format != "ganmemory":
        raise UserError(f"--over {over}: files of {format} hold whole networks; only ganmemory's may need it")
    path = Path(source)
    read = _READERS[format](path, part) if over is None else read_ganmemory(path, part, over)
    origin = {"source": Path(source).name, "format": format, "notes": read.notes}
    save_network(read.network, out, read.part, origin)
    for note in read.notes:
        Console(soft_wrap=True).print(f"note: {note}", markup=False, highlight=False)
    _say(read.network, read.part, out)


def _say(network: Network, part: str, out: str) -> None:
    count = sum(p.numel() for p in network.parameters())
    Console(soft_wrap=True).print(f"{type(network).__name__} ({part}, {count:,} parameters) in {out}")
