"""One generator against one discriminator, from scratch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from gansharing.distributed import average_buffers, average_gradients
from gansharing.errors import UserError
from gansharing.networks import Discriminator, Generator
from gansharing.objectives import AdversarialLoss, NonSaturating, Regularizer
from gansharing.setups.base import GenerativeSetup

Apply = Callable[..., Tensor]


class Adversarial(GenerativeSetup):
    """Train a generator against a discriminator.

    ``trainer.global_step`` counts generator steps, so ``max_steps``, checkpoint intervals and schedules
    are in the unit in which papers give them; discriminator steps are taken beside that count.

    Args:
        generator: The generator.
        discriminator: The discriminator; its scores are logits.
        loss: What the two players minimise.
        regularizers: Gradient penalties of the discriminator.
        augment: Differentiable augmentation of every image the discriminator sees (DiffAugment).
        optimizer_g: Builds the generator's optimiser from its parameters.
        optimizer_d: Builds the discriminator's optimiser.
        discriminator_steps: Discriminator steps, each on a batch of its own, per generator step.
        order: Which player moves first on a batch: ``dg`` or, as in Spectral Style-DCGAN's code, ``gd``.
        share_latent: Both players' steps on a batch start from the same latents, the fakes being generated
            anew for the second.
        accumulate: Split each batch in this many parts and add up their gradients: the same step in less
            memory, but for layers that look across the batch.
        channels_last: Channels-last weights and activations: the same numbers to rounding, faster.
        compile: torch.compile for the main passes of both networks; the regularisers, which differentiate
            twice, always use the plain discriminator.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        loss: AdversarialLoss = NonSaturating(),  # noqa: B008  (stateless; shows up in --print_config)
        regularizers: list[Regularizer] | None = None,
        augment: nn.Module | None = None,
        optimizer_g: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        optimizer_d: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        discriminator_steps: int = 1,
        order: Literal["dg", "gd"] = "dg",
        share_latent: bool = False,
        accumulate: int = 1,
        channels_last: bool = True,
        compile: bool = False,
    ) -> None:
        super().__init__(channels_last)
        if discriminator_steps < 1 or accumulate < 1:
            raise ValueError("discriminator_steps and accumulate must be at least 1")
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.regularizers = loss, tuple(regularizers or ())
        self.augment = augment if augment is not None else nn.Identity()
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.discriminator_steps, self.order, self.share_latent = discriminator_steps, order, share_latent
        self.accumulate = accumulate
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
            _build("optimizer_g", self.optimizer_g, self.generator),
            _build("optimizer_d", self.optimizer_d, self.discriminator),
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Let each player whose turn it is make a step.

        Args:
            batch: ``image`` ``(N, 3, H, W)`` and ``label`` ``(N,)``.
            batch_idx: Unused: the clock is :attr:`batches`, which survives a resume.

        Returns:
            The players' losses as scalars.
        """
        real, labels = batch["image"], batch.get("label")
        latent = self.generator.sample_latent(len(real)) if self.share_latent else None
        losses: dict[str, Tensor] = {}
        for player in self.order:
            fresh = self.generator.sample_latent(len(real)) if latent is None else latent
            if player == "d":
                losses |= self._discriminator_step(real, labels, fresh)
            elif (self.batches + 1) % self.discriminator_steps == 0:
                losses |= self._generator_step(real, labels, fresh)
        average_buffers(self)
        self.batches += 1
        self.images += len(real) * self.trainer.world_size
        for name, value in losses.items():
            self.log(name, value, prog_bar=name in ("loss_d", "loss_g"))
        return losses

    def _discriminator_step(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        optimizer = self._raw_optimizer(1)
        optimizer.zero_grad()
        penalties = [r for r in self.regularizers if r.due(self.batches)]
        losses: dict[str, Tensor] = {}
        for share, x, y, z in self._parts(real, labels, latent):
            with torch.no_grad():
                fake = self.augment(self._generate(z, y))
            x = self.augment(x)
            if self.loss.compares:
                loss = self.loss.discriminator(self._score(x, y), self._score(fake, y))
                _add(losses, "loss_d", self._backward(share * loss))
            else:
                # One after the other: the graph of the reals is gone before that of the fakes is built.
                _add(losses, "loss_d_real", self._backward(share * self.loss.real(self._score(x, y))))
                _add(losses, "loss_d_fake", self._backward(share * self.loss.fake(self._score(fake, y))))
            for penalty in penalties:
                name = type(penalty).__name__.lower()
                _add(losses, name, self._backward(share * self._penalty(penalty, x, y, fake)))
        average_gradients(self.discriminator)
        # Through the strategy (precision, scaling) but beside Lightning's step counter.
        self.trainer.strategy.optimizer_step(optimizer, closure=lambda: None, model=self)
        if "loss_d" not in losses:
            losses["loss_d"] = losses["loss_d_real"] + losses["loss_d_fake"]
        return losses

    def _generator_step(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        optimizer = self.optimizers()[0]  # type: ignore[index]
        optimizer.zero_grad()
        losses: dict[str, Tensor] = {}
        with frozen(self.discriminator):
            for share, x, y, z in self._parts(real, labels, latent):
                scores = self._score(self.augment(self._generate(z, y)), y)
                rival = None
                if self.loss.compares:
                    with torch.no_grad():
                        rival = self._score(self.augment(x), y)
                _add(losses, "loss_g", self._backward(share * self.loss.generator(scores, rival)))
        average_gradients(self.generator)
        optimizer.step()
        return losses

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

    def _penalty(self, penalty: Regularizer, real: Tensor, labels: Tensor | None, fake: Tensor) -> Tensor:
        # In full precision: squared gradients lose their small values in half.
        with torch.autocast(real.device.type, enabled=False):
            return penalty(lambda x: self.discriminator(x, labels), real.float(), fake.float())

    def _backward(self, loss: Tensor) -> Tensor:
        self.manual_backward(loss)
        return loss.detach()

    def _raw_optimizer(self, index: int) -> Optimizer:
        optimizers: Any = self.optimizers(use_pl_optimizer=False)
        return optimizers[index]


def _build(name: str, build: OptimizerCallable, network: nn.Module) -> Optimizer:
    try:
        return build(p for p in network.parameters() if p.requires_grad)
    except ValueError as error:
        raise UserError(f"model.{name}: {error}") from error


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
