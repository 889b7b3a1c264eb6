"""Small image files for the data tests."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def noise(seed: int, side: int = 16, mode: str = "RGB") -> Image.Image:
    source = np.random.default_rng(seed)
    channels = len(mode)
    shape = (side, side, channels) if channels > 1 else (side, side)
    return Image.fromarray(source.integers(0, 256, shape, dtype=np.uint8), mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int, side: int = 16) -> bytes:
    return encoded(noise(seed, side))


def fill(root: Path, names: list[str], side: int = 16) -> Path:
    """Write a different noise PNG under each name."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number, side))
    return root


def pack(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path
