"""Time to a training batch after the first epoch: the memory map against torchvision's ImageFolder.

Both read the same 512 px JPEG files (made here, with the spectrum of photographs), resize them antialiased
to 64 px, shuffle, and end with a float batch; one process, one thread. Targets: at most 1 ms for a batch of
32, at least 50 times faster than decoding each time.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from PIL import Image
from torch.utils.data import DataLoader

from gansharing.data import ImageData
from gansharing.files import write_atomically

BATCH = 32


def main(out: Path | None = None, repeats: int = 7, images: int = 128, resolution: int = 64) -> None:
    """Measure both and print milliseconds per batch: median, least and most of the repeats.

    Args:
        out: Where to write the figures as JSON.
        repeats: Measurements of each.
        images: JPEG files made.
        resolution: Side of the batches' images in pixels.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GANSHARING_CACHE"] = f"{folder}/cache"
        _make_jpegs(Path(folder) / "images" / "all", images)
        cached = _cached(f"{folder}/images", resolution)
        decoding = _decoding(f"{folder}/images", resolution)
        ours = _repeat(cached, repeats, epochs=50)
        theirs = _repeat(decoding, repeats, epochs=1)
    ratios = [slow / fast for slow, fast in zip(theirs, ours, strict=True)]
    figures = {
        "batch": BATCH,
        "resolution": resolution,
        "ms_per_batch": _summary(ours),
        "image_folder_ms_per_batch": _summary(theirs),
        "times_faster": _summary(ratios),
        "repeats": repeats,
        "torch": torch.__version__,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if out is not None:
        text = json.dumps(figures, indent=2).encode()
        write_atomically(out, lambda file: file.write(text))


def _make_jpegs(folder: Path, count: int) -> None:
    """Noise with a 1/f spectrum, as photographs have it, so that decoding costs what it costs for them."""
    folder.mkdir(parents=True)
    source = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512)[None])
    frequency[0, 0] = 1.0
    for number in range(count):
        noise = np.fft.fft2(source.standard_normal((3, 512, 512)))
        field = np.fft.ifft2(noise / frequency).real
        pixels = 128 + 50 * field / field.std()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(
            folder / f"{number:04}.jpg"
        )


def _cached(path: str, resolution: int) -> Callable[[], Iterable[Any]]:
    data = ImageData(path, resolution, BATCH)
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    return lambda: (data.on_after_batch_transfer(batch, 0) for batch in loader)


def _decoding(path: str, resolution: int) -> Callable[[], Iterable[Any]]:
    # Not above: gansharing must come first, it mends a torchvision whose operators do not load.
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Resize, ToTensor

    images = ImageFolder(path, Compose([Resize((resolution, resolution)), ToTensor()]))
    loader = DataLoader(images, BATCH, shuffle=True, drop_last=True)
    return lambda: loader


def _repeat(batches: Callable[[], Iterable[Any]], repeats: int, epochs: int) -> list[float]:
    """Milliseconds per batch in each repeat, after one epoch that is not counted."""
    for _ in batches():
        pass
    times = []
    for _ in range(repeats):
        start, count = time.perf_counter(), 0
        for _ in range(epochs):
            for _ in batches():
                count += 1
        times.append((time.perf_counter() - start) / count * 1000)
    return times


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


if __name__ == "__main__":
    auto_cli(main)
