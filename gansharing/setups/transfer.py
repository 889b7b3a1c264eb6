"""A trained pair of networks taken to another domain, with as many weights as a sharing allows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from gansharing.checkpoints import find_checkpoint, load
from gansharing.errors import UserError
from gansharing.networks import Discriminator, Generator, Network
from gansharing.networks.seeded import seeded_latents
from gansharing.setups.adversarial import Adversarial
from gansharing.sharing import Full, Sharing, Split, described, split_of
from gansharing.visual import to_uint8


class Transfer(Adversarial):
    """Train the generator and the discriminator of another run on new data.

    A sharing says which weights of each network the new domain owns. Only those are trained: the others get
    neither gradients nor optimiser state and stay what they were, bit for bit, in the averaged generator too.
    The discriminator counts for no learn ratio: after training it is thrown away.

    Args:
        source: What to start from: a run's folder, a checkpoint, or a ``.safetensors`` generator of
            ``gansharing import`` or ``export``.
        source_discriminator: The discriminator; that of ``source`` when omitted. A ``.safetensors`` holds one
            network only, so it needs this option.
        sharing: Which weights of the generator are trained.
        sharing_discriminator: Which weights of the discriminator are trained; ``FreezeLower`` is FreezeD.
        options: As for ``Adversarial``, without the networks.

    Raises:
        UserError: A source is missing, damaged or holds no such network, the two do not fit each other, or a
            sharing leaves nothing to train.
    """

    def __init__(
        self,
        source: str,
        source_discriminator: str | None = None,
        sharing: Sharing = Full(),  # noqa: B008  (stateless; shows up in --print_config)
        sharing_discriminator: Sharing = Full(),  # noqa: B008
        **options: Any,
    ) -> None:
        generator = _load("source", source, "generator")
        discriminator = _load_discriminator(source, source_discriminator)
        if generator.resolution != discriminator.resolution:
            raise UserError(
                f"model.source makes images of {generator.resolution} px, its discriminator sees "
                f"{discriminator.resolution} px; give the discriminator that it was trained against"
            )
        self._divide("sharing", sharing, generator)
        self._divide("sharing_discriminator", sharing_discriminator, discriminator)
        super().__init__(cast(Generator, generator), cast(Discriminator, discriminator), **options)
        self.source = source

    @staticmethod
    def _divide(name: str, sharing: Sharing, network: Network) -> None:
        try:
            split = sharing.apply(network.train().requires_grad_(True))
        except UserError as error:
            raise UserError(f"model.{name}: {error}") from None  # the program prints the first cause
        split.freeze_shared()

    def splits(self) -> dict[str, Split]:
        """Both networks, divided."""
        return {"generator": split_of(self.generator), "discriminator": split_of(self.discriminator)}

    def _check_resolution(self) -> None:
        data = getattr(getattr(self.trainer, "datamodule", None), "resolution", None)
        if data is not None and data != self.generator.resolution:
            size = self.generator.resolution
            raise UserError(
                f"data.resolution is {data} px but the source {self.source} works at {size} px; "
                f"set --data.resolution={size}"
            )

    def on_fit_start(self) -> None:
        """Say what is trained: the real learn ratio beside what the sharing was asked for."""
        super().on_fit_start()
        for name, split in self.splits().items():
            rank_zero_info(f"{name}: {_sentence(split)}")

    def about(self) -> dict[str, Any]:
        """The source, and for each network its sharing and how many weights the domain owns."""
        return {
            "source": str(self.source),
            "sharing": {
                name: {
                    **split.network.config["sharing"],
                    "domain": split.domain_size,
                    "shared": split.shared_size,
                    "learn_ratio": split.learn_ratio,
                }
                for name, split in self.splits().items()
            },
        }

    @torch.no_grad()
    def counterpart(self, seeds: list[int]) -> Tensor | None:
        """The source's images of latent seeds: uint8 ``(N, 3, H, W)``."""
        with torch.random.fork_rng(devices=[]):  # building a network draws weights that are then overwritten
            source = cast(Generator, _load("source", self.source, "generator")).to(self.device)
        parts = [
            to_uint8(source(seeded_latents(source, seeds[first : first + self.evaluation_batch_size])))
            for first in range(0, len(seeds), self.evaluation_batch_size)
        ]
        return torch.cat(parts)


def _load(option: str, path: str, part: str) -> Any:
    try:
        return load(path, part)
    except UserError as error:
        remedy = ""
        if not Path(path).exists():
            remedy = "; a run whose source is gone goes on with --model.source RUN/checkpoints/last.ckpt"
        raise UserError(f"model.{option}: {error}{remedy}") from None  # the program prints the first cause


def _load_discriminator(source: str, given: str | None) -> Any:
    if given is not None:
        return _load("source_discriminator", given, "discriminator")
    if find_checkpoint(source).suffix == ".safetensors":
        raise UserError(
            f"model.source {source} holds a generator alone; give its discriminator as "
            "--model.source_discriminator FILE: a run, a checkpoint, or a .safetensors written with "
            "--part discriminator"
        )
    return _load("source", source, "discriminator")


def _sentence(split: Split) -> str:
    config: Mapping[str, Any] = split.network.config["sharing"]
    whole = split.domain_size + split.shared_size
    return (
        f"{described(config)} trains {split.domain_size:,} of {whole:,} "
        f"weights: learn ratio {split.learn_ratio:.4%}"
    )
