"""One generator at every width, against a discriminator for each (Hou et al. 2021, algorithm 1)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from gansharing.augment import Augmentation
from gansharing.distributed import average_gradients
from gansharing.errors import UserError
from gansharing.networks import Discriminator, Generator
from gansharing.objectives import AdversarialLoss, Hinge
from gansharing.setups.adversarial import Adversarial
from gansharing.setups.stepping import add, frozen
from gansharing.slimmable import (
    SlimmableDiscriminator,
    at_width,
    distillation,
    halves,
    held_norms,
    sandwich,
    scores_alone,
    turns,
)
from gansharing.slimmable.distillation import Teacher


class Slimmable(Adversarial):
    """Train a slimmable generator at all of its widths in every step.

    Each player's gradients of all widths are summed and make one step. Real images, and the labels of the
    fakes, are the same at every width; latents are fresh, but for the distillation, which shows all widths
    the same. What the algorithm repeats is done once: the shared stages of the discriminator on real images
    (which are augmented once), the others on reals and fakes in one batch, and its division by spectral norms
    (:func:`~gansharing.slimmable.held_norms`), those of a width's own stages for its turn only. Widths take
    their turn from the widest down in the generator's step, so that each gives way to the next before the
    next is computed.

    Args:
        generator: A ``SlimmableGenerator``.
        discriminator: A ``PerWidthDiscriminator`` as the paper has it, a ``SlimmableDiscriminator``, or any
            other, which is then one and the same for all widths.
        loss: What the two players minimise.
        distillation: λ of equation 4, on the mean over pixels; 0 for no distillation.
        teacher: Whose images a width learns to give: the ``next`` wider one's, or the ``widest``'s.
        judged: Who plays against the discriminator: ``all`` widths, or the ``widest`` alone, from which the
            narrower ones then learn by distillation only.
        augment: Differentiable augmentation of every image the discriminator sees.
        optimizer_g: Builds the generator's optimiser from its parameters.
        optimizer_d: Builds the discriminator's optimiser.
        discriminator_steps: Discriminator steps, each on a batch of its own, per generator step.
        random_widths: Train so many random widths, too, drawn for every batch between the two that the
            generator is given (the sandwich rule of Yu and Huang 2019); it takes ``between: true``. A
            discriminator with parts of each width's own judges them by the widest's.
        decay_steps: Both learning rates fall linearly to 0 over this many generator steps; constant when
            omitted.
        channels_last: Channels-last weights and activations: the same numbers to rounding, faster.

    Raises:
        UserError: The generator has no widths, the discriminator has others, or an option does not fit.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        loss: AdversarialLoss = Hinge(),  # noqa: B008  (stateless; shows up in --print_config)
        distillation: float = 20.0,
        teacher: Teacher = "next",
        judged: Literal["all", "widest"] = "all",
        augment: Augmentation | None = None,
        optimizer_g: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        optimizer_d: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        discriminator_steps: int = 1,
        random_widths: int = 0,
        decay_steps: int | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__(
            generator,
            discriminator,
            loss,
            augment=augment,
            optimizer_g=optimizer_g,
            optimizer_d=optimizer_d,
            discriminator_steps=discriminator_steps,
            channels_last=channels_last,
        )
        self.widths = _widths(generator, discriminator)
        self.distillation, self.teacher, self.decay_steps = distillation, teacher, decay_steps
        _check(self.widths, distillation, teacher, judged, decay_steps)
        self.judged = self.widths if judged == "all" else self.widths[-1:]
        self.random_widths = random_widths
        self.stream: int | None = None
        if random_widths:
            self._check_between(discriminator)
        self.evaluation_widths = self.widths[:-1]

    def _check_between(self, discriminator: Discriminator) -> None:
        sandwich(self.widths, self.random_widths, 0, 0)  # refuses a number that cannot be drawn
        if len(self.widths) != 2 or not self.generator.between:
            raise UserError(
                "model.random_widths draws between two widths of a generator that computes there; give "
                "model.generator widths such as [0.25, 1.0], and between: true"
            )
        if isinstance(discriminator, SlimmableDiscriminator):
            raise UserError(
                "model.random_widths: a SlimmableDiscriminator has the given widths only; give a "
                "PerWidthDiscriminator, or an ordinary one"
            )

    def on_fit_start(self) -> None:
        """As the base, and choose the stream from which widths are drawn: the first process's seed."""
        if self.stream is None:
            self.stream = int(self.trainer.strategy.broadcast(torch.initial_seed()))
        super().on_fit_start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As the base, and keep the stream."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["width_stream"] = self.stream

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As the base, and go on with the stream."""
        super().on_load_checkpoint(checkpoint)
        self.stream = checkpoint.get("width_stream")

    def turn(self) -> tuple[list[float], list[float]]:
        """The widths that this batch trains, ascending, and those of them that are judged."""
        if not self.random_widths or self.stream is None:
            return self.widths, self.judged
        widths = sandwich(self.widths, self.random_widths, self.stream, self.batches)
        return widths, widths if self.judged is self.widths else widths[-1:]

    def _named(self, name: str, width: float) -> str:
        return f"{name}/{width:g}" if width in self.widths else f"{name}/between"

    def configure_optimizers(self) -> Any:
        """One optimiser a player, generator first, and where rates decay a schedule for each.

        Raises:
            UserError: An optimiser refuses its arguments.
        """
        optimizers = super().configure_optimizers()
        if self.decay_steps is None:
            return optimizers
        return optimizers, [LinearLR(each, 1.0, 0.0, self.decay_steps) for each in optimizers]

    def _discriminator_step(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        optimizer = self._raw_optimizer(1)
        common, own = halves(self.discriminator)
        losses: dict[str, Tensor] = {}
        _, judged = self.turn()
        latents = iter([latent, *self._latents(len(judged) - 1, len(real))])
        shared_modules, runs = turns(self.discriminator, judged)
        with held_norms(shared_modules):
            features = common(self.augment(real))
            # Widths leave their gradients here; the shared stages are differentiated once, for their sum.
            shared = features.detach().requires_grad_(features.requires_grad)

            def judge(width: float) -> None:
                with torch.no_grad():
                    fake = self.augment(self.generator(next(latents), labels))
                add(losses, self._named("loss_d", width), self._weigh(own, shared, common, fake, labels))

            _play(runs, judge)
            if shared.grad is not None:
                features.backward(shared.grad)
        self._step_aside(optimizer, self.discriminator)
        optimizer.zero_grad()
        return losses | {"loss_d": torch.stack(list(losses.values())).sum()}

    def _weigh(self, own: Any, features: Tensor, common: Any, fake: Tensor, labels: Tensor | None) -> Tensor:
        if scores_alone(self.discriminator):
            both = torch.cat([features, common(fake)])
            scores, rivals = own(both, None if labels is None else labels.repeat(2)).chunk(2)
            self.augment.observe(scores.detach())
            return self._backward(self.loss.discriminator(scores, rivals))
        scores = own(features, labels)
        self.augment.observe(scores.detach())
        if self.loss.compares:
            return self._backward(self.loss.discriminator(scores, own(common(fake), labels)))
        # One after the other: the graph of the reals is gone before that of the fakes is built.
        loss = self._backward(self.loss.real(scores))
        del scores
        return loss + self._backward(self.loss.fake(own(common(fake), labels)))

    def _generator_step(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> dict[str, Tensor]:
        optimizer = cast(Any, self.optimizers())[0]
        losses: dict[str, Tensor] = {}
        widths, judged = self.turn()
        latents = self._latents(len(judged), len(real))
        teacher: Tensor | None = None

        def improve(width: float) -> None:
            nonlocal teacher
            if width in judged:
                add(losses, self._named("loss_g", width), self._fool(real, labels, latents.pop()))
            if self.distillation:
                share = self.distillation / (len(widths) - 1)
                loss, teacher = self._distil(latent, labels, teacher, share)
                if loss is not None:
                    add(losses, self._named("distillation", width), loss)

        shared_modules, runs = turns(self.discriminator, judged[::-1])
        runs += [([], [width for width in widths[::-1] if width not in judged])]
        with frozen(self.discriminator), held_norms(shared_modules):
            _play(runs, improve)
        for name in ("loss_g", "distillation"):
            parts = [value for key, value in losses.items() if key.startswith(f"{name}/")]
            losses |= {name: torch.stack(parts).sum()} if parts else {}
        average_gradients(self.generator)
        optimizer.step()
        optimizer.zero_grad()  # they would lie beside the discriminator's graphs
        for schedule in cast(Sequence[Any], self.lr_schedulers() or ()):
            schedule.step()
        return losses

    def _fool(self, real: Tensor, labels: Tensor | None, latent: Tensor) -> Tensor:
        scores = self.discriminator(self.augment(self.generator(latent, labels)), labels)
        rival = None
        if self.loss.compares:
            with torch.no_grad():
                rival = self.discriminator(self.augment(real), labels)
        return self._backward(self.loss.generator(scores, rival))

    def _distil(
        self, latent: Tensor, labels: Tensor | None, teacher: Tensor | None, share: float
    ) -> tuple[Tensor | None, Tensor]:
        """Learn from ``teacher``; the loss, and the next narrower width's teacher."""
        if teacher is None:  # the widest only teaches, so its pass needs no graph
            with torch.no_grad():
                return None, self.generator(latent, labels)
        images = self.generator(latent, labels)
        loss = self._backward(share * distillation([images, teacher]))
        return loss, images.detach() if self.teacher == "next" else teacher

    def _latents(self, groups: int, count: int) -> list[Tensor]:
        return [self.generator.sample_latent(count) for _ in range(groups)]


def _play(runs: list[tuple[list[nn.Module], list[float]]], move: Callable[[float], None]) -> None:
    """Let each width move at its turn, while the stages that judge it alone are divided by their norms."""
    for modules, run in runs:
        with held_norms(modules):
            for width in run:
                with at_width(width):
                    move(width)


def _widths(generator: Generator, discriminator: Discriminator) -> list[float]:
    widths: list[float] | None = getattr(generator, "widths", None)
    if widths is None:
        raise UserError(
            f"model.generator is a {type(generator).__name__}, which has one width; give a "
            "gansharing.slimmable.SlimmableGenerator of it"
        )
    others = getattr(discriminator, "widths", widths)
    if others != widths:
        raise UserError(
            f"model.generator has the widths {widths}, model.discriminator {others}; give both the same"
        )
    return widths


def _check(
    widths: list[float], distillation: float, teacher: str, judged: str, decay_steps: int | None
) -> None:
    if teacher not in ("next", "widest"):
        raise UserError(f"model.teacher is '{teacher}'; it is next or widest")
    if judged not in ("all", "widest"):
        raise UserError(f"model.judged is '{judged}'; it is all or widest")
    if distillation < 0 or (distillation > 0 and len(widths) < 2):
        raise UserError(
            f"model.distillation is {distillation} for {len(widths)} width(s); give 0 or more, and 0 for one"
        )
    if judged == "widest" and not distillation and len(widths) > 1:
        raise UserError(
            "model.judged is widest without distillation: nothing trains the other widths; give "
            "model.distillation, or judged: all"
        )
    if decay_steps is not None and decay_steps < 1:
        raise UserError(f"model.decay_steps is {decay_steps}; give at least 1, or null for a constant rate")
