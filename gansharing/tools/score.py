"""Scores of images, or of a trained generator, against a reference."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from gansharing.checkpoints import load
from gansharing.data.sources import open_source
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.metrics import ScoreSuite, build_extractor, real_features
from gansharing.metrics.extractors import ExtractorName, Resize
from gansharing.metrics.originals import Originals
from gansharing.metrics.suite import METRICS, MetricName
from gansharing.networks import Generator
from gansharing.networks.seeded import seeded_latents
from gansharing.tools.sample import images_of

_BATCH = 64
_MODELS = (".ckpt", ".safetensors", ".pt", ".pth")


def score(
    a: str,
    b: str,
    extractor: ExtractorName = "lite",
    weights: str | None = None,
    resize: Resize = "clean",
    metrics: Sequence[MetricName] = METRICS,
    num_images: int | None = None,
    resolution: int | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    out: str | None = None,
) -> dict[str, Any]:
    """Score A against B: FID, KID, IS, precision, recall, density, coverage, and how they were taken.

    Files are seen at their own sizes, so that figures can stand beside those of clean-fid.

    Args:
        a: What is scored: a folder, zip, table or embedded set of images, or a generator (a checkpoint,
            a safetensors file, a run's folder).
        b: The reference: a folder, zip, table or embedded set.
        extractor: inception for figures that may stand beside a paper's, lite without a network, dinov2.
        weights: File with the extractor's weights, for inception and dinov2.
        resize: clean, or legacy for Inception figures made the old way.
        metrics: Which of fid, kid, is and prdc, such as [fid,kid].
        num_images: How many of A: images drawn at random, or images generated (default: as many as B has).
        resolution: Bring the files' images to this side first, as training does.
        bootstrap: Resamplings for a 95 % interval of FID; 0 for none.
        seed: First latent seed of a generator, and the seed that draws num_images.
        out: JSON file for the result.

    Returns:
        {"scores": ..., "protocol": ...}.
    """
    if num_images is not None and num_images < 2:
        raise UserError(f"num_images is {num_images}: scores need at least 2")
    reference = Originals(open_source(b), resolution)
    if _is_model(a):
        batches = _generated(a, num_images or len(reference), seed)
    else:
        batches = _drawn(Originals(open_source(a), resolution), num_images, seed)
    suite = ScoreSuite(build_extractor(extractor, weights, resize), metrics, bootstrap=bootstrap)
    suite.set_real(real_features(reference, suite.extractor, _BATCH))
    for images in track(batches, f"Features of {a}", transient=True):
        suite.update(images)
    about = {"a": a, "b": b, "resolution": resolution, "seed_of_a": seed}
    result = {"scores": suite.compute(), "protocol": about | suite.protocol()}
    _show(result["scores"], result["protocol"])
    if out is not None:
        write_atomically(out, lambda file: file.write(json.dumps(result, indent=2).encode() + b"\n"))
    return result


def _is_model(path: str) -> bool:
    return Path(path).suffix in _MODELS or (Path(path) / "checkpoints").is_dir()


class _Batches:
    """Batches made when they are asked for, with a known number of them."""

    def __init__(self, count: int, make: Callable[[range], Tensor | Sequence[Tensor]]) -> None:
        self._parts = [range(i, min(i + _BATCH, count)) for i in range(0, count, _BATCH)]
        self._make = make

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Tensor | Sequence[Tensor]]:
        return map(self._make, self._parts)


def _generated(path: str, count: int, seed: int) -> _Batches:
    generator = load(path)
    if not isinstance(generator, Generator):
        raise UserError(f"{path} holds no generator")
    return _Batches(
        count, lambda part: images_of(generator, seeded_latents(generator, (seed + i for i in part)))
    )


def _drawn(images: Originals, count: int | None, seed: int) -> _Batches:
    if count is not None and count > len(images):
        where = images.source.location
        raise UserError(
            f"num_images is {count}, but {where} has {len(images)} images; ask for fewer, or leave it out"
        )
    order = list(range(len(images)))
    if count is not None:
        order = sorted(
            torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count].tolist()
        )
    return _Batches(len(order), lambda part: images.batch([order[i] for i in part])["image"])


def _show(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> None:
    table = Table(
        "score", "value", "", title=f"{protocol['a']} against {protocol['b']}", title_justify="left"
    )
    for name, value in scores.items():
        if not name.endswith(("_std", "_low", "_high")):
            table.add_row(name, f"{value:.5g}", _spread(name, scores))
    Console().print(table)
    print(json.dumps({"scores": scores, "protocol": protocol}, indent=2))


def _spread(name: str, scores: Mapping[str, float]) -> str:
    """A deviation over subsets or splits, or a 95 % interval, where the score has one that says anything."""
    if scores.get(f"{name}_std"):
        return f"± {scores[f'{name}_std']:.2g}"
    if f"{name}_low" in scores:
        return f"95 %: {scores[f'{name}_low']:.5g} to {scores[f'{name}_high']:.5g}"
    return ""
