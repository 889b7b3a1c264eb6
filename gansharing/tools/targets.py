"""Real images for a network: read, cut to a square, brought to its size."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gansharing.data.decode import BadImage, Recipe, decode, decode_rgb
from gansharing.data.sources import open_source
from gansharing.errors import UserError

Split = Literal["train", "val", "test"]
_File = tuple[str, Path, Callable[[], bytes]]  # its name for results, itself for messages, what reads it


class Target(NamedTuple):
    """An image to find: its name, ``(1, 3, H, W)`` in [-1, 1], and what was done to its size."""

    name: str
    image: Tensor
    note: str


def read_targets(paths: list[str], resolution: int, split: Split | None = None) -> list[Target]:
    """All images, decoded before the first is projected: hours may lie between them.

    Args:
        paths: Image files, and folders or zips of them.
        resolution: Height and width that the images get, px.
        split: Of folders, the images of this split alone.

    Raises:
        UserError: There is nothing to read, it is damaged, two images have one name, or a split is missing.
    """
    targets = [target_of(*file, resolution) for file in _files(paths, split)]
    names = [target.name for target in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two images are called {twice[0]}; project them into different folders with --out")
    return targets


def _files(paths: list[str], split: str | None) -> list[_File]:
    """Every image that is named, with what reads it: files themselves, those of folders and zips by name."""
    found: list[_File] = []
    for path in map(Path, paths):
        if path.is_dir() or path.suffix.lower() == ".zip":
            source = open_source(path)
            source = source if split is None else source.take(split)
            found += [
                # A name of its own for each: folders of classes may count their images alike.
                (item.name.replace("/", "_"), path / item.name, partial(source.read, item))
                for item in source.items
            ]
        elif split is not None:
            raise UserError(f"{path} is no folder, so it has no '{split}' split; leave --split out")
        else:
            found.append((path.name, path, path.read_bytes))
    return found


def target_of(name: str, path: Path, read: Callable[[], bytes], resolution: int) -> Target:
    """One image, its middle square brought to size.

    Args:
        name: For results.
        path: For messages.
        read: Gives the file's bytes.
        resolution: Height and width that the image gets, px.

    Raises:
        UserError: The bytes cannot be read, or are no image.
    """
    try:
        data = read()
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
    return Target(Path(name).stem, image, note)
