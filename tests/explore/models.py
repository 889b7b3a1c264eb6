"""Tiny models that the page is tried on: a base with classes and two domains, a slimmable, a plain one."""

import copy
from pathlib import Path

import torch

from gansharing.checkpoints import save_delta, save_network
from gansharing.networks import Generator, StyleGAN2Generator
from gansharing.sharing import WidthWise, delta_of
from gansharing.slimmable import SlimmableGenerator
from tests.latent.tiny import tiny_stylegan2
from tests.tools.generators import GENERATORS, lively

CLASSES = 3
DOMAINS = ("cats", "dogs")


def write_models(folder: Path) -> dict[str, Path]:
    """``base``, its deltas ``cats`` and ``dogs``, and files of other architectures."""
    base = tiny_stylegan2(CLASSES)
    paths = {"base": _saved(base, folder, "base")}
    for seed, name in enumerate(DOMAINS):
        save_delta(delta_of(moved(base, seed)), folder / f"{name}.safetensors")
        paths[name] = folder / f"{name}.safetensors"
    paths["slim"] = _saved(slim(), folder, "slim")
    paths["other"] = _saved(lively(GENERATORS["DCGAN"]), folder, "other")
    return paths


def moved(base: StyleGAN2Generator, seed: int) -> Generator:
    """The base with other weights where its domain owns them."""
    network = copy.deepcopy(base)
    split = WidthWise(0.3).apply(network)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in split.domain.values():
            parameter.add_(torch.randn(parameter.shape, generator=source) * 0.1)
    return network.eval()


def slim() -> SlimmableGenerator:
    """Three widths, in eval mode without gradients."""
    network = SlimmableGenerator(lively(GENERATORS["SNGAN"]), widths=(0.25, 0.5, 1.0))
    return network.eval().requires_grad_(False)


def _saved(network: Generator, folder: Path, name: str) -> Path:
    save_network(network, folder / f"{name}.safetensors", "generator")
    return folder / f"{name}.safetensors"
