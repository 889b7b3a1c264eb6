"""Watches for few-shot training: do samples differ from one another, and from the training images?"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gansharing.errors import UserError
from gansharing.metrics.extractors.base import check_images
from gansharing.metrics.pairwise import joined
from gansharing.metrics.perceptual import PerceptualDistance

_BYTES = 1 << 28  # of embedded images held at once, on each side of a block of pairs
_LOW = 0.05


class Diversity(Metric):
    """Perceptual diversity of samples and their distance to the training images.

    With d the perceptual distance (LPIPS, Zhang et al. 2018) ``compute`` gives, under names that end as d's
    name does (``lpips_lite``, ``copied_lite``):

    - ``lpips``: mean d over all pairs of samples. It falls when modes collapse.
    - ``intra_lpips``: each sample joins the nearest of ``clusters`` training images; mean d of the pairs in a
      cluster, averaged over the clusters with a pair (Ojha et al. 2021, section 4.2). It is 0 where samples
      only repeat the training images.
    - ``nearest_real``: median over the samples of d to the nearest training image; ``nearest_real_loo`` is
      the same for each training image and the others (leave one out), and ``nearest_real_low`` the samples'
      5 % quantile.
    - ``copied``: share of samples nearer to a training image than 95 % of the training images are to another:
      0.05 for samples that lie like held-out images, towards 1 for memorised ones.

    All ranks get the values of all samples; ranks may hold unequal numbers, or none.

    Args:
        distance: what compares images; its network belongs to no checkpoint.
        real: uint8 (K, 3, H, W) training images, K at least 2.
        clusters: training images that samples are assigned to, spread evenly over ``real``, at most K.
        kwargs: as for ``torchmetrics.Metric``.

    Raises:
        UserError: fewer than two training images, or they are no uint8 RGB batch.
    """

    is_differentiable = False
    full_state_update = False

    samples: list[Tensor]

    def __init__(self, distance: PerceptualDistance, real: Tensor, clusters: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_images(real)
        if len(real) < 2 or clusters < 1:
            raise UserError(
                f"diversity needs at least 2 training images and 1 cluster, not {len(real)} and {clusters}"
            )
        self.distance = distance
        self.suffix = distance.name.removeprefix("lpips")
        self.clusters = min(clusters, len(real))
        self.centres = torch.linspace(0, len(real) - 1, self.clusters).round().long()
        self.add_state("samples", [], dist_reduce_fx="cat")
        self._real = real
        self._among_real: Tensor | None = None

    def update(self, images: Tensor) -> None:
        """Keep uint8 (N, 3, H, W) samples of this rank; N may be 0."""
        check_images(images)
        self.samples.append(images.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Float scalars by name.

        Raises:
            UserError: no cluster can have two samples: there are no more samples than clusters.
        """
        samples = joined(self.samples)
        if len(samples) <= self.clusters:
            raise UserError(
                f"{len(samples)} samples in {self.clusters} clusters need not meet; give more samples"
            )
        real = self._real.to(samples.device)
        among, to_real = pairwise(self.distance, samples, samples), pairwise(self.distance, samples, real)
        nearest = to_real.min(1).values
        held_out = self._leave_one_out(real)
        values = {
            "lpips": mean_of_pairs(among),
            "intra_lpips": mean_within(among, to_real[:, self.centres.to(real.device)].argmin(1)),
            "nearest_real": nearest.median(),
            "nearest_real_low": nearest.quantile(_LOW),
            "nearest_real_loo": held_out.median(),
            "copied": (nearest < held_out.quantile(_LOW)).float().mean(),
        }
        return {_suffixed(name, self.suffix): value for name, value in values.items()}

    def _leave_one_out(self, real: Tensor) -> Tensor:
        # The training images stay the same from one validation to the next.
        if self._among_real is None:
            among = pairwise(self.distance, real, real)
            self._among_real = among.fill_diagonal_(torch.inf).min(1).values
        return self._among_real.to(real.device)


def _suffixed(name: str, suffix: str) -> str:
    """``nearest_real_low`` and ``_lite`` make ``nearest_real_lite_low``."""
    for detail in ("_low", "_loo"):
        if name.endswith(detail):
            return f"{name.removesuffix(detail)}{suffix}{detail}"
    return f"{name}{suffix}"


@torch.no_grad()
def pairwise(distance: PerceptualDistance, first: Tensor, second: Tensor) -> Tensor:
    """Distances of all pairs of two sets of images.

    Large images are embedded in blocks, some of them several times, so that memory stays bounded.

    Args:
        distance: what compares them.
        first: uint8 (N, 3, H, W).
        second: uint8 (M, 3, H, W).

    Returns:
        float32 (N, M).
    """
    width = _embed(distance, first[:1]).shape[1]
    block = max(8, _BYTES // (4 * width))
    rows = []
    for x in first.split(block):
        points = _embed(distance, x)
        rows.append(torch.cat([_squared(points, _embed(distance, y)) for y in second.split(block)], 1))
    return torch.cat(rows)


def _embed(distance: PerceptualDistance, images: Tensor) -> Tensor:
    return torch.cat([distance.embed(part.float() / 127.5 - 1) for part in images.split(64)])


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp(min=0)


def mean_of_pairs(distances: Tensor) -> Tensor:
    """Mean of a symmetric (N, N) off its diagonal, N at least 2."""
    count = len(distances)
    return (distances.sum() - distances.trace()) / (count * (count - 1))


def mean_within(distances: Tensor, cluster: Tensor) -> Tensor:
    """Mean over clusters of the mean distance of the pairs within; clusters without a pair are left out.

    Args:
        distances: symmetric (N, N).
        cluster: int64 (N,), the cluster of each sample; at least one has two.
    """
    members = [(cluster == number).nonzero().flatten() for number in cluster.unique()]
    return torch.stack([mean_of_pairs(distances[i][:, i]) for i in members if len(i) > 1]).mean()
