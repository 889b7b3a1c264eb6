"""The average against its formula written out, and where it is used."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.checkpoints import load, read_checkpoint
from gansharing.networks import DCGANDiscriminator, DCGANGenerator
from gansharing.setups import Adversarial
from gansharing.setups.sampling import SampleIndices
from tests.support import FixedBatches, quiet_trainer

State = dict[str, Tensor]


class Watch(Callback):
    """Keeps the live generator after each of its steps; listed first, so before the average sees it."""

    def __init__(self) -> None:
        self.live: list[State] = []
        self.step = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            self.live.append(copy.deepcopy(pl_module.generator.state_dict()))


def train(root: Path, *callbacks: Callback, steps: int = 6, **options: Any) -> Adversarial:
    torch.manual_seed(2)
    setup = Adversarial(
        DCGANGenerator(32, 6, 2),
        DCGANDiscriminator(32, 2),
        optimizer_g=lambda p: torch.optim.Adam(p, lr=0.05),  # far enough to tell the averages apart
        **options,
    )
    quiet_trainer(root, max_steps=steps, callbacks=list(callbacks)).fit(setup, FixedBatches())
    return setup


def decay_of_stylegan(decay: float, rampup: float | None, step: int) -> float:
    """StyleGAN2-ADA's training loop in its own terms, a batch of one image a step."""
    if decay == 0 or rampup is None:
        return decay
    half_life = math.log(0.5) / math.log(decay)
    return 0.5 ** (1 / max(min(half_life, step * rampup), 1e-8))


def written_out(live: list[State], decay: float, rampup: float | None, buffers: bool) -> State:
    average = {key: value.double() for key, value in live[0].items()}
    for step, state in enumerate(live[1:], start=2):
        beta = decay_of_stylegan(decay, rampup, step)
        for key, value in state.items():
            buffer = "running" in key or "tracked" in key
            if not value.is_floating_point() or (buffer and not buffers):
                average[key] = value.double()
            else:
                average[key] = beta * average[key] + (1 - beta) * value.double()
    return average


@pytest.mark.parametrize("rampup", [None, 0.5])
@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("discriminator_steps", [1, 2])
def test_average_is_the_formula(
    tmp_path: Path, rampup: float | None, buffers: bool, discriminator_steps: int
) -> None:
    watch = Watch()
    ema = GeneratorEMA(0.8, rampup, buffers)
    setup = train(tmp_path, watch, ema, discriminator_steps=discriminator_steps)
    assert len(watch.live) == 6
    expected = written_out(watch.live, 0.8, rampup, buffers)
    # Training ends with the averaged weights in the module.
    for key, value in setup.generator.state_dict().items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-4, atol=1e-6)


def test_the_rampup_shortens_the_early_memory() -> None:
    ema = GeneratorEMA(0.999, 0.05)
    assert ema.decay_at(20) == pytest.approx(0.5)  # half-life 5 % of 20 steps: one step
    assert ema.decay_at(200) == pytest.approx(0.5**0.1)
    assert ema.decay_at(10**6) == pytest.approx(0.999)


def test_no_decay_is_the_live_network(tmp_path: Path) -> None:
    watch = Watch()
    setup = train(tmp_path, watch, GeneratorEMA(0.0))
    for key, value in setup.generator.state_dict().items():
        assert torch.equal(value, watch.live[-1][key])


def test_validation_sees_the_average_and_leaves_the_live_weights(tmp_path: Path) -> None:
    class Look(Callback):
        seen: list[tuple[State, State, State]] = []

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            self.before = copy.deepcopy(pl_module.generator.state_dict())

        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.during = copy.deepcopy(pl_module.generator.state_dict())

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            self.seen.append((self.before, self.during, copy.deepcopy(pl_module.generator.state_dict())))

    watch, look = Watch(), Look()
    torch.manual_seed(2)
    setup = Adversarial(DCGANGenerator(32, 6, 2), DCGANDiscriminator(32, 2))
    trainer = quiet_trainer(
        tmp_path,
        max_steps=6,
        callbacks=[watch, GeneratorEMA(0.8, None), look],
        limit_val_batches=1,
        val_check_interval=3,
        check_val_every_n_epoch=None,
    )
    trainer.fit(setup, FixedBatches(), SampleIndices(4, 4))
    assert len(look.seen) == 2
    for number, (before, during, after) in enumerate(look.seen):
        live = watch.live[3 * number + 2]
        average = written_out(watch.live[: 3 * number + 3], 0.8, None, True)
        for key in live:
            assert torch.equal(before[key], live[key]) and torch.equal(after[key], live[key])
            torch.testing.assert_close(during[key].double(), average[key], rtol=1e-4, atol=1e-6)


def test_a_checkpoint_holds_both(tmp_path: Path) -> None:
    watch = Watch()
    setup = train(tmp_path, watch, GeneratorEMA(0.8), Resumable(every_n_steps=100))
    path = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    average = written_out(watch.live, 0.8, 0.05, True)
    loaded = load(path).state_dict()
    for key, live in watch.live[-1].items():
        assert torch.equal(checkpoint["live_generator"][key], live)
        torch.testing.assert_close(loaded[key].double(), average[key], rtol=1e-4, atol=1e-6)
    assert not torch.equal(loaded["to_rgb.weight"], watch.live[-1]["to_rgb.weight"])
    assert checkpoint["averaging_count"] == 6
    assert torch.equal(setup.generator.to_rgb.weight, loaded["to_rgb.weight"])


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_that_is_none(decay: float) -> None:
    with pytest.raises(ValueError, match="ema.decay"):
        GeneratorEMA(decay)
