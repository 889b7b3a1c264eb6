"""One generator against one discriminator, from scratch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

Apply = Callable[..., Tensor]


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
        share_fakes: The discriminator scores the very fakes of the generator's step before it, as in Zhao et
            al.'s code (2020): they are generated once. Needs the order ``gd`` and one discriminator step.
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
        if share_fakes and (order != "gd" or discriminator_steps > 1):
            raise ValueError("share_fakes needs order gd and discriminator_steps 1")
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.regularizers = loss, tuple(regularizers or ())
        for regularizer in generator_regularizers or ():
            regularizer.check(generator)
        self.generator_regularizers: Sequence[GeneratorRegularizer] = nn.ModuleList(generator_regularizers)  # type: ignore[assignment]
        self.augment = augment if augment is not None else Augmentation()
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.discriminator_steps, self.order, self.share_latent = discriminator_steps, order, share_latent
        self.accumulate = accumulate
        self.share_fakes, self._fakes = share_fakes, list[Tensor]()
        self._latest: dict[str, Tensor] = {}
        # In a tuple, so that nn.Module does not register the compiled networks a second time.
        networks = (generator, discriminator)
        self._passes: tuple[Apply, ...] = (
            tuple(torch.compile(net) for net in networks) if compile else networks
        )

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser a player, generator first.

        Raises:
            UserError: An optimiser refuses its arguments.
        """
        return [
            _build("optimizer_g", self.optimizer_g, self.generator, self.generator_regularizers),
            _build("optimizer_d", self.optimizer_d, self.discriminator, self.regularizers),
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
        always = with_main_step(self.regularizers)
        losses: dict[str, Tensor] = {}
        fakes: list[Tensor] = []
        for share, x, y, z in self._parts(real, labels, latent):
            with torch.no_grad():
                fakes.append(self._fakes.pop(0) if self.share_fakes else self._generate(z, y))
                fake = self.augment(fakes[-1])
            scores = self._score(self.augment(x), y)
            self.augment.observe(scores.detach())
            if self.loss.compares:
                loss = self.loss.discriminator(scores, self._score(fake, y))
                _add(losses, "loss_d", self._backward(share * loss))
            else:
                # One after the other: the graph of the reals is gone before that of the fakes is built.
                _add(losses, "loss_d_real", self._backward(share * self.loss.real(scores)))
                _add(losses, "loss_d_fake", self._backward(share * self.loss.fake(self._score(fake, y))))
            self._penalise_scores(always, losses, share, x, y, fakes[-1])
        if "loss_d" not in losses:
            losses["loss_d"] = losses["loss_d_real"] + losses["loss_d_fake"]
        self._step_aside(optimizer, self.discriminator)
        if due := after_main_step(self.regularizers, self.batches):
            optimizer.zero_grad()
            parts = self._parts(real, labels, latent)
            for (share, x, y, _), fake in zip(parts, fakes, strict=True):
                self._penalise_scores(due, losses, share, x, y, fake)
            _fill_gradients(self.discriminator)
            self._step_aside(optimizer, self.discriminator)
        return losses

    def _generator_step(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        optimizer, step = self.optimizers()[0], self.trainer.global_step  # type: ignore[index]
        optimizer.zero_grad()
        losses: dict[str, Tensor] = {}
        with frozen(self.discriminator):
            for share, x, y, z in self._parts(real, labels, latent):
                images = self._generate(z, y)
                if self.share_fakes:
                    self._fakes.append(images.detach())
                scores = self._score(self.augment(images), y)
                rival = None
                if self.loss.compares:
                    with torch.no_grad():
                        rival = self._score(self.augment(x), y)
                _add(losses, "loss_g", self._backward(share * self.loss.generator(scores, rival)))
        self._penalise_images(with_main_step(self.generator_regularizers), losses, real, labels)
        average_gradients(self.generator)
        optimizer.step()
        if due := after_main_step(self.generator_regularizers, step):
            optimizer.zero_grad()
            self._penalise_images(due, losses, real, labels)
            _fill_gradients(self.generator)
            self._step_aside(self._raw_optimizer(0), self.generator)
        return losses

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
                    lambda x: self.discriminator(self.augment(x), labels), real.float(), fake.float()
                )
            _add(losses, type(penalty).__name__.lower(), self._backward(share * value))

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
                    value = penalty(self.generator, z.float(), y)
                _add(losses, type(penalty).__name__.lower(), self._backward(share * value))

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

    def _generate(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        return self._passes[0](latent, labels)

    def _score(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self._passes[1](images, labels)

    def _backward(self, loss: Tensor) -> Tensor:
        self.manual_backward(loss)
        return loss.detach()

    def _raw_optimizer(self, index: int) -> Optimizer:
        optimizers: Any = self.optimizers(use_pl_optimizer=False)
        return optimizers[index]


def _build(
    name: str, build: OptimizerCallable, network: nn.Module, regularizers: Sequence[Lazy]
) -> Optimizer:
    try:
        optimizer = build(p for p in network.parameters() if p.requires_grad)
    except ValueError as error:
        raise UserError(f"model.{name}: {error}") from error
    correct_rates(optimizer, main_share(regularizers))
    return optimizer


def _fill_gradients(network: nn.Module) -> None:
    # What a penalty does not reach has gradient 0, on one process as on many: its moments decay alike.
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Compute no gradients of ``module``'s parameters inside; parameters frozen before stay so after."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _add(losses: dict[str, Tensor], name: str, value: Tensor) -> None:
    losses[name] = losses[name] + value if name in losses else value
