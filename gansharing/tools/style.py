"""Pictures that only generators with styles, or excitations, can give: style mixing and truncation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import torch
from rich.console import Console
from torch import Tensor

from gansharing.errors import UserError
from gansharing.latent import ContentBased, excited, has_content, has_styles, style_based
from gansharing.latent import mix as mix_styles
from gansharing.seeds import parse_seeds
from gansharing.tools.excitations import Mixture, mixed_maps
from gansharing.tools.render import Look, Renderer
from gansharing.visual import grid, save_png, to_uint8


def mix(
    model: str,
    rows: str = "0-3",
    columns: str = "4-9",
    layers: str | None = None,
    out: str = "mixing.png",
    truncation: float | None = None,
    label: int | None = None,
) -> None:
    """Draw a style-mixing grid: each tile is the row's image with some layers' styles from the column's.

    The left border shows the rows' own images, the upper border the columns'. Of a small head, whose coarsest
    features come from the latent as well, the rows are Zhao et al.'s (2020) "source", which keeps shape and
    place, and the columns their "destination", which gives colours.

    Args:
        model: A checkpoint, a safetensors file or a run's folder, of a network with styles, or FastGAN.
        rows: Latent seeds of the images that are changed.
        columns: Latent seeds of the images whose styles are taken.
        layers: Layers whose styles come from the column: 0-3 give its pose and shape, the last its colours.
            When omitted 0-3, or all of a small head. Of FastGAN, its excitations from 64 px (0) to 512 px
            (3); when omitted all but the first, as the original does, where there are others.
        out: Target file.
        truncation: Psi of the truncation trick.
        label: Class of all images, for networks with classes.
    """
    renderer = Renderer.load(model, Look(truncation, label=label))
    down, across = parse_seeds(rows, "rows"), parse_seeds(columns, "columns")
    upper, lines, taken = mixture(renderer, down, across, layers)
    sheet = grid(torch.cat([torch.full_like(upper[:1], 255), upper, *lines]), len(across) + 1)
    described = {"model": model, "rows": rows, "columns": columns, "layers": ",".join(map(str, taken))}
    save_png(sheet, out, metadata=described)
    Console().print(f"{len(down)} x {len(across)} mixed images with their sources: {out}")


def mixture(renderer: Renderer, down: list[int], across: list[int], layers: str | None) -> Mixture:
    """Mix each row's image with each column's, by styles or, where there are excitations, by maps.

    Args:
        renderer: Of a generator with styles, a small head, or FastGAN.
        down: Latent seeds of the rows.
        across: Latent seeds of the columns.
        layers: Which come from the column, as :func:`mix` takes them.

    Raises:
        UserError: The network cannot mix, or a layer does not exist.
    """
    draw = _mixed_styles if excited(renderer.generator) is None else mixed_maps
    return draw(renderer, down, across, layers)


def _mixed_styles(renderer: Renderer, down: list[int], across: list[int], layers: str | None) -> Mixture:
    own, sources = Ingredients.of(renderer, down), Ingredients.of(renderer, across)
    whole = own.content is not None
    taken = (
        list(range(own.styles.shape[1]))
        if whole and layers is None
        else parse_seeds(layers or "0-3", "layers")
    )
    lines = [
        torch.cat([left[None], own.with_styles(row, sources, taken).images(renderer)])
        for row, left in enumerate(own.images(renderer))
    ]
    return Mixture(sources.images(renderer), lines, taken)


@dataclass(frozen=True)
class Ingredients:
    """What images are made of.

    Attributes:
        styles: ``(N, layers, w_dim)``.
        content: Coarsest features ``(N, C, h, w)`` where they depend on the latent too.
    """

    styles: Tensor
    content: Tensor | None = None

    @classmethod
    @torch.inference_mode()
    def of(cls, renderer: Renderer, seeds: list[int]) -> Self:
        """Of latent seeds.

        Raises:
            UserError: The network has no styles.
        """
        if not has_content(renderer.generator) or has_styles(renderer.generator):
            return cls(renderer.styles(seeds))
        network, latents = cast(ContentBased, renderer.generator), renderer.latents(seeds)
        return cls(network.style(latents), network.content(latents))

    def with_styles(self, row: int, others: "Ingredients", layers: Sequence[int]) -> "Ingredients":
        """One of these images as often as there are others, each with another's styles in some layers."""
        content = None if self.content is None else self.content[row].expand(len(others.styles), -1, -1, -1)
        return Ingredients(
            mix_styles(self.styles[row].expand_as(others.styles), others.styles, layers), content
        )

    @torch.inference_mode()
    def images(self, renderer: Renderer, batch_size: int = 16) -> Tensor:
        """uint8 ``(N, 3, H, W)``."""
        if self.content is None:
            return renderer.of_styles(self.styles)
        synthesis = cast(ContentBased, renderer.generator).synthesis
        parts = zip(self.content.split(batch_size), self.styles.split(batch_size), strict=True)
        return torch.cat([to_uint8(synthesis(content, styles)) for content, styles in parts])


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
