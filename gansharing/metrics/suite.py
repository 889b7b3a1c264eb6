"""All scores of a set of generated images from one pass through the extractor."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.metrics.bank import FeatureBank
from gansharing.metrics.bootstrap import fid_influence, fid_interval
from gansharing.metrics.extractors import FeatureExtractor, Features
from gansharing.metrics.extractors.base import embed
from gansharing.metrics.frechet import FrechetDistance, moments
from gansharing.metrics.inception_score import LogitScore
from gansharing.metrics.kernel import SEED, KernelDistance, MatrixEstimator
from gansharing.metrics.neighbours import NEIGHBOURS, PRDC
from gansharing.metrics.pairwise import PairEstimator, read_pairs
from gansharing.metrics.real import RealFeatures

MetricName = Literal["fid", "kid", "is", "prdc"]
METRICS: tuple[MetricName, ...] = ("fid", "kid", "is", "prdc")


class ScoreSuite:
    """FID, KID, IS, precision, recall, density and coverage of generated images.

    Deliberately no ``nn.Module``: as an attribute of a LightningModule it must not enter checkpoints.
    Under ``torch.distributed`` every rank feeds its own images, any number of them; ``compute`` gives all
    ranks the scores that one process gets from the same images in the order of the ranks.

    Args:
        extractor: what looks at the images; its suffix ends the scores' names.
        metrics: which of "fid", "kid", "is" and "prdc"; "is" only for extractors with logits.
        kid_subsets: number of KID's subsets.
        kid_subset_size: samples in each, at most.
        prdc_k: neighbours for precision and recall, and for density and coverage, at most.
        bootstrap: resamplings for FID's 95 % interval; 0 gives none.
        seed: of KID's subsets, IS's split and the resamplings.

    Raises:
        UserError: for unknown metrics, or "is" with an extractor without logits.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        metrics: Sequence[MetricName] = METRICS,
        kid_subsets: int = 100,
        kid_subset_size: int = 1000,
        prdc_k: tuple[int, int] = NEIGHBOURS,
        bootstrap: int = 0,
        seed: int = SEED,
    ) -> None:
        _check_metrics(metrics, extractor)
        self.extractor = extractor
        self.metrics = tuple(name for name in METRICS if name in metrics)
        self.bootstrap = bootstrap
        self.seed, self._prdc_k = seed, prdc_k
        self.has_real = False
        self._real: RealFeatures | None = None
        self._n_fake = 0
        self._used: dict[str, Any] = {}
        dim = extractor.num_features
        self._bank = FeatureBank(dim, extractor.num_logits if "is" in self.metrics else 0)
        # The bank has gathered all ranks' features already when these are computed.
        self._fid = FrechetDistance(dim, sync_on_compute=False)
        self._kid = KernelDistance(dim, kid_subsets, kid_subset_size, seed, sync_on_compute=False)
        self._is = LogitScore(extractor.num_logits, seed=seed, sync_on_compute=False)
        self._prdc = PRDC(prdc_k, sync_on_compute=False)
        self.to(next(extractor.parameters()).device)

    def to(self, device: torch.device | str) -> Self:
        """Move the extractor and everything that is computed."""
        self.extractor.to(device)
        for metric in (self._bank, self._fid, self._kid, self._is, self._prdc):
            metric.to(device)
        return self

    def another(self) -> "ScoreSuite":
        """An empty suite with the same extractor, options and reference, for other images."""
        twin = ScoreSuite(
            self.extractor, self.metrics, self._kid.subsets, self._kid.subset_size, self._prdc_k,
            self.bootstrap, self.seed,
        )  # fmt: skip
        if self._real is not None:
            twin.set_real(self._real)
        return twin

    def set_real(self, real: RealFeatures) -> None:
        """Take the reference for every later ``compute``; ``reset`` keeps it.

        Raises:
            UserError: if another extractor made its features.
        """
        if real.extractor != self.extractor.fingerprint:
            raise UserError("the reference's features come from another extractor, resize or weights")
        device = self._bank.device
        features = real.features.to(device)
        self._real, self.has_real = real, True
        self._fid.set_real(real.moments)
        for metric in (self._kid, self._prdc):
            metric.real_features = [features]

    def update(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Look at generated images.

        Args:
            images: uint8 (N, 3, H, W), or (3, H, W) each where sizes differ; this rank's own.

        Returns:
            Their features (N, D).

        Raises:
            UserError: if they are not uint8 RGB, or not finite.
        """
        seen = embed(self.extractor, images)
        self._bank.update(seen)
        return seen.features

    def reset(self) -> None:
        """Forget the generated images, keep the reference."""
        for metric in (self._bank, self._fid, self._kid, self._is, self._prdc):
            metric.reset()

    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """The scores by name: fid, kid, kid_std, is, is_std, precision, recall, density, coverage.

        The extractor's suffix follows the score's name: fid_lite, kid_lite_std. With ``bootstrap``:
        fid_low, fid_high.

        Raises:
            UserError: with fewer than two images, or without the reference that a metric needs.
        """
        fake = self._gather()
        scores: dict[str, Tensor | float] = {}
        if "fid" in self.metrics:
            scores |= self._frechet(fake.features)
        scores |= self._pairwise(fake.features)
        if "is" in self.metrics:
            assert fake.logits is not None
            self._is.reset()
            self._is.update(fake.logits)
            scores["is"], scores["is_std"] = self._is.compute()
        self._used = self._sizes()
        return {_suffixed(name, self.extractor.suffix): float(value) for name, value in scores.items()}

    def _gather(self) -> Features:
        if not self._bank.update_called:
            self._bank.add_nothing()
        fake: Features = self._bank.compute()
        self._n_fake = len(fake.features)
        if self._n_fake < 2:
            raise UserError(f"there are {self._n_fake} generated image(s): scores need at least 2")
        if not self.has_real and set(self.metrics) != {"is"}:
            raise UserError("scores other than is compare with real images: call set_real first")
        return fake

    def _frechet(self, features: Tensor) -> dict[str, Tensor | float]:
        self._fid.reset()
        self._fid.update(features, real=False)
        scores: dict[str, Tensor | float] = {"fid": self._fid.compute()}
        if self.bootstrap > 0:
            assert self._real is not None
            influence = fid_influence(self._real.moments.to(features.device), moments(features), features)
            low, high = fid_interval(float(scores["fid"]), influence, self.bootstrap, self.seed)
            scores |= {"fid_low": low, "fid_high": high}
        return scores

    def _pairwise(self, features: Tensor) -> dict[str, Tensor | float]:
        """KID and PRDC share the products of all pairs."""
        wanted = {"kid": self._kid, "prdc": self._prdc}
        for name, metric in wanted.items():
            if name in self.metrics:
                metric.fake_features = [features]
        kid = self._kid.estimator("prdc" in self.metrics) if "kid" in self.metrics else None
        prdc = self._prdc.estimator() if "prdc" in self.metrics else None
        readers: list[PairEstimator] = [kid] if isinstance(kid, MatrixEstimator) else []
        readers += [prdc] if prdc is not None else []
        if readers:
            read_pairs(self._prdc.real_features[0], features, readers)
        scores: dict[str, Tensor | float] = {}
        if kid is not None:
            scores["kid"], scores["kid_std"] = kid.result()
        return scores | (prdc.result() if prdc is not None else {})

    def protocol(self) -> dict[str, Any]:
        """How the last scores were taken, in plain values: what must stand beside the numbers."""
        about: dict[str, Any] = {
            "extractor": self.extractor.name,
            "extractor_fingerprint": self.extractor.fingerprint,
            "resize": self.extractor.resize,
            "input_size": self.extractor.input_size,
            "n_fake": self._n_fake,
            "n_real": 0 if self._real is None else len(self._real),
            "real_fingerprint": None if self._real is None else self._real.images,
            "seed": self.seed,
        }
        about |= self._used
        if "is" in self.metrics:
            about["is_splits"] = self._is.splits
        if self.bootstrap:
            about["bootstrap"] = self.bootstrap
        return about

    def _sizes(self) -> dict[str, Any]:
        """What the number of images has left of the sizes asked for."""
        used: dict[str, Any] = {}
        if "kid" in self.metrics:
            used |= {"kid_subsets": self._kid.subsets, "kid_subset_size": self._kid.used_subset_size()}
            used["kid_subset_size_asked"] = self._kid.subset_size
        if "prdc" in self.metrics:
            used["prdc_k"] = list(self._prdc.used_neighbours())
        return used


def _check_metrics(metrics: Sequence[str], extractor: FeatureExtractor) -> None:
    if not metrics:
        raise UserError(f"metrics: name at least one of {', '.join(METRICS)}")
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"metrics: {name!r} is not known; choose from {', '.join(METRICS)}")
    if "is" in metrics and extractor.num_logits == 0:
        raise UserError(f"metrics: is needs class logits, which {extractor.name} does not have; leave it out")


def _suffixed(name: str, suffix: str) -> str:
    """``kid_std`` and ``_lite`` make ``kid_lite_std``."""
    score, _, detail = name.partition("_")
    return f"{score}{suffix}_{detail}" if detail else f"{score}{suffix}"
