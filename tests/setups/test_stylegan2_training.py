"""StyleGAN2's training: lazy steps against a loop written out, ADA in the loop, resume, divergence."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.augment import ADA, Augmentation
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.checkpoints import read_checkpoint
from gansharing.data import ImageData
from gansharing.errors import UserError
from gansharing.networks import DCGANGenerator, Generator
from gansharing.networks.stylegan2 import StyleGAN2Generator
from gansharing.networks.stylegan2_discriminator import StyleGAN2Discriminator
from gansharing.objectives import R1, R2, PathLength
from gansharing.setups import Adversarial
from tests.cli.program import write_images
from tests.support import FixedBatches, PlainDiscriminator, quiet_trainer


class Styled(Generator):
    """Styles and synthesis in their least form."""

    def __init__(self) -> None:
        super().__init__()
        self.resolution, self.latent_dim = 32, 4
        self.mapping, self.image = nn.Linear(4, 10), nn.Linear(10, 3 * 32 * 32)
        self.unused_by_path_length = nn.Parameter(torch.zeros(1))

    def style(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.mapping(latent).tanh().view(-1, 2, 5)

    def synthesis(self, ws: Tensor) -> Tensor:
        return self.image(ws.flatten(1)).sin().view(-1, 3, 32, 32) + self.unused_by_path_length

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesis(self.style(latent))


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=2e-3, betas=(0.0, 0.99))


def test_equals_the_loop_of_stylegan2_written_out(tmp_path: Path) -> None:
    torch.manual_seed(1)
    nets = Styled(), PlainDiscriminator()
    g, d = copy.deepcopy(nets)
    torch.manual_seed(7)
    setup = Adversarial(
        *nets,
        regularizers=[R1(5.0, 3)],
        generator_regularizers=[PathLength(every=2)],
        optimizer_g=adam,
        optimizer_d=adam,
    )
    trainer = quiet_trainer(tmp_path, max_steps=5)
    trainer.fit(setup, FixedBatches())
    assert trainer.global_step == 5  # though G made 3 steps more, and D 2

    torch.manual_seed(7)
    og = torch.optim.Adam(g.parameters(), lr=2e-3 * 2 / 3, betas=(0.0, 0.99 ** (2 / 3)))
    od = torch.optim.Adam(d.parameters(), lr=2e-3 * 3 / 4, betas=(0.0, 0.99 ** (3 / 4)))
    pl_mean = torch.zeros(())

    def step(optimizer: torch.optim.Optimizer, net: nn.Module, loss: Tensor) -> None:
        optimizer.zero_grad()
        # The official code adds zero times what a loss leaves out, so that every gradient exists.
        (loss + sum(0 * p.sum() for p in net.parameters())).backward()
        optimizer.step()

    for number, batch in enumerate(FixedBatches()):
        real = batch["image"]
        fake = g(torch.randn(8, 4)).detach()
        step(od, d, F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean())
        if number % 3 == 0:
            x = real.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
            step(od, d, 3 * 5.0 / 2 * gradient.square().sum((1, 2, 3)).mean())
        step(og, g, F.softplus(-d(g(torch.randn(8, 4)))).mean())
        if number % 2 == 0:
            ws = g.style(torch.randn(8, 4)[:4])
            image = g.synthesis(ws)
            noise = torch.randn(4, 3, 32, 32) / 32
            (gradient,) = torch.autograd.grad((image * noise).sum(), ws, create_graph=True)
            lengths = gradient.square().sum(2).mean(1).sqrt()
            mean = pl_mean + 0.01 * (lengths.mean() - pl_mean)
            pl_mean = mean.detach()
            step(og, g, 2 * 2.0 * (lengths - mean).square().mean())
    for net, twin in zip(nets, (g, d), strict=True):
        for (name, x), y in zip(net.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
    torch.testing.assert_close(setup.generator_regularizers[0].pl_mean, pl_mean)
    for index, twin in ((0, og), (1, od)):
        ours = trainer.optimizers[index].state_dict()["state"]
        for mine, theirs in zip(ours.values(), twin.state_dict()["state"].values(), strict=True):
            assert mine["step"] == theirs["step"] == (8 if index == 0 else 7)
            torch.testing.assert_close(mine["exp_avg_sq"], theirs["exp_avg_sq"], rtol=1e-3, atol=1e-9)


def test_penalties_due_at_once_share_a_step(tmp_path: Path) -> None:
    steps: list[str] = []

    def counting(name: str) -> Any:
        def build(parameters: Any) -> torch.optim.Optimizer:
            optimizer = adam(parameters)
            optimizer.register_step_post_hook(lambda *_: steps.append(name))
            return optimizer

        return build

    setup = Adversarial(
        Styled(),
        PlainDiscriminator(),
        regularizers=[R1(1.0, 2), R2(1.0, 2), R2(1.0, 1)],
        generator_regularizers=[PathLength(every=4), PathLength(every=1)],
        optimizer_g=counting("g"),
        optimizer_d=counting("d"),
    )
    quiet_trainer(tmp_path, max_steps=5).fit(setup, FixedBatches())
    assert "".join(steps) == "ddgg" + "dg" + "ddg" + "dg" + "ddgg"


def test_penalties_look_through_the_augmentation(tmp_path: Path) -> None:
    class Triple(Augmentation):
        def forward(self, images: Tensor) -> Tensor:
            return 3 * images

    def penalty(augment: Augmentation | None, scale: float) -> float:
        torch.manual_seed(4)
        scorer = PlainDiscriminator()
        scorer.layer = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 1))
        setup = Adversarial(
            Styled(), scorer, regularizers=[R1(1.0, 1)], augment=augment, optimizer_d=lambda p: adam(p)
        )
        losses: dict[str, Tensor] = {}
        setup._backward = lambda loss: loss.detach()  # type: ignore[method-assign]
        real = scale * torch.randn(2, 3, 32, 32)
        setup._penalise_scores(setup.regularizers, losses, 1.0, real, None, real)
        return losses["r1"].item()

    # The gradient of D(3 x) in x is three times the one at 3 x: the images' own scale is what counts.
    assert penalty(Triple(), 1.0) == pytest.approx(9 * penalty(None, 1.0), rel=1e-5)


def stylegan2(augment: Augmentation | None = None) -> Adversarial:
    torch.manual_seed(3)
    return Adversarial(
        StyleGAN2Generator(32, 8, 8, mapping_layers=2, channel_base=128, channel_max=8, mixing=0.9),
        StyleGAN2Discriminator(32, channel_base=128, channel_max=8, group_size=4),
        regularizers=[R1(1.0, 3)],
        generator_regularizers=[PathLength(every=2)],
        augment=augment,
        optimizer_g=adam,
        optimizer_d=adam,
    )


class KeepAll(Callback):
    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        last = Resumable.path(trainer)
        if last.exists():
            shutil.copy(last, last.parent / f"{trainer.global_step}.ckpt")


def flat(value: Any, where: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{where}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f"{where}.{key}").items()}
    return {where: value}


def test_resuming_from_every_step_is_bit_identical(tmp_path: Path) -> None:
    steps, folder = 7, write_images(tmp_path / "images", count=18)

    def run(root: Path, resume: Path | None = None) -> dict[str, Any]:
        callbacks = [GeneratorEMA(0.9, use_buffers=False), Resumable(every_n_steps=1), KeepAll()]
        setup = stylegan2(ADA(target=-0.9, kimg=0.1))
        trainer = quiet_trainer(root, max_steps=steps, callbacks=callbacks)
        data = ImageData(str(folder), resolution=32, batch_size=4, flip=True)
        trainer.fit(setup, datamodule=data, ckpt_path=str(resume) if resume else None)
        content = read_checkpoint(root / "checkpoints/last.ckpt")
        keys = ("state_dict", "live_generator", "optimizer_states", "clock", "random_states", "global_step")
        return flat({key: content[key] for key in keys})

    whole = run(tmp_path / "whole")
    assert whole[".state_dict.augment.p"] > 0
    assert whole[".state_dict.generator_regularizers.0.pl_mean"] > 0
    assert whole[".global_step"] == steps
    for step in range(1, steps):
        resumed = run(tmp_path / f"from{step}", tmp_path / f"whole/checkpoints/{step}.ckpt")
        assert resumed.keys() == whole.keys()
        for key, value in whole.items():
            other = resumed[key]
            same = torch.equal(value, other) if isinstance(value, Tensor) else value == other
            assert same, f"from {step}: {key}"


def test_the_average_copies_buffers(tmp_path: Path) -> None:
    setup = stylegan2()
    live: dict[str, Tensor] = {}

    class Look(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            live.update(copy.deepcopy(pl_module.generator.state_dict()))

    trainer = quiet_trainer(
        tmp_path, max_steps=3, callbacks=[Look(), GeneratorEMA(0.9, rampup=None, use_buffers=False)]
    )
    trainer.fit(setup, FixedBatches(batch_size=4))
    averaged = setup.generator.state_dict()
    assert torch.equal(averaged["mapping.w_avg"], live["mapping.w_avg"])
    assert not torch.equal(averaged["mapping.fc0.weight"], live["mapping.fc0.weight"])


def test_ada_rises_where_the_discriminator_overfits(tmp_path: Path) -> None:
    class Sure(PlainDiscriminator):
        def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
            return super().forward(images) * 0 + 1

    class Watch(Callback):
        way: list[float] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.way.append(trainer.callback_metrics["ada_p"].item())

    watch = Watch()
    setup = Adversarial(Styled(), Sure(), augment=ADA(kimg=1.0))
    quiet_trainer(tmp_path, max_steps=8, callbacks=[watch]).fit(setup, FixedBatches(count=8))
    assert watch.way == pytest.approx([0, 0, 0, 0.032, 0.032, 0.032, 0.032, 0.064])


def test_a_lazy_penalty_is_logged_with_its_last_value(tmp_path: Path) -> None:
    class Watch(Callback):
        seen: list[dict[str, float]] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            self.seen.append({k: float(v) for k, v in trainer.callback_metrics.items()})
            assert ("r1" in outputs) == (trainer.global_step in (1, 4))

    watch = Watch()
    quiet_trainer(tmp_path, max_steps=5, callbacks=[watch]).fit(stylegan2(), FixedBatches(batch_size=4))
    r1 = [row["r1"] for row in watch.seen]
    assert r1[0] == r1[1] == r1[2] != r1[3] == r1[4]


class Poison(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            nn.init.constant_(pl_module.generator.image.weight, float("nan"))


def test_a_diverged_loss_is_one_line_and_the_checkpoint_stays(tmp_path: Path) -> None:
    setup = Adversarial(Styled(), PlainDiscriminator(), optimizer_g=adam, optimizer_d=adam)
    trainer = quiet_trainer(
        tmp_path,
        max_steps=20,
        log_every_n_steps=3,
        callbacks=[Poison(), Resumable(every_n_steps=4)],
    )
    with pytest.raises(UserError, match=r"diverged at step 6: .*loss_g is nan") as raised:
        trainer.fit(setup, FixedBatches())
    assert "\n" not in str(raised.value)
    kept = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    assert kept["global_step"] == 4
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_path_length_asks_for_styles_before_anything_starts() -> None:
    with pytest.raises(UserError, match="DCGANGenerator has none"):
        Adversarial(DCGANGenerator(32), PlainDiscriminator(), generator_regularizers=[PathLength()])
