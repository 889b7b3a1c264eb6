"""Prepared images: a uint8 memory map beside a manifest, under one cache root."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

PIXELS, MANIFEST = "images.bin", "manifest.json"
# Raise when the meaning of a cache's files, or what decoding does, changes.
FORMAT = 2


def cache_root() -> Path:
    """Folder of everything that can be computed again: ``GANSHARING_CACHE``, else ``~/.cache/gansharing``."""
    return (
        Path(os.environ.get("GANSHARING_CACHE") or Path.home() / ".cache" / "gansharing")
        .expanduser()
        .absolute()
    )


class CachedImages(Dataset[dict[str, Tensor]]):
    """Decoded images of one size in a memory map; reading one decodes nothing.

    Args:
        pixels: uint8 (N, H, W, 3); a memory map is opened again, not copied, in another process.
        labels: int64 (N,).
        names: Source path of each image, relative to the source.
        fingerprint: Hash of the pixels in this order.
        classes: Class names, position = label; empty where there are none.
        sizes: Width and height of each image before it was resized, int64 (N, 2), where known.

    Attributes:
        labels: int64 (N,).
        sizes: int64 (N, 2), or None.
        names: Source path of each image.
        fingerprint: Hash of exactly these images in this order at this resolution.
        num_classes: 1 + the largest label, or the number of named classes; at least 1.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        names: Sequence[str],
        fingerprint: str,
        classes: Sequence[str] = (),
        sizes: np.ndarray | None = None,
    ) -> None:
        self._pixels = pixels
        self._rows: np.ndarray | None = None
        self.labels = np.asarray(labels, dtype=np.int64)
        self.sizes = sizes
        self.names = list(names)
        self.fingerprint = fingerprint
        self.classes = list(classes)
        self.num_classes = max(len(self.classes), int(self.labels.max(initial=0)) + 1)

    @property
    def images(self) -> np.ndarray:
        """uint8 (N, H, W, 3); the memory map itself, or a copy of the rows where this is a subset."""
        return self._pixels if self._rows is None else self._pixels[self._rows]

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return int(self._pixels.shape[1])

    def subset(self, indices: Sequence[int] | np.ndarray) -> "CachedImages":
        """The images at ``indices``, in that order, on the same memory map."""
        rows = np.asarray(indices, dtype=np.int64)
        if np.array_equal(rows, np.arange(len(self))):
            return self
        digest = hashlib.sha256(self.fingerprint.encode() + rows.astype("<i8").tobytes()).hexdigest()
        names = [self.names[row] for row in rows]
        sizes = None if self.sizes is None else self.sizes[rows]
        part = CachedImages(self._pixels, self.labels[rows], names, digest, self.classes, sizes)
        part._rows = rows if self._rows is None else self._rows[rows]
        part.num_classes = self.num_classes
        return part

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Stacked images at ``indices``.

        Returns:
            ``image``: uint8 (B, 3, H, W) in channels_last memory; ``label``: int64 (B,); ``index``: the given
            indices, int64 (B,).
        """
        chosen = np.asarray(indices, dtype=np.int64)
        rows = chosen if self._rows is None else self._rows[chosen]
        pixels = torch.from_numpy(np.take(self._pixels, rows, axis=0))
        labels, index = torch.from_numpy(self.labels[chosen]), torch.from_numpy(chosen.copy())
        return {"image": pixels.permute(0, 3, 1, 2), "label": labels, "index": index}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.batch([index]).items()}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        batch = self.batch(indices)
        return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self._pixels, np.memmap) and self._pixels.filename is not None:
            state["_pixels"] = (str(self._pixels.filename), self._pixels.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(state["_pixels"], tuple):
            file, shape = state["_pixels"]
            self._pixels = np.memmap(file, dtype=np.uint8, mode="r", shape=shape)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A whole cache's manifest, or ``None`` where the folder holds no whole cache of this format."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        shape = manifest["shape"]
        whole = manifest["format"] == FORMAT and (folder / PIXELS).stat().st_size == int(np.prod(shape))
        whole = whole and len(manifest["names"]) == len(manifest["labels"]) == shape[0] > 0
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def open_cache(folder: Path, manifest: dict[str, Any]) -> CachedImages:
    """Map a whole cache."""
    pixels = np.memmap(folder / PIXELS, dtype=np.uint8, mode="r", shape=tuple(manifest["shape"]))
    labels = np.asarray(manifest["labels"], dtype=np.int64)
    sizes = np.asarray(manifest["sizes"], dtype=np.int64)
    return CachedImages(
        pixels, labels, manifest["names"], manifest["fingerprint"], manifest["classes"], sizes
    )
