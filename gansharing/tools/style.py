"""Pictures that only generators with styles can give: style mixing and truncation."""

from pathlib import Path

import torch
from rich.console import Console

from gansharing.errors import UserError
from gansharing.latent import mix as mix_styles
from gansharing.latent import style_based
from gansharing.seeds import parse_seeds
from gansharing.tools.render import Look, Renderer
from gansharing.visual import grid, save_png


def mix(
    model: str,
    rows: str = "0-3",
    columns: str = "4-9",
    layers: str = "0-3",
    out: str = "mixing.png",
    truncation: float | None = None,
    label: int | None = None,
) -> None:
    """Draw a style-mixing grid: each tile is the row's image with some layers' styles from the column's.

    The left border shows the rows' own images, the upper border the columns'.

    Args:
        model: A checkpoint, a safetensors file or a run's folder, of a network with styles.
        rows: Latent seeds of the images that are changed.
        columns: Latent seeds of the images whose styles are taken.
        layers: Layers whose styles come from the column: 0-3 give its pose and shape, the last its colours.
        out: Target file.
        truncation: Psi of the truncation trick.
        label: Class of all images, for networks with classes.
    """
    renderer = Renderer.load(model, Look(truncation, label=label))
    down, across = parse_seeds(rows, "rows"), parse_seeds(columns, "columns")
    taken = parse_seeds(layers, "layers")
    own, sources = renderer.styles(down), renderer.styles(across)
    mixed = [mix_styles(row.expand_as(sources), sources, taken) for row in own[:, None]]
    images = renderer.of_styles(torch.cat([sources, *mixed]))
    upper, *inner = images.split(len(across))
    blank = torch.full_like(upper[:1], 255)
    lines = [torch.cat([left[None], line]) for left, line in zip(renderer.of_styles(own), inner, strict=True)]
    sheet = grid(torch.cat([blank, upper, *lines]), len(across) + 1)
    described = {"model": model, "rows": rows, "columns": columns, "layers": layers}
    save_png(sheet, out, metadata=described)
    Console().print(f"{len(down)} x {len(across)} mixed images with their sources: {out}")


def truncation(
    model: str,
    seeds: str = "0-7",
    psi: str = "-1,-0.5,0,0.5,0.7,1",
    cutoff: int | None = None,
    out: str = "truncation.png",
    label: int | None = None,
) -> None:
    """Draw the truncation trick: a row for each seed, a column for each psi; 0 is the mean image.

    Args:
        model: A checkpoint, a safetensors file or a run's folder, of a network with styles.
        seeds: Latent seeds.
        psi: Factors on the distance from the mean style; negative ones give the opposite image.
        cutoff: Truncate the first layers only.
        out: Target file.
        label: Class of all images, for networks with classes.
    """
    factors, numbers = _factors(psi), parse_seeds(seeds)
    generator = Renderer.load(model, Look(label=label)).generator
    style_based(generator)
    renderers = [Renderer(generator, Look(factor, cutoff, label=label)) for factor in factors]
    images = [renderer.of_styles(renderer.styles(numbers)) for renderer in renderers]
    sheet = grid(torch.stack(images, 1).flatten(0, 1), len(factors))
    save_png(sheet, Path(out), metadata={"model": model, "seeds": seeds, "psi": psi})
    Console().print(f"{len(numbers)} seeds, a column for each psi {psi}: {out}")


def _factors(text: str) -> list[float]:
    try:
        factors = [float(part) for part in text.split(",")]
    except ValueError:
        factors = []
    if not factors or not all(abs(factor) <= 10 for factor in factors):
        raise UserError(f"psi is '{text}'; write numbers from -10 to 10 such as -1,0,0.7,1")
    return factors
