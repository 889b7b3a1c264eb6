"""Image-to-image translation between domains, as StarGAN v2 learns it (Choi et al. 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from gansharing.errors import UserError
from gansharing.networks import StarGANv2Discriminator, StarGANv2Translator
from gansharing.networks.seeded import seeded_latents
from gansharing.objectives import R1, NonSaturating
from gansharing.objectives.translation import decayed, difference, diversity
from gansharing.setups.adversarial import build_optimizer
from gansharing.setups.base import GenerativeSetup
from gansharing.setups.joint import JointPasses
from gansharing.setups.stepping import frozen, in_full
from gansharing.visual import to_uint8


@dataclass(frozen=True)
class _Batch:
    """Sources with their domains, the domains to translate into, and two images of those for each."""

    images: Tensor
    own: Tensor
    wanted: Tensor
    references: tuple[Tensor, Tensor]


class Translation(GenerativeSetup):
    """Train StarGAN v2: one generator that translates images of any domain into any domain, in many styles.

    A step is the original's: the discriminator learns from translations guided by latents, then from ones
    guided by reference images; then generator, mapping and style encoder learn from the former, and the
    generator alone from the latter. ``trainer.global_step`` counts these steps. A third of each domain's
    batch is translated, the other two thirds are references; sources and references meet at random.

    Sample number i of a domain is made of latent seed i and of a source from the other domains' reference
    images: the domains in turn, and each one's images in order.

    Args:
        generator: Generator, mapping and style encoder.
        discriminator: The multi-task discriminator.
        domains: Names of the domains, as ``MultiDomainData`` has them.
        style: Weight of style reconstruction.
        diversity: Weight of diversity at the start; 2 for AFHQ in the original.
        diversity_steps: Steps in which it falls to 0.
        cycle: Weight of the reconstruction of the source.
        r1: Weight of R1, whose factor 1/2 is part of it.
        mapping_rate: Factor on the mapping network's learning rate.
        optimizer_g: Builds the optimisers of generator, style encoder and mapping network.
        optimizer_d: Builds the discriminator's.
        channels_last: Channels-last weights and activations: the same numbers to rounding, faster.

    Raises:
        UserError: The networks are of another number of domains.
    """

    generator: Any  # no latent alone makes an image

    def __init__(
        self,
        generator: StarGANv2Translator,
        discriminator: StarGANv2Discriminator,
        domains: Sequence[str],
        style: float = 1.0,
        diversity: float = 1.0,
        diversity_steps: int = 100_000,
        cycle: float = 1.0,
        r1: float = 1.0,
        mapping_rate: float = 0.01,
        optimizer_g: OptimizerCallable = lambda p: torch.optim.Adam(
            p, lr=1e-4, betas=(0.0, 0.99), weight_decay=1e-4
        ),
        optimizer_d: OptimizerCallable = lambda p: torch.optim.Adam(
            p, lr=1e-4, betas=(0.0, 0.99), weight_decay=1e-4
        ),
        channels_last: bool = True,
    ) -> None:
        super().__init__(channels_last)
        self.generator, self.discriminator, self.domains = generator, discriminator, list(domains)
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if network.num_domains != len(self.domains):
                raise UserError(
                    f"model.{name} is of {network.num_domains} domains but model.domains names "
                    f"{len(self.domains)}; set --model.{name}.num_domains={len(self.domains)}"
                )
        if diversity_steps < 1:
            raise UserError(f"model.diversity_steps is {diversity_steps}; give at least 1")
        self.style, self.diversity, self.diversity_steps = style, diversity, diversity_steps
        self.cycle = cycle
        self.mapping_rate = mapping_rate
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self._loss = NonSaturating()
        self._passes = JointPasses(discriminator, self._loss, [R1(r1, every=1)])

    def setup(self, stage: str) -> None:
        """Check that data and networks fit.

        Raises:
            UserError: The data have other domains or another size, or there are several processes.
        """
        data = getattr(self.trainer, "datamodule", None)
        names = getattr(data, "names", [])
        if data is not None and sorted(names) != sorted(self.domains):  # a stored configuration sorts them
            raise UserError(
                f"model.domains are {', '.join(self.domains)}, but data has {', '.join(names) or 'none'}; "
                "use data: MultiDomainData with these"
            )
        if self.trainer.world_size > 1:
            raise UserError("Translation trains in one process; set trainer.devices and num_nodes to 1")
        super().setup(stage)

    def configure_optimizers(self) -> list[Optimizer]:
        """Those of generator, style encoder, mapping and discriminator.

        Raises:
            UserError: An optimiser refuses its arguments.
        """
        net = self.generator
        built = [
            build_optimizer("optimizer_g", self.optimizer_g, part, ())
            for part in (net.generator, net.style_encoder, net.mapping)
        ]
        for group in built[2].param_groups:
            group["lr"] *= self.mapping_rate
        return [*built, build_optimizer("optimizer_d", self.optimizer_d, self.discriminator, ())]

    def training_step(self, batch: dict[str, dict[str, Tensor]], batch_idx: int) -> dict[str, Tensor]:
        """Let the players make the four steps.

        Args:
            batch: ``image`` ``(N, 3, H, W)`` of each domain, N divisible by three.
            batch_idx: Unused: the clock is :attr:`batches`.

        Returns:
            The losses, unweighted, as scalars: of the discriminator ``loss_d_latent`` and
            ``loss_d_reference``, of the generator ``loss_g_latent``, ``style_latent`` ...

        Raises:
            UserError: A batch does not divide into thirds.
        """
        dealt = self._dealt(batch)
        latents = (self._latents(dealt), self._latents(dealt))
        guides = {"latent": latents, "reference": dealt.references}
        losses: dict[str, Tensor] = {}
        for name, guide in guides.items():
            losses |= self._discriminator_step(dealt, guide[0], name)
        losses |= self._translator_step(dealt, latents)
        losses |= self._generator_step(dealt)
        self.batches += 1
        self.images += len(dealt.images)
        for name, value in losses.items():
            self.log(name, value, prog_bar=name in ("loss_d_latent", "loss_g_latent"))
        return losses

    def _latents(self, batch: _Batch) -> Tensor:
        found: Tensor = self.generator.sample_latent(len(batch.images))
        return found.to(batch.images.dtype)

    def _dealt(self, batch: dict[str, dict[str, Tensor]]) -> _Batch:
        thirds = []
        for name in self.domains:
            images = batch[name]["image"]
            if len(images) % 3:
                raise UserError(
                    f"domain {name}: a batch of {len(images)} images does not divide into sources and two "
                    "references each; give data.batch_size a multiple of 3, and keep data.drop_last"
                )
            thirds.append(images.chunk(3))
        sources, first, second = (torch.cat(third) for third in zip(*thirds, strict=True))
        own = torch.cat([torch.full((len(third[0]),), number) for number, third in enumerate(thirds)])
        order = torch.randperm(len(own))
        where = sources.device
        return _Batch(
            sources, own.to(where), own[order].to(where), (first[order.to(where)], second[order.to(where)])
        )

    def _discriminator_step(self, batch: _Batch, guide: Tensor, name: str) -> dict[str, Tensor]:
        optimizer = self._raw_optimizer(3)
        optimizer.zero_grad()
        with torch.no_grad():
            fakes = self.generator(batch.images, batch.wanted, guide)
        with torch.autocast(batch.images.device.type, enabled=False):  # squared gradients are small
            losses = self._passes.real(in_full(batch.images), batch.own)
        losses |= self._passes.fake(fakes, batch.wanted)
        self.manual_backward(torch.stack(list(losses.values())).sum())
        self._step_aside(optimizer)
        optimizer.zero_grad()
        found = {f"{key}_{name}": value.detach() for key, value in losses.items()}
        return found | {f"loss_d_{name}": torch.stack(list(found.values())).sum()}

    def _translator_step(self, batch: _Batch, latents: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The step that is guided by latents, of generator, style encoder and mapping."""
        losses = self._translator_gradients(batch, latents, "latent")
        self.optimizers()[0].step()  # type: ignore[index, union-attr]
        for index in (1, 2):
            self._step_aside(self._raw_optimizer(index))
        return losses

    def _generator_step(self, batch: _Batch) -> dict[str, Tensor]:
        """The step that is guided by references, of the generator alone."""
        with frozen(self.generator.style_encoder), frozen(self.generator.mapping):
            losses = self._translator_gradients(batch, batch.references, "reference")
        self._step_aside(self._raw_optimizer(0))
        for index in (0, 1, 2):
            self._raw_optimizer(index).zero_grad()
        return losses

    def _translator_gradients(
        self, batch: _Batch, guides: tuple[Tensor, Tensor], name: str
    ) -> dict[str, Tensor]:
        for index in (0, 1, 2):
            self._raw_optimizer(index).zero_grad()
        net, weight = self.generator, decayed(self.diversity, self.batches, self.diversity_steps)
        with frozen(self.discriminator):
            style = net.style(guides[0], batch.wanted)
            fakes = net.generator(batch.images, style)
            with torch.no_grad():
                others = net(batch.images, batch.wanted, guides[1])
            back = net(fakes, batch.own, batch.images)
            terms = {
                "loss_g": (1.0, self._loss.generator(self.discriminator(fakes, batch.wanted))),
                "style": (self.style, difference(net.style(fakes, batch.wanted), style)),
                "diversity": (weight, diversity(fakes, others)),
                "cycle": (self.cycle, difference(back, batch.images)),
            }
            self.manual_backward(torch.stack([share * term for share, term in terms.values()]).sum())
        return {f"{key}_{name}": term.detach() for key, (_, term) in terms.items()}

    def _step_aside(self, optimizer: Optimizer) -> None:
        """Step through the strategy (precision, scaling) but beside Lightning's step counter."""
        self.trainer.strategy.optimizer_step(optimizer, closure=lambda: None, model=self)

    def _raw_optimizer(self, index: int) -> Optimizer:
        optimizers: Any = self.optimizers(use_pl_optimizer=False)
        return optimizers[index]

    def sources(self, domain: str, seeds: list[int]) -> Tensor:
        """What is translated into a domain for these seeds: ``(N, 3, H, W)`` in [-1, 1]."""
        others = [name for name in self.domains if name != domain] or [domain]
        count = len(others)
        return torch.cat([self._real(others[seed % count], seed // count) for seed in seeds])

    def _real(self, domain: str, number: int) -> Tensor:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        held = data.references[domain]
        batch = {"image": held.batch([number % len(held)])["image"].to(self.device)}
        found: Tensor = data.members[domain].on_after_batch_transfer(batch, 0)["image"]
        return found.to(next(self.generator.parameters()).dtype)

    def generate(self, seeds: list[int]) -> Tensor:
        """Translations into the first domain: uint8 ``(N, 3, H, W)``."""
        return self.generate_in(self.domains[0], seeds)

    def generate_in(self, domain: str, seeds: list[int]) -> Tensor:
        """Translations of :meth:`sources` into a domain by latent seeds: uint8 ``(N, 3, H, W)``."""
        sources = self.sources(domain, seeds)
        latents = seeded_latents(self.generator, seeds).to(sources.dtype)
        return to_uint8(self.generator(sources, self._labels(domain, sources), latents))

    def guided(self, seeds: list[int]) -> dict[str, Tensor]:
        """Three rows a domain: sources, references (image i for seed i), translations; uint8 each."""
        rows: dict[str, Tensor] = {}
        for name in self.domains:
            sources = self.sources(name, seeds)
            references = torch.cat([self._real(name, seed) for seed in seeds])
            made = self.generator(sources, self._labels(name, sources), references)
            kinds = {"sources": sources, "references": references, "translations": made}
            rows |= {f"{name} {kind}": to_uint8(images) for kind, images in kinds.items()}
        return rows

    def _labels(self, domain: str, images: Tensor) -> Tensor:
        return torch.full((len(images),), self.domains.index(domain), device=images.device)

    def validation_step(self, indices: Tensor, batch_idx: int) -> dict[str, Any]:
        """The same seeds in every domain, ``{"seeds", "images", "domains": {name: images}}``.

        The first batch has ``"references"`` too, rows as :meth:`guided` gives them.
        """
        seeds = indices.tolist()
        domains = {name: self.generate_in(name, seeds) for name in self.domains}
        found = {"seeds": seeds, "images": domains[self.domains[0]], "domains": domains}
        return found | ({"references": self.guided(seeds)} if batch_idx == 0 else {})

    def about(self) -> dict[str, Any]:
        """The domains, in the order of their numbers."""
        return {"domains": self.domains}
