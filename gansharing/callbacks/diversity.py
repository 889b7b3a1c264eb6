"""Few-shot watches beside the scores: do samples still differ, and are they copies?"""

from typing import Any

import torch
from lightning.pytorch import Trainer

from gansharing.callbacks.validated import Validated
from gansharing.errors import UserError
from gansharing.metrics import Diversity as DiversityMetric
from gansharing.metrics.perceptual import PerceptualName, build_distance


class Diversity(Validated):
    """Watch for collapse and memorisation at every validation and test; off until given samples.

    Logs ``lpips``, ``intra_lpips``, ``nearest_real`` and ``copied`` (:class:`gansharing.metrics.Diversity`)
    of some of the images that are generated for the scores.

    Args:
        num_samples: Samples looked at, spread evenly over those generated; 0 for none. A few hundred do.
        distance: ``lpips_lite`` (embedded, needs no network), ``lpips_vgg`` or ``lpips_alex``.
        weights: File with the ImageNet weights of the latter two; downloaded when omitted.
        clusters: Training images for intra-LPIPS, spread evenly over the training set; all where it has
            fewer. Ojha et al. (2021) train on 10.
        max_real: Training images compared with, spread evenly over the training set. A memorised image that
            is left out is not found.
    """

    def __init__(
        self,
        num_samples: int = 0,
        distance: PerceptualName = "lpips_lite",
        weights: str | None = None,
        clusters: int = 10,
        max_real: int = 1000,
    ) -> None:
        if num_samples < 0 or (num_samples and num_samples <= clusters):
            raise UserError(
                f"diversity.num_samples is {num_samples}; give 0, or more than the {clusters} clusters"
            )
        if clusters < 1 or max_real < 2:
            raise UserError(
                "diversity.clusters must be at least 1 and diversity.max_real at least 2, not "
                f"{clusters} and {max_real}"
            )
        self.num_samples, self.clusters, self.max_real = num_samples, clusters, max_real
        self.distance, self.weights = distance, weights
        self.scores: dict[str, float] = {}
        self._metric: DiversityMetric | None = None
        self._real = 0

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Take the training images and load the distance's network.

        Raises:
            UserError: Fewer samples are generated than are to be looked at, there is no second training
                image, or the network's weights cannot be had.
        """
        if not self.num_samples or stage == "predict" or self._metric is not None:
            return
        if self.num_samples > pl_module.evaluation_samples:
            raise UserError(
                f"diversity.num_samples is {self.num_samples}, but {pl_module.evaluation_samples} images are "
                "generated; raise scores.num_samples or lower it"
            )
        images = getattr(trainer.datamodule, "train_set", None)  # type: ignore[attr-defined]
        if images is None:
            raise UserError("diversity needs a data module with training images; use data: ImageData")
        self._real = min(self.max_real, len(images))
        chosen = torch.linspace(0, len(images) - 1, self._real).round().long().tolist()
        distance = build_distance(self.distance, self.weights)
        metric = DiversityMetric(distance, images.batch(chosen)["image"], self.clusters)
        self._metric = metric.to(pl_module.device)

    def protocol(self) -> dict[str, Any]:
        """The last values and how they were taken; empty where there are none."""
        if not self.scores:
            return {}
        return {
            "scores": self.scores,
            "distance": self.distance,
            "num_samples": self.num_samples,
            "num_real": self._real,
            "clusters": min(self.clusters, self._real),
        }

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forget the previous samples."""
        if self._metric is not None:
            self._metric.reset()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        """Keep this batch's share of the samples: the same ones whatever the number of processes."""
        if self._metric is not None:
            whole = pl_module.evaluation_samples
            kept = [self._chosen(seed, whole) for seed in outputs["seeds"]]
            self._metric.update(outputs["images"][torch.tensor(kept)])

    def _chosen(self, seed: int, whole: int) -> bool:
        return (seed + 1) * self.num_samples // whole > seed * self.num_samples // whole

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Compute, log and remember."""
        if self._metric is None:
            return
        if not self._metric.update_called:  # a process without samples takes part in the gathering
            size = pl_module.generator.resolution
            self._metric.update(torch.empty(0, 3, size, size, dtype=torch.uint8, device=self._metric.device))
        values = {name: float(value) for name, value in self._metric.compute().items()}
        self.scores = {"step": trainer.global_step, **values}
        pl_module.log_dict(values, rank_zero_only=False)

    def state_dict(self) -> dict[str, Any]:
        """The last values."""
        return {"scores": self.scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the last values."""
        self.scores = dict(state_dict["scores"])
