"""Walks between real images, whose latents ``gansharing project`` has found."""

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.latent import render, still, style_based, walk
from gansharing.tools.render import Renderer
from gansharing.visual import to_uint8

_NOISE = "noise."


@torch.inference_mode()
def between(
    renderer: Renderer, files: str, steps: int, mode: Literal["slerp", "lerp"] | None, loop: bool
) -> Tensor:
    """Images from one found latent to the next.

    Args:
        renderer: Of the network that they were found for.
        files: Paths separated by commas, at least two.
        steps: Images from one file to the next.
        mode: As ``walk`` takes it; by default slerp for latents, lerp for styles. Noise changes by lerp.
        loop: Return to the first.

    Returns:
        uint8 ``(T, 3, H, W)``; the images that were found are among them.

    Raises:
        UserError: A file is missing or damaged, or they are not of this network and of one space.
    """
    found = [_read(Path(name)) for name in files.split(",") if name]
    if len(found) < 2:
        raise UserError(f"a walk needs at least two files, got '{files}'; separate them by a comma")
    shapes = [{name: value.shape for name, value in tensors.items()} for tensors in found]
    if any(shape != shapes[0] for shape in shapes):
        raise UserError(f"{files} were not found in one space of one network; project them alike")
    kind = "ws" if "ws" in shapes[0] else "latent"
    _check(renderer, kind, shapes[0][kind])
    ways = {"latent": mode or "slerp", "ws": mode or "lerp"}
    paths = {
        name: walk(
            torch.stack([tensors[name].flatten() for tensors in found]), steps, ways.get(name, "lerp"), loop
        ).unflatten(1, shape)
        for name, shape in shapes[0].items()
    }
    return torch.cat(
        [_frame(renderer, {name: path[at] for name, path in paths.items()}) for at in range(len(paths[kind]))]
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; give files of 'gansharing project'") from error
    if not {"ws", "latent"} & tensors.keys():
        raise UserError(f"{path} holds no latent; give files of 'gansharing project'")
    return tensors


def _check(renderer: Renderer, kind: str, shape: torch.Size) -> None:
    wanted = (
        (renderer.generator.latent_dim,) if kind == "latent" else (style_based(renderer.generator).num_ws,)
    )
    if shape[1:2] != wanted:
        raise UserError(
            f"latents of shape {tuple(shape)} do not fit this {type(renderer.generator).__name__}; "
            "give the network that they were found for"
        )


def _frame(renderer: Renderer, tensors: dict[str, Tensor]) -> Tensor:
    if "latent" in tensors:
        return to_uint8(
            renderer.generator(tensors["latent"], renderer.labels(1), **still(renderer.generator))
        )
    noise = {name.removeprefix(_NOISE): plane for name, plane in tensors.items() if name.startswith(_NOISE)}
    synthesis = style_based(renderer.generator).synthesis
    assert isinstance(synthesis, nn.Module)
    return to_uint8(render(synthesis, tensors["ws"], noise))
