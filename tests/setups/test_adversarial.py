"""The setup against a training loop written out in plain PyTorch."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.augment import Augmentation
from gansharing.errors import UserError
from gansharing.networks import DCGANDiscriminator, DCGANGenerator, Discriminator, Generator
from gansharing.objectives import R1, AdversarialLoss, BinaryCrossEntropy, Hinge, Relativistic
from gansharing.setups import Adversarial
from tests.support import FixedBatches, PlainDiscriminator, quiet_trainer


class PlainGenerator(Generator):
    """No batch statistics: a sum of gradients over parts is the gradient of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.resolution, self.latent_dim = 32, 6
        self.layer = nn.Linear(6, 3 * 32 * 32)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(latent).tanh().view(-1, 3, 32, 32)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999))


def fit(
    root: Path, generator: Generator, discriminator: Discriminator, steps: int = 4, **options: Any
) -> Adversarial:
    torch.manual_seed(7)
    setup = Adversarial(generator, discriminator, optimizer_g=adam, optimizer_d=adam, **options)
    quiet_trainer(root, max_steps=steps).fit(setup, FixedBatches())
    return setup


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        torch.testing.assert_close(x, y, msg=lambda text, name=name: f"{name}: {text}", rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("order", ["dg", "gd"])
def test_equals_a_loop_written_out(tmp_path: Path, order: str) -> None:
    torch.manual_seed(1)
    generator, discriminator = DCGANGenerator(32, 8, 2), DCGANDiscriminator(32, 4, "middle")
    g, d = copy.deepcopy(generator), copy.deepcopy(discriminator)
    fit(tmp_path, generator, discriminator, loss=BinaryCrossEntropy(), order=order)

    torch.manual_seed(7)
    og, od = adam(g.parameters()), adam(d.parameters())
    for batch in list(FixedBatches())[:4]:
        real = batch["image"]
        for player in order:
            z = torch.randn(len(real), 8)
            if player == "d":
                fake = g(z).detach()
                ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
                loss_real = F.binary_cross_entropy_with_logits(d(real), ones)
                loss_fake = F.binary_cross_entropy_with_logits(d(fake), zeros)
                od.zero_grad()
                (loss_real + loss_fake).backward()
                od.step()
            else:
                loss = F.binary_cross_entropy_with_logits(d(g(z)), torch.ones(len(real)))
                og.zero_grad()
                loss.backward()
                og.step()
    assert_same_weights(generator, g)
    assert_same_weights(discriminator, d)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), Hinge()])
def test_accumulating_parts_is_the_same_step(tmp_path: Path, loss: AdversarialLoss) -> None:
    torch.manual_seed(1)
    nets = PlainGenerator(), PlainDiscriminator()
    twins = copy.deepcopy(nets)
    whole = fit(tmp_path, *nets, loss=loss, regularizers=[R1(1.0, 2)])
    parts = fit(tmp_path, *twins, loss=loss, regularizers=[R1(1.0, 2)], accumulate=3)
    assert_same_weights(whole, parts)


def test_global_step_counts_generator_steps(tmp_path: Path) -> None:
    setup = fit(tmp_path, PlainGenerator(), PlainDiscriminator(), steps=3, discriminator_steps=2)
    assert setup.trainer.global_step == 3
    assert setup.batches == 6
    assert setup.images == 6 * 8


def test_the_discriminator_moves_more_often(tmp_path: Path) -> None:
    torch.manual_seed(1)
    nets = PlainGenerator(), PlainDiscriminator()
    steps: list[str] = []

    def counting(name: str) -> Any:
        def build(parameters: Any) -> torch.optim.Optimizer:
            optimizer = adam(parameters)
            optimizer.register_step_post_hook(lambda *_: steps.append(name))
            return optimizer

        return build

    setup = Adversarial(*nets, optimizer_g=counting("g"), optimizer_d=counting("d"), discriminator_steps=3)
    quiet_trainer(tmp_path, max_steps=2).fit(setup, FixedBatches())
    assert "".join(steps) == "dddgdddg"


def test_generator_steps_leave_no_gradient_in_the_discriminator(tmp_path: Path) -> None:
    setup = fit(tmp_path, PlainGenerator(), PlainDiscriminator(), order="gd", steps=1)
    assert all(p.requires_grad for p in setup.discriminator.parameters())
    assert all(p.grad is None for net in setup.networks().values() for p in net.parameters())
    setup._generator_gradients(torch.zeros(4, 3, 32, 32), None, setup.generator.sample_latent(4))
    assert all(p.grad is None for p in setup.discriminator.parameters())
    assert all(p.grad is not None for p in setup.generator.parameters())


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    generator, discriminator = PlainGenerator(), PlainDiscriminator()
    discriminator.layer[1].requires_grad_(False)
    before = discriminator.layer[1].weight.clone()
    fit(tmp_path, generator, discriminator)
    assert torch.equal(discriminator.layer[1].weight, before)
    assert not discriminator.layer[1].weight.requires_grad


def test_relativistic_loss_trains_both(tmp_path: Path) -> None:
    nets = PlainGenerator(), PlainDiscriminator()
    before = copy.deepcopy(nets)
    fit(tmp_path, *nets, loss=Relativistic())
    for net, old in zip(nets, before, strict=True):
        assert any(not torch.equal(p, q) for p, q in zip(net.parameters(), old.parameters(), strict=True))


def test_share_latent_gives_both_players_the_same(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Watching(PlainGenerator):
        def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
            seen.append(latent.detach().clone())
            return super().forward(latent)

    fit(tmp_path, Watching(), PlainDiscriminator(), steps=2, share_latent=True)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_the_augmentation_sees_everything_the_discriminator_sees(tmp_path: Path) -> None:
    class Shift(Augmentation):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x + 100

    class Checking(PlainDiscriminator):
        def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
            assert images.min() > 90
            return super().forward(images)

    augment = Shift()
    fit(tmp_path, PlainGenerator(), Checking(), steps=2, augment=augment, regularizers=[R1(1.0, 1)])
    # Reals and fakes of the discriminator's step, the penalty's reals, the fakes of the generator's step.
    assert augment.calls == 2 * 4


def test_compiled_passes_train_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    nets = PlainGenerator(), PlainDiscriminator()
    twins = copy.deepcopy(nets)
    plain = fit(tmp_path, *nets, steps=3, regularizers=[R1(1.0, 2)])
    compiled = fit(tmp_path, *twins, steps=3, regularizers=[R1(1.0, 2)], compile=True)
    assert_same_weights(plain, compiled)


def test_resolution_mismatch_names_the_mend(tmp_path: Path) -> None:
    class Data:
        resolution = 64

    setup = Adversarial(PlainGenerator(), PlainDiscriminator())
    trainer = quiet_trainer(tmp_path)
    trainer.datamodule = Data()
    setup.trainer = trainer
    with pytest.raises(UserError, match="--model.generator.resolution=64"):
        setup.setup("fit")


def test_wrapped_strategies_are_refused(tmp_path: Path) -> None:
    setup = Adversarial(PlainGenerator(), PlainDiscriminator())
    setup.trainer = quiet_trainer(tmp_path, strategy=DDPStrategy(), devices=2)
    with pytest.raises(UserError, match="ExplicitDDP"):
        setup.setup("fit")


def test_an_optimiser_that_refuses_its_arguments_is_named() -> None:
    setup = Adversarial(
        PlainGenerator(), PlainDiscriminator(), optimizer_d=lambda p: torch.optim.Adam(p, lr=-1.0)
    )
    with pytest.raises(UserError, match="optimizer_d: Invalid learning rate"):
        setup.configure_optimizers()


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("accumulate", [1, 2, 4, 5, 9])
def test_parts_cover_any_batch(labelled: bool, accumulate: int) -> None:
    setup = Adversarial(PlainGenerator(), PlainDiscriminator(), accumulate=accumulate)
    real, latent = torch.arange(5.0), torch.arange(5.0)
    parts = list(setup._parts(real, torch.arange(5) if labelled else None, latent))
    assert len(parts) == min(accumulate, 5)
    assert torch.equal(torch.cat([x for _, x, _, _ in parts]), real)
    assert all(torch.equal(x, z) for _, x, _, z in parts)
    assert sum(share for share, _, _, _ in parts) == pytest.approx(1)
