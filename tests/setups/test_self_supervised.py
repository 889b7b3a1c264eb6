"""FastGAN's training against a loop written out, and every task of Table 6."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gansharing.augment import Augmentation, DiffAugment
from gansharing.callbacks import Resumable
from gansharing.checkpoints import load
from gansharing.data import CachedImages, ImageData
from gansharing.errors import UserError
from gansharing.metrics.perceptual import build_distance
from gansharing.metrics.reconstruction import PerceptualError
from gansharing.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    Discriminator,
    FastGANDiscriminator,
    FastGANGenerator,
    Generator,
)
from gansharing.objectives import (
    R1,
    AbsoluteError,
    AspectRatio,
    AutoEncoding,
    Hinge,
    InstanceClasses,
    Relativistic,
    SquaredError,
)
from gansharing.objectives.self_supervision import TrainingImages
from gansharing.setups import SelfSupervised
from tests.setups.test_adversarial import PlainDiscriminator, PlainGenerator, adam, assert_same_weights
from tests.setups.test_adversarial import fit as adversarial
from tests.support import FixedBatches, quiet_trainer


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-2)


def networks(**options: Any) -> tuple[FastGANGenerator, FastGANDiscriminator]:
    torch.manual_seed(1)
    return FastGANGenerator(32, 8, 4), FastGANDiscriminator(32, 4, **options)


def fit(
    root: Path, g: Generator, d: Discriminator, steps: int = 3, precision: Any = "32-true", **options: Any
) -> SelfSupervised:
    torch.manual_seed(7)
    setup = SelfSupervised(g, d, optimizer_g=sgd, optimizer_d=sgd, **options)
    trainer = quiet_trainer(root, max_steps=steps, precision=precision)
    trainer.fit(setup, FixedBatches(batch_size=4))
    return setup


@pytest.fixture
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_equals_the_originals_iteration_written_out(tmp_path: Path, in_double: None) -> None:
    nets = networks()
    g, d = copy.deepcopy(nets)
    options: dict[str, Any] = {"tasks": [AutoEncoding(AbsoluteError(), 4.0)], "precision": "64-true"}
    fit(tmp_path, *nets, augment=DiffAugment("color,translation"), **options)

    torch.manual_seed(7)
    augment = DiffAugment("color,translation")
    og, od = sgd(g.parameters()), sgd(d.parameters())

    def margins() -> Tensor:
        return 0.8 + 0.2 * torch.rand(4, 50)

    for batch in list(FixedBatches(batch_size=4))[:3]:
        made = g.heads(torch.randn(4, 8))
        big, small = augment(made.image), augment(made.small)
        real = augment(batch["image"].double())
        quadrant = int(torch.randint(4, ()))
        scores, rebuilt = d.score_and_reconstruct(real, quadrant)
        part = real[:, :, 16 * (quadrant // 2) :][:, :, :16, 16 * (quadrant % 2) :][..., :16]
        half = real[:, :, ::2, ::2]
        # The original adds up over its batch, here of 4.
        error = sum(
            (image - wanted).abs().mean((1, 2, 3)).sum()
            for image, wanted in ((rebuilt.whole, half), (rebuilt.small, half), (rebuilt.part, part))
        )
        od.zero_grad()
        (F.relu(margins() - scores).mean() + error).backward()
        F.relu(margins() + d((big.detach(), small.detach()))).mean().backward()
        od.step()
        og.zero_grad()
        (-d((big, small)).mean()).backward()
        og.step()
    for mine, written_out in zip(nets, (g, d), strict=True):
        torch.testing.assert_close(
            dict(mine.state_dict()), dict(written_out.state_dict()), rtol=1e-6, atol=1e-6
        )


def test_fakes_are_generated_once_for_both_steps(tmp_path: Path) -> None:
    class Counting(Augmentation):
        shapes: list[tuple[int, ...]] = []

        def forward(self, images: Tensor) -> Tensor:
            self.shapes.append(tuple(images.shape[:1] + images.shape[2:]))
            return images

    made: list[bool] = []
    for share, passes in ((True, 1), (False, 2)):
        g, d = networks()
        g.to_image.register_forward_hook(lambda *_: made.append(torch.is_grad_enabled()))
        made.clear()
        Counting.shapes.clear()
        fit(tmp_path, g, d, steps=1, share_fakes=share, accumulate=2, augment=Counting())
        assert len(made) == 2 * passes and made[-1]
        fakes = [(2, 32, 32), (2, 16, 16)]
        assert sorted(Counting.shapes) == sorted(2 * (passes * fakes + [(2, 32, 32)]))


def test_shared_fakes_in_parts_are_the_whole_step(tmp_path: Path) -> None:
    torch.manual_seed(1)
    nets = PlainGenerator(), PlainDiscriminator()  # no batch statistics
    twins = copy.deepcopy(nets)
    for pair, parts in ((nets, 1), (twins, 3)):
        adversarial(tmp_path, *pair, loss=Hinge(), share_fakes=True, accumulate=parts)
    for one, other in zip(nets, twins, strict=True):
        assert_same_weights(one, other)


def photographs(sizes: list[tuple[int, int]]) -> CachedImages:
    pixels = np.random.default_rng(0).integers(0, 256, (len(sizes), 32, 32, 3), dtype=np.uint8)
    names = [f"{number}.png" for number in range(len(sizes))]
    return CachedImages(pixels, np.zeros(len(sizes), np.int64), names, "f", sizes=np.array(sizes))


class Photographs(ImageData):
    """Images of two shapes, without a folder."""

    def prepare_data(self) -> None: ...

    def setup(self, stage: str = "fit") -> None:
        self._loader, self._restored = None, {}
        self.train_set = self.reference = photographs([(64, 32), (32, 64)] * 4)


TASKS: dict[str, Any] = {
    "none": [],
    "instances": [InstanceClasses],
    "aspect_ratio": [AspectRatio],
    "autoencoding": [lambda: AutoEncoding(SquaredError())],
    "instances, aspect_ratio, autoencoding": [InstanceClasses, AspectRatio, AutoEncoding],
}


@pytest.mark.parametrize("names", TASKS)
def test_a_task_is_learned_with_its_own_layer_and_resumed(names: str, tmp_path: Path) -> None:
    def run(steps: int, **options: Any) -> tuple[SelfSupervised, dict[str, Tensor]]:
        torch.manual_seed(3)
        setup = SelfSupervised(*networks(), tasks=[make() for make in TASKS[names]], optimizer_d=adam)
        trainer = quiet_trainer(tmp_path, max_steps=steps, callbacks=[Resumable(every_n_steps=2)])
        trainer.fit(setup, Photographs(resolution=32, batch_size=4), **options)
        return setup, {name: value.clone() for name, value in trainer.callback_metrics.items()}

    setup, losses = run(4)
    wanted = {f"loss_{name}" for name in names.split(", ") if name != "none"}
    assert {name for name in losses if name.startswith("loss_")} == {
        *("loss_d", "loss_d_real", "loss_d_fake", "loss_g"),
        *wanted,
    }
    assert isinstance(load(tmp_path, "discriminator"), FastGANDiscriminator)
    again, _ = run(6, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert again.batches == 6
    for task, other in zip(setup.tasks, again.tasks, strict=True):
        for one, later in zip(task.parameters(), other.parameters(), strict=True):
            assert one.shape == later.shape and not torch.equal(one, later)
            assert (one - later).abs().max() < 0.1  # went on from there


class Vectors:
    """Maps whose features are given."""

    features = torch.tensor([[1.0, 2.0], [3.0, -1.0]])


def linear(x: Tensor, layer: Any) -> Tensor:
    return x @ layer.weight.T + layer.bias


def test_losses_of_the_tasks_are_naive_formulas() -> None:
    encoder = FastGANDiscriminator(32, 4)
    encoder.feature_channels = 2
    maps, index, none = Vectors(), torch.tensor([2, 0]), torch.zeros(2, 3, 32, 32)
    classes = InstanceClasses(weight=3.0)
    classes.prepare(encoder, TrainingImages(5))
    logits = linear(maps.features, classes.head)
    expected = -3 * sum(logits[i].softmax(0)[k].log() for i, k in enumerate((2, 0))) / 2
    torch.testing.assert_close(classes(encoder, none, maps, index), expected)
    shape = AspectRatio(weight=2.0)
    shape.prepare(encoder, TrainingImages(3, torch.tensor([[64, 32], [10, 10], [32, 64]])))
    told = linear(maps.features, shape.head).flatten()
    expected = ((told[0] + math.log(2)) ** 2 + (told[1] - math.log(2)) ** 2) / 2
    torch.testing.assert_close(shape(encoder, none, maps, index), 2 * expected)


@pytest.mark.parametrize("distance", [AbsoluteError(), SquaredError(), PerceptualError()])
def test_reconstruction_weighs_the_same_in_any_batch_and_moves_the_decoders_alone(distance: Any) -> None:
    wanted, rebuilt = torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32, requires_grad=True)
    values = distance(rebuilt, wanted)
    assert values.shape == (3,) and (values > 0).all()
    torch.testing.assert_close(distance(rebuilt[1:2], wanted[1:2])[0], values[1], rtol=1e-4, atol=1e-6)
    assert distance(wanted, wanted).abs().max() < 1e-6
    (slope,) = torch.autograd.grad(values.mean(), rebuilt)
    assert slope.isfinite().all() and slope.abs().max() > 0
    step = (rebuilt - 1e-2 * slope / slope.abs().max()).detach()
    assert distance(step, wanted).mean() < values.mean()


def test_the_perceptual_error_is_the_distance_and_is_no_part_of_the_training(tmp_path: Path) -> None:
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(PerceptualError()(a, b), build_distance()(a, b))
    setup = SelfSupervised(*networks(), tasks=[AutoEncoding(PerceptualError())])
    assert not any("distance" in name for name in setup.state_dict())
    assert {id(p) for p in setup._judge().parameters()} == {id(p) for p in setup.discriminator.parameters()}


@pytest.mark.parametrize("tasks", ["none", "autoencoding"])
def test_other_losses_and_penalties_go_with_it(tasks: str, tmp_path: Path) -> None:
    made = [make() for make in TASKS[tasks]]
    options: dict[str, Any] = {"regularizers": [R1(1.0, 1)], "order": "gd", "tasks": made}
    setup = fit(tmp_path, *networks(), 2, loss=Relativistic(), **options)
    assert setup.trainer.callback_metrics.keys() >= {"loss_d", "loss_g", "r1"}
    assert all(torch.isfinite(p).all() for p in setup.parameters())


def test_a_generator_of_one_head_can_play(tmp_path: Path) -> None:
    g = DCGANGenerator(32, 8, 2)
    before = copy.deepcopy(g)
    fit(tmp_path, g, FastGANDiscriminator(32, 4), steps=1)
    assert any(not torch.equal(p, q) for p, q in zip(g.parameters(), before.parameters(), strict=True))


def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="FastGANDiscriminator"):
        SelfSupervised(DCGANGenerator(32, 8, 2), DCGANDiscriminator(32, 4))
    with pytest.raises(UserError, match="decoders to true"):
        fit(tmp_path, *networks(decoders=False), tasks=[AutoEncoding()])
    with pytest.raises(UserError, match="do not keep"):
        fit(tmp_path, *networks(), tasks=[AspectRatio()])
    with pytest.raises(UserError, match="'index'"):
        fit(tmp_path, *networks(), tasks=[InstanceClasses()])
    with pytest.raises(UserError, match="same shape"):
        AspectRatio().prepare(networks()[1], TrainingImages(2, torch.tensor([[4, 2], [8, 4]])))
    with pytest.raises(UserError, match="weight of AutoEncoding is 0"):
        AutoEncoding(weight=0)
