"""What a delta of fewer singular values costs in FID, share by share.

    python experiments/compression.py --base G.safetensors --delta a.safetensors --data FOLDER

Each line is the domain with that share of its matrices' singular values kept (``gansharing export RUN
--delta --energy SHARE`` writes it): numbers, how many of the whole delta's, FID of its images against the
data, and the root mean square, in grey levels, by which they differ from the whole delta's images.
"""

# isort: off
import gansharing  # noqa: F401  (before torchmetrics: it mends an import of torchvision beside a CPU torch)

# isort: on
import copy
import dataclasses
import json
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gansharing.checkpoints import load_base, read_delta
from gansharing.data.sources import open_source
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.metrics import ScoreSuite, build_extractor, real_features
from gansharing.metrics.extractors import ExtractorName
from gansharing.metrics.originals import Originals
from gansharing.networks import Generator
from gansharing.networks.seeded import seeded_latents
from gansharing.sharing import Delta, apply_delta
from gansharing.sharing.compression import compress, expand
from gansharing.sharing.delta import slots_for
from gansharing.tools.sample import images_of

BATCH = 64


@torch.no_grad()
def images(network: Generator, delta: Delta, count: int) -> Tensor:
    """uint8 images of the domain, of the latent seeds from 0."""
    apply_delta(network, delta)
    seeds = [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
    return torch.cat([images_of(network, seeded_latents(network, part)) for part in seeds])


def fid(suite: ScoreSuite, batch: Tensor) -> float:
    """FID of images against the suite's reference."""
    suite.reset()
    for part in batch.split(BATCH):
        suite.update(part)
    return next(value for name, value in suite.compute().items() if name.startswith("fid"))


def measure(
    network: Generator, delta: Delta, suite: ScoreSuite, shares: list[float], count: int
) -> list[Any]:
    """A row a share, after that of the whole delta."""
    shapes = slots_for(network, delta).shapes()
    whole = images(network, delta, count)
    total = sum(tensor.numel() for tensor in delta.tensors.values())
    rows = [{"energy": None, "numbers": total, "share": 1.0, "fid": fid(suite, whole), "difference": 0.0}]
    for energy in shares:
        low = compress(delta, shapes, energy)
        made = images(network, dataclasses.replace(delta, tensors=expand(low)), count)
        difference = (made.float() - whole.float()).square().mean().sqrt().item()
        numbers = low.numbers()
        rows.append(
            {
                "energy": energy,
                "numbers": numbers,
                "share": numbers / total,
                "fid": fid(suite, made),
                "difference": difference,
            }
        )
    return rows


def main(
    base: str,
    delta: str,
    data: str,
    energies: str = "0.95,0.9,0.8,0.7,0.6,0.5",
    num_images: int = 1000,
    extractor: ExtractorName = "lite",
    weights: str | None = None,
    out: str | None = None,
) -> None:
    """Print the table.

    Args:
        base: What the domain was trained from: a checkpoint, a safetensors file or a run's folder.
        delta: A file of 'gansharing export RUN --delta', not compressed.
        data: The domain's images: a folder, zip, table or embedded set.
        energies: Shares of the singular values that are kept, separated by commas.
        num_images: Images generated for each.
        extractor: lite (embedded), inception or dinov2.
        weights: File with the extractor's weights, for inception and dinov2.
        out: Write the rows as JSON here.
    """
    network = load_base(base)
    if not isinstance(network, Generator):
        raise UserError(f"{base} holds no generator")
    suite = ScoreSuite(build_extractor(extractor, weights), ["fid"])
    suite.set_real(real_features(Originals(open_source(data), network.resolution), suite.extractor, BATCH))
    shares = [float(share) for share in energies.split(",")]
    rows = measure(copy.deepcopy(network).eval(), read_delta(delta), suite, shares, num_images)
    table = Table("energy", "numbers", "of the whole", f"FID ({extractor})", "rms difference")
    for row in rows:
        kept = "whole" if row["energy"] is None else f"{row['energy']:g}"
        cells = f"{row['numbers']:,}", f"{row['share']:.1%}", f"{row['fid']:.2f}", f"{row['difference']:.2f}"
        table.add_row(kept, *cells)
    Console().print(table)
    if out:
        write_atomically(out, lambda file: file.write(json.dumps(rows, indent=2).encode() + b"\n"))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
