"""What a validation with every score costs beside the bare feature pass it cannot do without.

Usage: python benchmarks/validation.py [--images 5000] [--repeats 3] [--out results.json]
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from torch import Tensor

from gansharing.metrics import RealFeatures, ScoreSuite, build_extractor
from gansharing.metrics.frechet import moments

BATCH = 64
TARGET = 1.10


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds; the second is less disturbed by other programs."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


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
        repeats: measurements of each; the median counts.
        threads: of torch; 0 keeps its own choice.
        out: JSON file for the figures.
    """
    if threads:
        torch.set_num_threads(threads)
    extractor = build_extractor("lite")
    suite = ScoreSuite(extractor)
    fake = pictures(images, resolution, 1).split(BATCH)
    real = torch.cat([extractor(batch).features for batch in pictures(images, resolution, 2).split(BATCH)])

    def bare() -> None:
        for batch in fake:
            extractor(batch)

    def validation() -> None:
        suite.reset()
        for batch in fake:
            suite.update(batch)
        suite.compute()

    def reference() -> None:
        suite.set_real(RealFeatures(real, moments(real), "benchmark", extractor.fingerprint))
        suite.reset()
        suite.update(fake[0])
        suite.compute()

    once, _ = timed(reference)
    timed(validation)  # fills what is kept of the reference from one validation to the next
    passes, validations = zip(*[(timed(bare), timed(validation)) for _ in range(repeats)], strict=True)
    medians = {
        f"{name}_{clock}_s": statistics.median(run[index] for run in runs)
        for name, runs in (("bare_pass", passes), ("validation", validations))
        for index, clock in enumerate(("wall", "cpu"))
    }
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
        "reference_once_s": once,
        **medians,
        "bare_pass_wall_all_s": [run[0] for run in passes],
        "validation_wall_all_s": [run[0] for run in validations],
        "ratio_wall": medians["validation_wall_s"] / medians["bare_pass_wall_s"],
        "ratio_cpu": medians["validation_cpu_s"] / medians["bare_pass_cpu_s"],
        "target_ratio": TARGET,
    }
    print(json.dumps(result, indent=2))
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    jsonargparse.auto_cli(benchmark, as_positional=False)
