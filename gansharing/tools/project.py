"""The latent of a real image."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save as to_bytes
from torch import Tensor

from gansharing.data.decode import BadImage, Recipe, decode, decode_rgb
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.latent import Projection, has_styles, project_latent, project_styles, style_based
from gansharing.metrics.perceptual import PerceptualDistance, PerceptualName, build_distance
from gansharing.tools.render import Look, Renderer
from gansharing.visual import save_png, strip

Space = Literal["w", "w+", "z"]
_LARGEST = 256  # pixels that the perceptual distance sees, as in the paper


class Target(NamedTuple):
    """An image to find: its name, ``(1, 3, H, W)`` in [-1, 1], and what was done to its size."""

    name: str
    image: Tensor
    note: str


def project(
    model: str,
    images: list[str],
    space: Space | None = None,
    steps: int = 1000,
    out: str = "projection",
    distance: PerceptualName = "lpips_lite",
    weights: str | None = None,
    pixels: float = 1.0,
    seed: int = 0,
    label: int | None = None,
    device: str = "auto",
) -> None:
    """Find the latents that give real images: NAME.png (target | found), NAME_steps.png, NAME.safetensors.

    Args:
        model: A checkpoint, a safetensors file or a run's folder.
        images: Image files; another size or shape is cropped to its middle square and resized.
        space: w (one style for all layers), w+ (one for each: nearer, but harder to edit) or z (latents); by
            default w where the network has styles, else z.
        steps: Optimisation steps an image.
        out: Target folder.
        distance: lpips_lite (embedded) or lpips_vgg (the paper's; its weights are downloaded, or named).
        weights: A file with the ImageNet weights of lpips_vgg or lpips_alex.
        pixels: Weight of the mean squared pixel difference beside the perceptual distance; 0 in the paper.
        seed: Of everything that is drawn.
        label: Class of the images, for networks with classes.
        device: cpu, cuda, or auto for a GPU where there is one.
    """
    if steps < 1 or not 0 <= pixels < float("inf"):
        raise UserError(f"steps must be at least 1 and pixels at least 0, not {steps} and {pixels}")
    renderer, folder, console = Renderer.load(model, Look(label=label)), Path(out), Console()
    generator, where = renderer.generator, _device(device)
    space = space or ("w" if has_styles(generator) else "z")
    if space != "z":
        style_based(generator)
    targets = _targets(images, generator.resolution)
    generator.to(where)
    embed = _embedding(build_distance(distance, weights).to(where), pixels)
    labels = renderer.labels(1)
    labels = None if labels is None else labels.to(where)
    described = {"model": model, "space": space, "steps": str(steps), "seed": str(seed)}
    described |= {"distance": f"{distance} + {pixels:g} pixels"}
    for target in targets:
        if target.note:
            console.print(target.note)
        with _shown(console, target.name, steps) as on_step:
            image = target.image.to(where)
            if space == "z":
                found = project_latent(generator, image, embed, steps, seed, labels, on_step)
            else:
                found = project_styles(generator, image, embed, steps, seed, space == "w+", labels, on_step)
        _write(found, target, folder, described | {"image": target.name})
        console.print(
            f"{target.name}: distance {found.start:.4f} at the start, {found.end:.4f} at the end; "
            f"{folder / target.name}.png, _steps.png, .safetensors"
        )


def _targets(paths: list[str], resolution: int) -> list[Target]:
    """All images, decoded before the first is projected: hours may lie between them."""
    targets = [_target(Path(path), resolution) for path in paths]
    names = [target.name for target in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two images are called {twice[0]}; project them into different folders with --out")
    return targets


def _target(path: Path, resolution: int) -> Target:
    try:
        data = path.read_bytes()
        width, height = decode_rgb(data).size
        pixels = torch.from_numpy(decode(data, Recipe(resolution, crop="center")).copy())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give image files after the model") from error
    except BadImage as error:
        raise UserError(f"{path} is damaged or no image: {error}") from error
    image = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
    note = ""
    if (width, height) != (resolution, resolution):
        cut = "" if width == height else "its middle square is "
        note = f"{path} is {width} x {height}; {cut}resized to {resolution} x {resolution}"
    return Target(path.stem, image, note)


def _embedding(distance: PerceptualDistance, pixels: float) -> Callable[[Tensor], Tensor]:
    """Points whose squared distance is the perceptual one plus ``pixels`` mean squared differences."""

    def embed(images: Tensor) -> Tensor:
        seen = images
        if images.shape[-1] > _LARGEST:
            seen = F.interpolate(images, (_LARGEST, _LARGEST), mode="area")
        scale = (pixels / images[0].numel()) ** 0.5
        return torch.cat([distance.embed(seen), images.flatten(1) * scale], 1)

    return embed


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' is not available here; use cpu or auto") from error


@contextmanager
def _shown(console: Console, name: str, steps: int) -> Iterator[Callable[[int, float], None]]:
    """What to call after each step, to show it with the distance and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("distance {task.fields[distance]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=steps, distance="")
        yield lambda step, value: bar.update(task, completed=step, distance=f"{value:.4f}")


def _write(found: Projection, target: Target, folder: Path, described: dict[str, str]) -> None:
    latent = {"ws" if found.latent.ndim == 3 else "latent": found.latent}
    tensors = latent | {f"noise.{name}": plane for name, plane in found.noise.items()}
    payload = to_bytes({name: value.cpu().contiguous() for name, value in tensors.items()}, described)
    write_atomically(folder / f"{target.name}.safetensors", lambda file: file.write(payload))
    beside = strip(torch.cat([target.image, found.image.cpu()]))
    save_png(beside, folder / f"{target.name}.png", metadata=described)
    save_png(strip(torch.cat(found.path)), folder / f"{target.name}_steps.png", metadata=described)
