"""Few images, each rebuilt from a latent of its own: batch statistics adaptation, without an adversary."""

import math
from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from gansharing.distributed import average_gradients
from gansharing.errors import UserError
from gansharing.networks import Generator
from gansharing.networks.seeded import seeded_latents
from gansharing.objectives import AbsoluteError
from gansharing.setups.base import GenerativeSetup
from gansharing.setups.transfer import divided, load_part, sentence
from gansharing.sharing import FilterSelection, Sharing, split_of
from gansharing.sharing.adafm import modulated
from gansharing.visual import to_uint8

# The original's weights and deviations, for SNGAN.
_PRIOR, _CHANGE, _JITTER, _NORMALS = 0.1, 0.02, 0.01, 10
_TRUNCATION = 0.3


class Reconstruct(GenerativeSetup):
    """Train a generator to rebuild its few images (BSA, Noguchi and Harada 2019).

    Every training image has a latent of its own, which starts at 0 and is trained beside what a sharing gives
    the domain. The loss is the mean absolute difference of the pixels, a perceptual distance, 0.1 times the
    distance between the latents and ten times as many normal ones (:func:`spread`), which keeps latents
    normally distributed, and 0.02 times how far scales and shifts are from 1 and 0. Latents get noise of
    deviation 0.01.

    A step takes as many images as the data's batches have, drawn anew: mirrored or dithered ones cannot be
    rebuilt. Samples of validations come from normal latents truncated at 0.3, as the original's.

    Args:
        source: The generator to start from, as :class:`~gansharing.setups.Transfer` takes it.
        target: The generator to train, where it is another than the source's.
        sharing: Which weights are trained. The original has scales and shifts of activations; on networks
            without norms filter selection is its counterpart (Zhao et al. 2020, section 3.3).
        perceptual: Distance ``(N,)`` of two batches of images in [-1, 1], such as
            ``gansharing.metrics.perceptual.LpipsDistance``; the original adds up L1 on VGG-16's features.
            None leaves pixels alone.
        optimizer: Builds the optimiser, of weights and latents.
        channels_last: Channels-last weights and activations: the same numbers to rounding, faster.

    Raises:
        UserError: As Transfer, or the data mirror or dither their images.
    """

    latents: nn.Parameter

    def __init__(
        self,
        source: str,
        target: Generator | None = None,
        sharing: Sharing = FilterSelection(),  # noqa: B008  (stateless; shows up in --print_config)
        perceptual: nn.Module | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=0.03),
        channels_last: bool = True,
    ) -> None:
        super().__init__(channels_last)
        network, self._stages = divided(
            load_part("source", source, "generator"), target, sharing, "pretrained"
        )
        self.generator = cast(Generator, network)
        self.source, self.optimizer = source, optimizer
        # In a tuple, so that no checkpoint holds it.
        self._perceptual = () if perceptual is None else (perceptual.requires_grad_(False),)
        self._pixels = AbsoluteError()

    def setup(self, stage: str) -> None:
        """Give every training image a latent.

        Raises:
            UserError: As every setup, or the data mirror or dither.
        """
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is None or getattr(data, "train_set", None) is None:
            raise UserError("Reconstruct needs a data module with training images; use data: ImageData")
        if data.flip or data.dither:
            raise UserError(
                "Reconstruct rebuilds the images as they are; set data.flip to false, data.dither to 0"
            )
        if not hasattr(self, "latents"):
            self.latents = nn.Parameter(torch.zeros(len(data.train_set), self.generator.latent_dim))
        for distance in self._perceptual:
            distance.to(self.device)

    def configure_optimizers(self) -> Optimizer:
        """One optimiser, of what the domain owns and of the latents."""
        return self.optimizer([*split_of(self.generator).domain.values(), self.latents])

    def on_fit_start(self) -> None:
        """Say what is trained."""
        super().on_fit_start()
        rank_zero_info(f"generator: {sentence(split_of(self.generator))}; latents: {self.latents.numel():,}")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Rebuild some images.

        Args:
            batch: ``image`` ``(N, 3, H, W)``: how many.
            batch_idx: Unused.

        Returns:
            The terms, and their sum ``loss_g``, as scalars.
        """
        chosen = torch.randperm(len(self.latents))[: len(batch["image"])]
        wanted = self._images(chosen)
        latents = self.latents[chosen.to(self.device)]
        rebuilt = self.generator(latents + _JITTER * torch.randn(latents.shape).to(latents))
        losses = {"pixels": self._pixels(rebuilt, wanted).mean()}
        for distance in self._perceptual:
            losses["perceptual"] = distance(rebuilt, wanted).mean()
        normals = torch.randn(_NORMALS * len(self.latents), self.latents.shape[1]).to(latents)
        losses["prior"] = _PRIOR * spread(self.latents, normals)
        losses["change"] = _CHANGE * change(self.generator)
        loss = torch.stack(list(losses.values())).sum()
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        average_gradients(self)
        optimizer.step()
        self.batches += 1
        self.images += len(chosen) * self.trainer.world_size
        found = {f"loss_{name}": value.detach() for name, value in (losses | {"g": loss}).items()}
        self.log_dict(found)
        return found

    def _images(self, chosen: Tensor) -> Tensor:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        batch = data.train_set.batch(chosen.tolist())
        return data.on_after_batch_transfer({"image": batch["image"].to(self.device)}, 0)["image"]

    def generate(self, seeds: list[int]) -> Tensor:
        """Images of truncated normal latents, one a seed: uint8 ``(N, 3, H, W)``."""
        return to_uint8(self.generator(truncated(seeded_latents(self.generator, seeds))))

    def about(self) -> dict[str, Any]:
        """The source, what stages started from, the sharing and what the domain owns."""
        split = split_of(self.generator)
        sharing = {
            **self.generator.config["sharing"],
            "domain": split.domain_size,
            "shared": split.shared_size,
            "delta_bytes": split.delta_bytes,
        }
        return {
            "source": str(self.source),
            "start": {"generator": self._stages},
            "sharing": {"generator": {**sharing, "learn_ratio": split.learn_ratio}},
        }


def spread(latents: Tensor, normals: Tensor) -> Tensor:
    """How far a set of latents is from normal ones: mean squared distance to the nearest, both ways.

    Args:
        latents: ``(n, D)``.
        normals: ``(m, D)``.
    """
    distances = torch.cdist(latents, normals).square()
    return distances.min(0).values.mean() + distances.min(1).values.mean()


def change(network: Generator) -> Tensor:
    """Mean of ``(gamma - 1)^2`` plus mean of ``beta^2`` over a network's scales and shifts; 0 without any."""
    pairs = [pair for stage in modulated(network).values() for pair in stage]
    if not pairs:
        return torch.zeros((), device=next(network.parameters()).device)
    gammas, betas = (torch.cat([pair[part].flatten() for pair in pairs]) for part in (0, 1))
    return (gammas - 1).square().mean() + betas.square().mean()


def truncated(latents: Tensor, limit: float = _TRUNCATION) -> Tensor:
    """Normal numbers as numbers of the normal distribution truncated to ``[-limit, limit]``, in their order.

    Args:
        latents: Normal, of any shape.
        limit: The largest absolute value.
    """
    inside = math.erf(limit / math.sqrt(2))  # the share of normal numbers that lies within
    return torch.special.ndtri(0.5 + inside * (torch.special.ndtr(latents.double()) - 0.5)).to(latents)
