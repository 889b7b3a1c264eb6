"""FID, KID, IS and precision/recall of the generated images, against the training data."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer

from gansharing.callbacks.validated import Validated
from gansharing.data import CachedImages
from gansharing.errors import UserError
from gansharing.metrics import DomainSuites, ScoreSuite, WidthSuites, build_extractor, real_features

# What must be one in a history, as the protocol calls it and as the options do.
_SAME = {
    "extractor": "extractor",
    "resize": "resize",
    "extractor_fingerprint": "weights",  # and the resize, which is named first
    "n_fake_asked": "num_samples",
}


class Scores(Validated):
    """Score the images of every validation and test with one shared feature pass.

    The number of images is the number asked for whatever the world size, and the scores do not depend on
    it. The extractor is no part of the trained module and of no checkpoint. A slimmable generator is scored
    at every width: plain names are the full width's, ``fid/0.25`` and so on those of the narrower ones, and
    ``mic`` and ``ic/0.25-0.5`` say how far apart the widths' images of one latent are. Several domains are
    scored one by one, ``fid/NAME``, each against its own images; plain names are their means.

    Args:
        extractor: ``lite`` (embedded, needs no network; names end in ``_lite``), ``inception`` (the weights
            papers use) or ``dinov2``.
        weights: File with the extractor's weights; downloaded or embedded when omitted.
        resize: ``clean`` (antialiased, as clean-fid) or ``legacy`` (as torch-fidelity).
        metrics: Which of ``fid``, ``kid``, ``is`` and ``prdc``.
        num_samples: Images generated per validation or test.
        bootstrap: Resamplings for a 95 % interval of FID; 0 for none.
        untrained: Also score the network before the first step, as the curve's origin.
    """

    def __init__(
        self,
        extractor: Literal["lite", "inception", "dinov2"] = "lite",
        weights: str | None = None,
        resize: Literal["clean", "legacy"] = "clean",
        metrics: Sequence[Literal["fid", "kid", "is", "prdc"]] = ("fid", "kid", "is", "prdc"),
        num_samples: int = 2000,
        bootstrap: int = 0,
        untrained: bool = True,
    ) -> None:
        if num_samples < 2:
            raise UserError(f"scores.num_samples must be at least 2, not {num_samples}")
        if bootstrap < 0:
            raise UserError(f"scores.bootstrap must be 0 or more, not {bootstrap}")
        self.extractor, self.weights, self.resize = extractor, weights, resize
        self.metrics, self.bootstrap = tuple(metrics), bootstrap
        self.num_samples, self.untrained = num_samples, untrained
        self.history: list[dict[str, float]] = []
        self._protocol: dict[str, Any] = {}
        self._suite: ScoreSuite | None = None
        self._widths: WidthSuites | None = None
        self._domains: DomainSuites | None = None

    @property
    def fid_name(self) -> str:
        """Name under which FID is logged: ``fid``, or with the extractor's suffix."""
        return f"fid{self.suffix}"

    @property
    def suffix(self) -> str:
        """What follows the names of scores: nothing for the extractor that papers use."""
        return "" if self.extractor == "inception" else f"_{self.extractor}"

    def protocol(self) -> dict[str, Any]:
        """How the scores were taken; empty before the first validation."""
        return self._protocol

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Ask the setup for :attr:`num_samples` images a validation, and load the extractor.

        Raises:
            UserError: There are no two images to score against, or the extractor's weights cannot be had.
        """
        if stage == "predict":
            return
        for name, reference in _references(trainer).items():
            if len(reference) < 2:
                where = f"domain {name}: " if name else ""
                raise UserError(
                    f"{where}there is {len(reference)} image to score against: scores need at least 2"
                )
        pl_module.evaluation_samples = self.num_samples
        if self._suite is None:
            extractor = build_extractor(self.extractor, weights=self.weights, resize=self.resize)
            self._suite = ScoreSuite(
                extractor.to(pl_module.device), metrics=self.metrics, bootstrap=self.bootstrap
            )

    def _reset(self, trainer: Trainer, pl_module: Any) -> None:
        suite = self._suite
        if suite is None:
            raise RuntimeError("Scores was not set up")
        suite.reset()
        references = _references(trainer)
        if not references:
            raise UserError(
                "scores need a data module with a reference set; use data: ImageData, or drop Scores"
            )
        if "" not in references and self._domains is None:
            self._domains = DomainSuites(suite, references)
        if self._domains is not None:
            self._domains.reset()
        elif not suite.has_real:
            suite.set_real(real_features(references[""], suite.extractor))
        if self._widths is None and pl_module.evaluation_widths:
            self._widths = WidthSuites(suite, pl_module.evaluation_widths)
        if self._widths is not None:
            self._widths.reset()

    def _look(self, outputs: dict[str, Any]) -> None:
        if self._suite is None:
            return
        if self._domains is not None:
            self._domains.update(outputs["domains"])
            return
        features = self._suite.update(outputs["images"])
        if self._widths is not None:
            self._widths.update(outputs["widths"], features)

    def _compute(self) -> dict[str, float]:
        if self._domains is not None:
            return self._domains.compute()
        scores = self._suite.compute() if self._suite is not None else {}
        return scores | (self._widths.compute() if self._widths is not None else {})

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Score the untrained network, or find what a resumed run had scored.

        Raises:
            UserError: A resumed run was scored in another way.
        """
        if trainer.global_step > 0:
            self._recall(Path(trainer.default_root_dir) / "results.json", trainer.global_step)
            self._refuse_mixture()
        if not self.untrained or trainer.global_step > 0 or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._reset(trainer, pl_module)
        pl_module.eval()
        for batch_idx, indices in enumerate(pl_module.val_dataloader()):
            self._look(pl_module.validation_step(indices, batch_idx))
        pl_module.train()
        scores = self._compute()
        self._record(trainer, pl_module, scores)
        for logger in trainer.loggers:
            logger.log_metrics(scores, step=0)

    def _recall(self, results: Path, step: int) -> None:
        # A checkpoint is taken before the validation of its own step: that score is in the report only.
        known = {entry["step"] for entry in self.history}
        with suppress(OSError, ValueError):
            written = json.loads(results.read_text())
            self.history += [
                entry for entry in written["history"] if entry["step"] <= step and entry["step"] not in known
            ]
            self._protocol = self._protocol or written["protocol"]
        self.history.sort(key=lambda entry: entry["step"])

    def _refuse_mixture(self) -> None:
        # The best of scores that were taken in two ways would be that of the kinder way.
        asked = self._protocol.get("n_fake")  # older checkpoints say only how many there were
        before, now = {"n_fake_asked": asked} | self._protocol, self._present()
        for key, option in _SAME.items():
            if before.get(key) not in (None, now.get(key)):
                raise UserError(
                    f"the scores of this run were taken with {option}={before[key]}, and would go on with "
                    f"{option}={now.get(key)}: resume with the same --scores options; others are for "
                    "gansharing validate --ckpt_path"
                )

    def _present(self) -> dict[str, Any]:
        suite = self._suite
        return {} if suite is None else suite.protocol() | {"n_fake_asked": self.num_samples}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forget the previous images."""
        self._reset(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        """Extract the features of a batch of generated images."""
        self._look(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Compute, log and remember the scores."""
        if self._suite is None:
            return
        scores = self._compute()
        self._record(trainer, pl_module, scores)
        pl_module.log_dict(scores, rank_zero_only=False)

    def _record(self, trainer: Trainer, pl_module: Any, scores: dict[str, float]) -> None:
        entry = {"step": trainer.global_step, "images": pl_module.images} | scores
        self._protocol = self._present()
        self.history = [old for old in self.history if old["step"] != entry["step"]] + [entry]

    def state_dict(self) -> dict[str, Any]:
        """The scores so far, and how they were taken."""
        return {"history": self.history, "protocol": self._protocol}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores so far."""
        self.history = list(state_dict["history"])
        self._protocol = dict(state_dict.get("protocol", {}))


def _references(trainer: Trainer) -> dict[str, CachedImages]:
    """What is scored against: by domain, or under the empty name; nothing where the data have none."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if hasattr(data, "references"):
        return dict(data.references)
    reference = getattr(data, "reference", None)
    return {} if reference is None else {"": reference}
