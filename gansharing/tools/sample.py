"""Images from a trained generator."""

from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch import Tensor

from gansharing.errors import UserError
from gansharing.latent import walk
from gansharing.networks import Generator
from gansharing.seeds import parse_seeds
from gansharing.tools.between import between
from gansharing.tools.render import Look, Noise, Renderer, Statistics
from gansharing.tools.widths import at_widths, sample_widths
from gansharing.visual import grid, save_animation, save_png, strip, to_uint8


def sample(
    model: str,
    seeds: str = "0-63",
    out: str = "samples",
    columns: int = 8,
    batch_size: int = 64,
    truncation: float | None = None,
    cutoff: int | None = None,
    noise: Noise | None = None,
    label: int | None = None,
    width: str | None = None,
    batch_norm: Statistics | None = None,
) -> None:
    """Write images of latent seeds as numbered PNG files, and a grid of them.

    Args:
        model: A checkpoint, a safetensors file or a run's folder.
        seeds: Latent seeds such as 0-63 or 3,5,8-10.
        out: Target folder.
        columns: Tiles per row of grid.png.
        batch_size: Images generated at once.
        truncation: Psi of the truncation trick, for networks with styles: 0.7 gives cleaner ones.
        cutoff: Truncate the first layers only.
        noise: Noise maps of networks with styles: const (the network's own), random (by seed) or none.
        label: Class of all images, for networks with classes.
        width: Of slimmable networks: one such as 0.5, or several such as 0.25,0.5,1, each with a folder and,
            in grid.png, a row.
        batch_norm: Of FastGAN, whose statistics: running, or the batch's, by which its original samples; an
            image then depends on the others of its batch.
    """
    if columns < 1 or batch_size < 1:
        raise UserError(f"columns and batch_size must be at least 1, not {columns} and {batch_size}")
    renderer = Renderer.load(model, Look(truncation, cutoff, noise, label, batch_norm))
    numbers, folder = parse_seeds(seeds), Path(out)
    if width is not None:
        renderers = at_widths(renderer, width)
        if len(renderers) > 1:
            return sample_widths(renderers, numbers, folder, batch_size, model)
        renderer = next(iter(renderers.values()))
    tiles: list[Tensor] = []
    for first in range(0, len(numbers), batch_size):
        part = numbers[first : first + batch_size]
        images = renderer.of_seeds(part)
        for seed, image in zip(part, images, strict=True):
            save_png(image, folder / f"seed{seed:07d}.png", metadata={"seed": str(seed), "model": model})
        tiles.append(images[: max(0, 1024 - first)])
    save_png(grid(torch.cat(tiles), columns), folder / "grid.png", metadata={"seeds": seeds, "model": model})
    Console().print(f"{len(numbers)} images and grid.png in {folder}")


def interpolate(
    model: str,
    seeds: str = "0-3",
    out: str = "interpolation",
    steps: int = 8,
    space: Literal["z", "w"] = "z",
    mode: Literal["slerp", "lerp"] | None = None,
    loop: bool = False,
    fps: int = 12,
    video: Literal["gif", "mp4"] = "gif",
    truncation: float | None = None,
    label: int | None = None,
    found: str | None = None,
) -> None:
    """Walk through latent space from seed to seed, or between real images: strip.png and walk.gif.

    Args:
        model: A checkpoint, a safetensors file or a run's folder.
        seeds: At least two latent seeds, the stations of the walk.
        out: Target folder.
        steps: Images from one seed to the next.
        space: z (latents) or w (styles, for networks that have them: changes are more even).
        mode: slerp (along the sphere on which Gaussian latents lie) or lerp (straight, as in the SSD paper);
            by default slerp in z and lerp in w.
        loop: Return to the first seed.
        fps: Frames per second.
        video: gif, or mp4 with the extra gansharing[video].
        truncation: Psi of the truncation trick, for networks with styles.
        label: Class of all images, for networks with classes.
        found: In place of seeds, files NAME.safetensors of 'gansharing project', separated by commas: a walk
            between real images, in the space that they were found in.
    """
    renderer, numbers = Renderer.load(model, Look(truncation, label=label)), parse_seeds(seeds)
    if found is not None:
        images, seeds = between(renderer, found, steps, mode, loop), found
    else:
        images = walk_between(renderer, numbers, steps, space, mode, loop)
    folder = Path(out)
    save_animation(images, folder / f"walk.{video}", fps=fps)  # first: it is the one that may refuse
    save_png(strip(images), folder / "strip.png", metadata={"seeds": seeds, "model": model})
    Console().print(f"{len(images)} frames: {folder / 'strip.png'}, {folder / f'walk.{video}'}")


def walk_between(
    renderer: Renderer,
    seeds: list[int],
    steps: int,
    space: Literal["z", "w"] = "z",
    mode: Literal["slerp", "lerp"] | None = None,
    loop: bool = False,
) -> Tensor:
    """Images from one seed to the next; arguments as of :func:`interpolate`.

    Returns:
        uint8 ``(T, 3, H, W)``.

    Raises:
        UserError: There are fewer than two seeds, or no styles to walk in.
    """
    if len(seeds) < 2:
        raise UserError(
            f"a walk needs at least two seeds, got {','.join(map(str, seeds))}; write for example 1,7"
        )
    if space == "w":
        stations = renderer.styles(seeds)
        path = walk(stations.flatten(1), steps=steps, mode=mode or "lerp", loop=loop)
        return renderer.of_styles(path.unflatten(1, stations.shape[1:]))
    path = walk(renderer.latents(seeds), steps=steps, mode=mode or "slerp", loop=loop)
    return torch.cat([renderer.images(part) for part in path.split(64)])


@torch.inference_mode()
def images_of(generator: Generator, latents: Tensor) -> Tensor:
    """uint8 images ``(N, 3, H, W)`` of latents."""
    return to_uint8(generator(latents))
