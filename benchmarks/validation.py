"""What a validation with every score costs beside the bare feature pass it cannot do without.

Usage: python benchmarks/validation.py [--images 5000] [--repeats 3] [--out results.json]
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jsonargparse
import torch
from torch import Tensor

from gansharing.metrics import RealFeatures, ScoreSuite, build_extractor
from gansharing.metrics.frechet import moments

BATCH = 64
TARGET = 1.10


class Run(NamedTuple):
    """Wall seconds of one bare pass, one pass of the suite, and the scores from its features."""

    bare: float
    update: float
    compute: float

    @property
    def ratio(self) -> float:
        """Validation over bare pass."""
        return (self.update + self.compute) / self.bare


def once(suite: ScoreSuite, batches: Sequence[Tensor], bare_first: bool) -> Run:
    """Take both passes batch by batch in turn, so that other programs disturb both alike."""
    suite.reset()
    bare = update = 0.0
    for batch in batches:
        if bare_first:
            bare += timed(partial(suite.extractor, batch))
        update += timed(partial(suite.update, batch))
        if not bare_first:
            bare += timed(partial(suite.extractor, batch))
    return Run(bare, update, timed(suite.compute))


def timed(work: Callable[[], object]) -> float:
    """Wall seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def pictures(count: int, resolution: int, seed: int) -> Tensor:
    """Coarse colours under noise: as costly as photographs, and not all alike to the extractor."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (resolution, resolution), mode="bicubic")
    return (smooth * 255 + 20 * torch.randn(smooth.shape, generator=draw)).clamp(0, 255).to(torch.uint8)


def benchmark(
    images: int = 5000, resolution: int = 64, repeats: int = 3, threads: int = 0, out: Path | None = None
) -> dict[str, Any]:
    """Time FID + KID + IS + PRDC of ``images`` fakes against as many reals, extractor lite.

    Args:
        images: number of fakes and of reals.
        resolution: side in pixels.
        repeats: measurements; the median counts. The first also prepares what is kept of the reference.
        threads: of torch; 0 keeps its own choice.
        out: JSON file for the figures.
    """
    if threads:
        torch.set_num_threads(threads)
    extractor = build_extractor("lite")
    suite = ScoreSuite(extractor)
    fake = pictures(images, resolution, 1).split(BATCH)
    real = torch.cat([extractor(batch).features for batch in pictures(images, resolution, 2).split(BATCH)])

    suite.set_real(RealFeatures(real, moments(real), "benchmark", extractor.fingerprint))
    runs = [once(suite, fake, bare_first=bool(number % 2)) for number in range(repeats)]
    result = {
        "n_fake": images,
        "n_real": images,
        "resolution": resolution,
        "extractor": "lite",
        "metrics": list(suite.metrics),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "runs": [run._asdict() | {"ratio": run.ratio} for run in runs],
        "bare_pass_s": statistics.median(run.bare for run in runs),
        "validation_s": statistics.median(run.update + run.compute for run in runs),
        "ratio": statistics.median(run.ratio for run in runs),
        "target_ratio": TARGET,
    }
    print(json.dumps(result, indent=2))
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    jsonargparse.auto_cli(benchmark, as_positional=False)
