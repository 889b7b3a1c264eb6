"""Several domains of one base: their images beside each other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch import Tensor

from gansharing.checkpoints import load_base, read_delta
from gansharing.errors import UserError
from gansharing.networks import Generator
from gansharing.seeds import parse_seeds
from gansharing.sharing import Domains
from gansharing.tools.render import Look, Renderer
from gansharing.visual import grid, save_png, to_uint8

_COLUMNS = 32  # of the grid


def sample_domains(
    base: str,
    delta: str,
    seeds: str = "0-7",
    out: str = "samples",
    batch_size: int = 32,
    truncation: float | None = None,
    cutoff: int | None = None,
    noise: Literal["const", "none"] | None = None,
    label: int | None = None,
) -> None:
    """Write images of several domains of one base, and a grid with a row a domain and a column a seed.

    The base is held once, and a batch mixes the domains: what they share is computed once for all of it.

    Args:
        base: What the domains were trained from: a checkpoint, a safetensors file or a run's folder; or
            shared.safetensors of 'gansharing export RUN --deltas'.
        delta: Files of 'gansharing export RUN --delta', separated by commas, or a folder of them.
        seeds: Latent seeds such as 0-63 or 3,5,8-10, the same in every domain.
        out: Target folder; each domain has a folder of its own in it, named as its file.
        batch_size: Images generated at once.
        truncation: Psi of the truncation trick, for networks with styles; each domain has its own mean style.
        cutoff: Truncate the first layers only.
        noise: Noise maps of networks with styles: const (the network's own) or none.
        label: Class of all images, for networks with classes.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give at least 1")
    numbers, files, folder = parse_seeds(seeds), _files(delta), Path(out)
    network = load_base(base)
    if not isinstance(network, Generator):
        raise UserError(f"{base} holds no generator")
    renderer = Renderer(network, Look(truncation, cutoff, noise, label))
    domains = Domains(network, [read_delta(file) for file in files])
    names = distinct([Path(file).stem for file in files])
    tiles: dict[tuple[int, int], Tensor] = {}
    for number, seed, image in _images(domains, renderer, numbers, batch_size):
        about = {"seed": str(seed), "base": base, "delta": files[number]}
        save_png(image, folder / names[number] / f"seed{seed:07d}.png", metadata=about)
        if seed in numbers[:_COLUMNS]:
            tiles[number, seed] = image
    columns = numbers[:_COLUMNS]
    sheet = grid(torch.stack([tiles[n, seed] for n in range(len(names)) for seed in columns]), len(columns))
    save_png(sheet, folder / "grid.png", metadata={"seeds": seeds, "rows": ", ".join(names), "base": base})
    images = f"{len(numbers)} images of each of {len(names)} domains in {folder}"
    Console(soft_wrap=True).print(f"{images}; rows of grid.png: {', '.join(names)}")


def _images(
    domains: Domains, renderer: Renderer, seeds: list[int], batch_size: int
) -> Iterator[tuple[int, int, Tensor]]:
    pairs = [(number, seed) for seed in seeds for number in range(len(domains))]
    for first in range(0, len(pairs), batch_size):
        part = pairs[first : first + batch_size]
        latents = renderer.latents([seed for _, seed in part])
        rows = torch.tensor([number for number, _ in part])
        images = to_uint8(domains(latents, rows, renderer.labels(len(part)), **renderer.options))
        for (number, seed), image in zip(part, images, strict=True):
            yield number, seed, image


def _files(delta: str) -> list[str]:
    given = [name for name in delta.split(",") if name]
    found = [sorted(Path(name).glob("*.safetensors")) if Path(name).is_dir() else [name] for name in given]
    return [str(file) for files in found for file in files]


def distinct(names: list[str]) -> list[str]:
    """The names, those that occur more than once with their places behind them."""
    return [f"{name}-{n}" if names.count(name) > 1 else name for n, name in enumerate(names)]
