"""A discriminator that also learns from the real images themselves (Liu et al. 2021, section 3.2)."""

from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks import Discriminator, Generator
from gansharing.objectives import AdversarialLoss, Hinge
from gansharing.objectives.self_supervision import SelfSupervision, TrainingImages
from gansharing.setups.adversarial import Adversarial
from gansharing.setups.stepping import Images


class SelfSupervised(Adversarial):
    """Train a generator, such as FastGAN's, against a discriminator with tasks of its own.

    The tasks see real images only, in the pass that scores them. A generator with several heads shows all of
    them to the discriminator, each augmented by draws of its own. Fakes and the maps they come from are
    computed once for both steps: the generator learns from the very images, augmented once, that the
    discriminator has just learned from. This is the order of the original's code; without ``share_fakes`` the
    generator's step makes its own.

    Args:
        generator: The generator.
        discriminator: One that shows what it sees, by ``encode`` and ``score``: ``FastGANDiscriminator``.
        tasks: What the discriminator learns on real images beside telling them from fakes; none is the
            baseline of the paper's Table 2.
        loss: What the two players minimise.
        optimizer_d: Builds the optimiser of the discriminator and of the tasks' own layers.
        share_fakes: See ``Adversarial``.
        options: As for ``Adversarial``.

    Raises:
        UserError: The discriminator does not show what it sees, or cannot do a task.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        tasks: list[SelfSupervision] | None = None,
        loss: AdversarialLoss = Hinge(0.2),  # noqa: B008  (stateless; shows up in --print_config)
        optimizer_d: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        share_fakes: bool = True,
        **options: Any,
    ) -> None:
        if not (hasattr(discriminator, "encode") and hasattr(discriminator, "score")):
            raise UserError(
                f"model.discriminator {type(discriminator).__name__} does not show what it sees in an image; "
                "SelfSupervised needs one such as FastGANDiscriminator"
            )
        super().__init__(
            generator, discriminator, loss, optimizer_d=optimizer_d, share_fakes=share_fakes, **options
        )
        self.tasks = nn.ModuleList(tasks or ())
        self._prepared = False
        self._index: Tensor | None = None
        self._taught = (nn.ModuleList([discriminator, self.tasks]),)  # in a tuple: not registered again
        applied = (getattr(generator, "heads", generator), discriminator, cast(Any, discriminator).encode)
        self._passes = tuple(map(torch.compile, applied)) if options.get("compile") else applied

    def setup(self, stage: str) -> None:
        """Let the tasks make the layers that depend on the training set.

        Raises:
            UserError: As :meth:`Adversarial.setup`; or a task does not fit the discriminator or the data.
        """
        super().setup(stage)
        images = getattr(getattr(self.trainer, "datamodule", None), "train_set", None)
        if self._prepared or (images is None and stage != "fit"):
            return
        sizes = getattr(images, "sizes", None)
        about = TrainingImages(
            0 if images is None else len(images), None if sizes is None else torch.as_tensor(sizes)
        )
        for task in self.tasks:
            cast(SelfSupervision, task).prepare(cast(Any, self.discriminator), about)
        self._prepared = True

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As :meth:`Adversarial.training_step`; a batch's ``index`` ``(N,)`` numbers its images."""
        self._index = batch.get("index")
        return super().training_step(batch, batch_idx)

    def _judge(self) -> nn.Module:
        return self._taught[0]

    def _generate(self, latent: Tensor, labels: Tensor | None) -> Images:
        if hasattr(self.generator, "heads"):
            return self._passes[0](latent)
        return super()._generate(latent, labels)

    def _study(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        maps = self._passes[2](images)
        index = None
        if self._index is not None:  # parts of a batch come in its order
            index, self._index = self._index[: len(images)], self._index[len(images) :]
        learned = {}
        for task in self.tasks:
            learned[f"loss_{cast(Any, task).name}"] = task(self.discriminator, images, maps, index)
        return cast(Any, self.discriminator).score(maps), learned
