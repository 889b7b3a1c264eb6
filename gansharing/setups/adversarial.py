"""One generator against one discriminator, from scratch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from gansharing.augment import Augmentation
from gansharing.distributed import average_buffers, average_gradients
from gansharing.errors import UserError
from gansharing.networks import Discriminator, Generator
from gansharing.objectives import AdversarialLoss, GeneratorRegularizer, NonSaturating, Regularizer
from gansharing.objectives.lazy import Lazy, after_main_step, correct_rates, main_share, with_main_step
from gansharing.setups.base import GenerativeSetup
from gansharing.setups.joint import in_full_precision, joint_passes
from gansharing.setups.stepping import Images, add, each, fill_gradients, frozen, in_full, main_head

Apply = Callable[..., Any]


class Adversarial(GenerativeSetup):
    """Train a generator against a discriminator.

    ``trainer.global_step`` counts generator steps, so ``max_steps``, checkpoint intervals and schedules
    are in the unit in which papers give them; all other optimiser steps are taken beside that count.

    Regularisers with an interval above 1 are lazy as in StyleGAN2 (Karras et al. 2020, appendix B): they take
    an optimiser step of their own after their player's main step, and that optimiser's learning rate and
    betas are corrected for the steps it takes more (:func:`~gansharing.objectives.lazy.main_share`).

    Args:
        generator: The generator.
        discriminator: The discriminator; its scores are logits.
        loss: What the two players minimise.
        regularizers: Gradient penalties of the discriminator; their gradients are taken in the images before
            augmentation.
        generator_regularizers: Penalties of the generator (path length).
        augment: Differentiable augmentation of every image the discriminator sees (DiffAugment, ADA).
        optimizer_g: Builds the generator's optimiser from its parameters.
        optimizer_d: Builds the discriminator's optimiser.
        discriminator_steps: Discriminator steps, each on a batch of its own, per generator step.
        order: Which player moves first on a batch: ``dg`` or, as in Spectral Style-DCGAN's code, ``gd``.
        share_latent: Both players' steps on a batch start from the same latents, the fakes being generated
            anew for the second.
        share_fakes: Fakes are generated once a batch, for both steps. In the order ``gd`` the discriminator
            scores those of the generator's step before it, augmented anew, as in Zhao et al.'s code (2020);
            in the order ``dg`` the generator learns from the very images, augmented once, that the
            discriminator has just seen, as in FastGAN's (Liu et al. 2021). Needs one discriminator step.
        accumulate: Split each batch in this many parts and add up their gradients: the same step in less
            memory, but for layers that look across the batch.
        channels_last: Channels-last weights and activations: the same numbers to rounding, faster.
        compile: torch.compile for the main passes of both networks; the regularisers, which differentiate
            twice, always use the plain networks.

    Raises:
        UserError: A regulariser does not apply to the generator.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        loss: AdversarialLoss = NonSaturating(),  # noqa: B008  (stateless; shows up in --print_config)
        regularizers: list[Regularizer] | None = None,
        generator_regularizers: list[GeneratorRegularizer] | None = None,
        augment: Augmentation | None = None,
        optimizer_g: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        optimizer_d: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        discriminator_steps: int = 1,
        order: Literal["dg", "gd"] = "dg",
        share_latent: bool = False,
        share_fakes: bool = False,
        accumulate: int = 1,
        channels_last: bool = True,
        compile: bool = False,
    ) -> None:
        super().__init__(channels_last)
        if discriminator_steps < 1 or accumulate < 1:
            raise ValueError("discriminator_steps and accumulate must be at least 1")
        if share_fakes and discriminator_steps > 1:
            raise ValueError("share_fakes needs discriminator_steps 1")
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.regularizers = loss, tuple(regularizers or ())
        for regularizer in generator_regularizers or ():
            regularizer.check(generator)
        self.generator_regularizers: Sequence[GeneratorRegularizer] = nn.ModuleList(generator_regularizers)  # type: ignore[assignment]
        self.augment = augment if augment is not None else Augmentation()
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.discriminator_steps, self.order, self.share_latent = discriminator_steps, order, share_latent
        self.accumulate = accumulate
        self.share_fakes, self._fakes = share_fakes, list[Images]()
        self._latest: dict[str, Tensor] = {}
        # In a tuple, so that nn.Module does not register the compiled networks a second time.
        networks = (generator, discriminator)
        self._passes: tuple[Apply, ...] = (
            tuple(torch.compile(net) for net in networks) if compile else networks
        )
        simple = type(self.augment) is Augmentation and not compile
        self._joint = joint_passes(discriminator, loss, self.regularizers) if simple else None

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser a player, generator first.

        Raises:
            UserError: An optimiser refuses its arguments.
        """
        return [
            build_optimizer("optimizer_g", self.optimizer_g, self.generator, self.generator_regularizers),
            build_optimizer("optimizer_d", self.optimizer_d, self._judge(), self.regularizers),
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Let each player whose turn it is make a step.

        Args:
            batch: ``image`` ``(N, 3, H, W)`` and ``label`` ``(N,)``.
            batch_idx: Unused: the clock is :attr:`batches`, which survives a resume.

        Returns:
            The players' losses and the penalties that were due, as scalars.

        Raises:
            UserError: A loss that is to be logged is NaN or infinite.
        """
        real, labels = batch["image"], batch.get("label")
        latent = self.generator.sample_latent(len(real)) if self.share_latent or self.share_fakes else None
        losses: dict[str, Tensor] = {}
        for player in self.order:
            fresh = self.generator.sample_latent(len(real)) if latent is None else latent
            if player == "d":
                losses |= self._discriminator_step(real, labels, fresh)
            elif (self.batches + 1) % self.discriminator_steps == 0:
                losses |= self._generator_step(real, labels, fresh)
        average_buffers(self)
        self.batches += 1
        count = len(real) * self.trainer.world_size
        self.images += count
        self.augment.adapt(self.batches, count)
        self._refuse_divergence(losses)
        # A lazy penalty's last value: its steps and those that are logged may never meet.
        self._latest |= losses
        for name, value in (self._latest | self.augment.figures()).items():
            self.log(name, value, prog_bar=name in ("loss_d", "loss_g"))
        return losses

    def _discriminator_step(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        optimizer = self._raw_optimizer(1)
        optimizer.zero_grad()
        losses, fakes = self._discriminator_gradients(real, labels, latent)
        self._step_aside(optimizer, self._judge())
        optimizer.zero_grad()
        if due := after_main_step(self.regularizers, self.batches):
            self._discriminator_penalties(due, losses, real, labels, fakes)
            self._step_aside(optimizer, self._judge())
        return losses

    def _discriminator_gradients(
        self, real: Tensor, labels: Tensor | None, latent: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Add the gradients of the discriminator's main step; the losses, and the fakes by parts."""
        always = with_main_step(self.regularizers)
        joint = self._joint if in_full_precision(real) else None
        losses: dict[str, Tensor] = {}
        fakes: list[Tensor] = []
        for share, x, y, z in self._parts(real, labels, latent):
            images, fake = self._fakes_to_judge(z, y)
            fakes.append(images)
            if joint is not None:
                self._learn(losses, share, joint.fake(images, y))
                self._learn(losses, share, joint.real(x, y))
                continue
            scores, studied = self._study(self.augment(x), y)
            self.augment.observe(scores.detach())
            if self.loss.compares:
                loss = self.loss.discriminator(scores, self._score(fake, y))
                self._learn(losses, share, {"loss_d": loss} | studied)
            else:
                # One after the other: the graph of the reals is gone before that of the fakes is built.
                self._learn(losses, share, {"loss_d_real": self.loss.real(scores)} | studied)
                self._learn(losses, share, {"loss_d_fake": self.loss.fake(self._score(fake, y))})
            self._penalise_scores(always, losses, share, x, y, images)
        if "loss_d" not in losses:
            losses["loss_d"] = losses["loss_d_real"] + losses["loss_d_fake"]
        return losses, fakes

    def _discriminator_penalties(
        self,
        due: Sequence[Regularizer],
        losses: dict[str, Tensor],
        real: Tensor,
        labels: Tensor | None,
        fakes: list[Tensor],
    ) -> None:
        """Add the gradients of lazy penalties, and their values to ``losses``."""
        # Parts are cut alike whatever is cut.
        for (share, x, y, _), fake in zip(self._parts(real, labels, real), fakes, strict=True):
            self._penalise_scores(due, losses, share, x, y, fake)
        fill_gradients(self._judge())

    def _generator_step(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        optimizer, step = self.optimizers()[0], self.trainer.global_step  # type: ignore[index]
        optimizer.zero_grad()
        losses = self._generator_gradients(real, labels, latent)
        average_gradients(self.generator)
        optimizer.step()
        optimizer.zero_grad()  # the other player's step has their memory
        if due := after_main_step(self.generator_regularizers, step):
            self._generator_penalties(due, losses, real, labels)
            self._step_aside(self._raw_optimizer(0), self.generator)
        return losses

    def _generator_gradients(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        """Add the gradients of the generator's main step; the losses."""
        losses: dict[str, Tensor] = {}
        next_judged = self.share_fakes and self.order == "gd" and self.accumulate == 1
        if self._joint is not None and next_judged and in_full_precision(real):
            fakes = main_head(self._fakes_to_improve(latent, labels))
            add(losses, "loss_g", self._backward(self._joint.generator(fakes, labels)))
        else:
            self._improve(losses, real, labels, latent)
        self._penalise_images(with_main_step(self.generator_regularizers), losses, real, labels)
        return losses

    def _improve(
        self, losses: dict[str, Tensor], real: Tensor, labels: Tensor | None, latent: Tensor
    ) -> None:
        with frozen(self.discriminator):
            for share, x, y, z in self._parts(real, labels, latent):
                scores = self._score(self._fakes_to_improve(z, y), y)
                rival = None
                if self.loss.compares:
                    with torch.no_grad():
                        rival = self._score(self.augment(x), y)
                add(losses, "loss_g", self._backward(share * self.loss.generator(scores, rival)))

    def _generator_penalties(
        self,
        due: Sequence[GeneratorRegularizer],
        losses: dict[str, Tensor],
        real: Tensor,
        labels: Tensor | None,
    ) -> None:
        """Add the gradients of lazy penalties, and their values to ``losses``."""
        self._penalise_images(due, losses, real, labels)
        fill_gradients(self.generator)

    def _fakes_to_judge(self, latent: Tensor, labels: Tensor | None) -> tuple[Tensor, Images]:
        """Fakes for the discriminator's step, and as it sees them; shared ones keep their graph."""
        shared, first = self.share_fakes, self.order == "dg"
        with torch.set_grad_enabled(shared and first):
            images = self._fakes.pop(0) if shared and not first else self._generate(latent, labels)
            seen = each(self.augment, images)
        if shared and first:
            self._fakes.append(seen)
        return main_head(images).detach(), each(Tensor.detach, seen)

    def _fakes_to_improve(self, latent: Tensor, labels: Tensor | None) -> Images:
        """Fakes for the generator's step, as the discriminator sees them."""
        if self.share_fakes and self.order == "dg":
            return self._fakes.pop(0)
        images = self._generate(latent, labels)
        if self.share_fakes:
            self._fakes.append(each(Tensor.detach, images))
        return each(self.augment, images)

    def _penalise_scores(
        self,
        penalties: Sequence[Regularizer],
        losses: dict[str, Tensor],
        share: float,
        real: Tensor,
        labels: Tensor | None,
        fake: Tensor,
    ) -> None:
        for penalty in penalties:
            # In full precision: squared gradients lose their small values in half.
            with torch.autocast(real.device.type, enabled=False):
                value = penalty(
                    lambda x: self.discriminator(self.augment(x), labels), in_full(real), in_full(fake)
                )
            add(losses, type(penalty).__name__.lower(), self._backward(share * value))

    def _penalise_images(
        self,
        penalties: Sequence[GeneratorRegularizer],
        losses: dict[str, Tensor],
        real: Tensor,
        labels: Tensor | None,
    ) -> None:
        for penalty in penalties:
            latent = self.generator.sample_latent(len(real))
            for share, x, y, z in self._parts(real, labels, latent):
                with torch.autocast(x.device.type, enabled=False):
                    value = penalty(self.generator, in_full(z), y)
                add(losses, type(penalty).__name__.lower(), self._backward(share * value))

    def _step_aside(self, optimizer: Optimizer, network: nn.Module) -> None:
        """Step through the strategy (precision, scaling) but beside Lightning's step counter."""
        average_gradients(network)
        self.trainer.strategy.optimizer_step(optimizer, closure=lambda: None, model=self)

    def _refuse_divergence(self, losses: dict[str, Tensor]) -> None:
        # Only where logging waits for the numbers anyway; a checkpoint refuses them by itself.
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        step = self.trainer.global_step
        if every < 1 or step % every:
            return
        finite = torch.stack(list(losses.values())).isfinite().all()
        if self.trainer.strategy.reduce_boolean_decision(not finite, all=False):
            found = ", ".join(f"{name} is {value.item():.4g}" for name, value in losses.items())
            raise UserError(
                f"training has diverged at step {step}: {found}; the last good checkpoint is kept, resume "
                "from it with a lower learning rate or precision 32"
            )

    def _parts(
        self, real: Tensor, labels: Tensor | None, latent: Tensor
    ) -> Iterator[tuple[float, Tensor, Tensor | None, Tensor]]:
        count = min(self.accumulate, len(real))
        # Not chunk(), which may give fewer parts than asked for.
        classes = [None] * count if labels is None else labels.tensor_split(count)
        for x, y, z in zip(real.tensor_split(count), classes, latent.tensor_split(count), strict=True):
            yield len(x) / len(real), x, y, z

    def _judge(self) -> nn.Module:
        """What the discriminator's optimiser trains."""
        return self.discriminator

    def _generate(self, latent: Tensor, labels: Tensor | None) -> Images:
        return self._passes[0](latent, labels)

    def _score(self, images: Images, labels: Tensor | None) -> Tensor:
        return self._passes[1](images, labels)

    def _study(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores of real images, and what else the discriminator learns from them: losses by name."""
        return self._score(images, labels), {}

    def _learn(self, losses: dict[str, Tensor], share: float, named: dict[str, Tensor]) -> None:
        self.manual_backward(share * torch.stack(list(named.values())).sum())
        for name, value in named.items():
            add(losses, name, share * value.detach())

    def _backward(self, loss: Tensor) -> Tensor:
        self.manual_backward(loss)
        return loss.detach()

    def _raw_optimizer(self, index: int) -> Optimizer:
        optimizers: Any = self.optimizers(use_pl_optimizer=False)
        return optimizers[index]


def build_optimizer(
    name: str, build: OptimizerCallable, network: nn.Module, regularizers: Sequence[Lazy]
) -> Optimizer:
    """A player's optimiser, with rates corrected for the steps that lazy regularisers take more.

    Args:
        name: What a message calls the option.
        build: Makes an optimiser of parameters.
        network: What is trained.
        regularizers: The player's.

    Raises:
        UserError: The optimiser refuses its arguments.
    """
    try:
        optimizer = build(p for p in network.parameters() if p.requires_grad)
    except ValueError as error:
        raise UserError(f"model.{name}: {error}") from error
    correct_rates(optimizer, main_share(regularizers))
    return optimizer
