"""The latents of real images."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save as to_bytes
from torch import Tensor

from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.latent import Projection, has_styles, project_latent, project_styles, style_based
from gansharing.metrics.perceptual import PerceptualDistance, PerceptualName, build_distance
from gansharing.tools.render import Look, Renderer
from gansharing.tools.targets import Split, Target, read_targets
from gansharing.visual import save_png, strip

Space = Literal["w", "w+", "z"]
_LARGEST = 256  # pixels that the perceptual distance sees, as in the paper


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
    split: Split | None = None,
) -> None:
    """Find the latents that give real images: NAME.png (target | found), NAME_steps.png, NAME.safetensors.

    errors.json has the distance of each image and their means: how well a network covers images that it was
    not trained on (Liu et al. 2021, Table 5, project one tenth of the images that was held out).

    Args:
        model: A checkpoint, a safetensors file or a run's folder.
        images: Image files, or folders and zips of them; another size or shape is cropped to its middle
            square and resized.
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
        split: Of folders with splits: val takes the images in their val folder alone.
    """
    if steps < 1 or not 0 <= pixels < float("inf"):
        raise UserError(f"steps must be at least 1 and pixels at least 0, not {steps} and {pixels}")
    renderer, folder, console = Renderer.load(model, Look(label=label)), Path(out), Console()
    generator, where = renderer.generator, _device(device)
    space = space or ("w" if has_styles(generator) else "z")
    if space != "z":
        style_based(generator)
    targets = read_targets(images, generator.resolution, split)
    generator.to(where)
    perceptual = build_distance(distance, weights).to(where)
    described = {"model": model, "space": space, "steps": str(steps), "seed": str(seed)}
    described |= {"distance": f"{distance} + {pixels:g} pixels"}
    errors: dict[str, dict[str, float]] = {}
    for number, target in enumerate(targets, 1):
        if target.note:
            console.print(target.note)
        with _shown(console, f"{target.name} ({number}/{len(targets)})", steps) as on_step:
            image = target.image.to(where)
            found = find(renderer, image, perceptual, space, steps, pixels, seed, on_step)
        _write(found, target, folder, described | {"image": target.name})
        errors[target.name] = _errors(perceptual, found.image, image)
        mean = _write_errors(errors, folder, described)
        console.print(
            f"{target.name}: distance {found.start:.4f} at the start, {found.end:.4f} at the end; "
            f"{folder / target.name}.png, _steps.png, .safetensors"
        )
    console.print(f"mean of {len(errors)}: {mean}; {folder / 'errors.json'}")


def find(
    renderer: Renderer,
    image: Tensor,
    distance: PerceptualDistance,
    space: Space,
    steps: int,
    pixels: float = 1.0,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, distance: None,
) -> Projection:
    """Find the latent of one image.

    Args:
        renderer: Of the generator, with the label that the image has.
        image: ``(1, 3, H, W)`` in [-1, 1], of the generator's size and on its device, as is ``distance``.
        distance: What is minimised, beside the pixels'.
        space: As :func:`project` takes it, and the following too.
        steps: Optimisation steps.
        pixels: Weight of the mean squared pixel difference.
        seed: Of everything that is drawn.
        on_step: Called after every step with its number from 1 and the distance.

    Raises:
        UserError: The generator has no styles, and they were asked for.
    """
    embed, labels, generator = _embedding(distance, pixels), renderer.labels(1), renderer.generator
    labels = None if labels is None else labels.to(image.device)
    if space == "z":
        return project_latent(generator, image, embed, steps, seed, labels, on_step)
    return project_styles(generator, image, embed, steps, seed, space == "w+", labels, on_step)


def _embedding(distance: PerceptualDistance, pixels: float) -> Callable[[Tensor], Tensor]:
    """Points whose squared distance is the perceptual one plus ``pixels`` mean squared differences."""

    def embed(images: Tensor) -> Tensor:
        scale = (pixels / images[0].numel()) ** 0.5
        return torch.cat([distance.embed(_seen(images)), images.flatten(1) * scale], 1)

    return embed


def _seen(images: Tensor) -> Tensor:
    """What the perceptual distance looks at: large images are made smaller."""
    large = images.shape[-1] > _LARGEST
    return F.interpolate(images, (_LARGEST, _LARGEST), mode="area") if large else images


@torch.no_grad()
def _errors(distance: PerceptualDistance, found: Tensor, target: Tensor) -> dict[str, float]:
    """How far an image that was found is from its target: perceptually, and in the mean square of pixels."""
    perceptual = float(distance.distance(_seen(found), _seen(target)))
    return {distance.name: perceptual, "mse": float((found - target).square().mean())}


def _write_errors(errors: dict[str, dict[str, float]], folder: Path, described: dict[str, str]) -> str:
    # After every image: a run of hours that is stopped keeps what it has found.
    names = next(iter(errors.values()))
    mean = {name: sum(error[name] for error in errors.values()) / len(errors) for name in names}
    text = json.dumps({**described, "mean": mean, "images": errors}, indent=2) + "\n"
    write_atomically(folder / "errors.json", lambda file: file.write(text.encode()))
    return ", ".join(f"{name} {value:.4f}" for name, value in mean.items())


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
