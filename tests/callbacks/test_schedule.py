"""Weights that join the training later, and a training that ends early."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from gansharing.callbacks import EarlyStop, GeneratorEMA, Resumable, Unfreeze
from gansharing.checkpoints import read_checkpoint, save_network
from gansharing.data import ImageData
from gansharing.errors import UserError
from gansharing.networks import GPGANDiscriminator, GPGANGenerator
from gansharing.setups import Transfer
from gansharing.sharing import AdaFM, Combined, FreezeLower
from tests.cli.program import TINY, run, write_images
from tests.support import quiet_trainer

GAMMA_BETA = "generator.*.parametrizations.weight.original[12]"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("source")
    torch.manual_seed(1)
    save_network(GPGANGenerator(32, 6, base_channels=2), folder / "g.safetensors", "generator")
    save_network(GPGANDiscriminator(32, base_channels=2), folder / "d.safetensors", "discriminator")
    write_images(folder / "images", 12)
    return str(folder / "g.safetensors"), str(folder / "d.safetensors")


def transfer(
    root: Path, pair: tuple[str, str], steps: int, *callbacks: Callback, resume: Path | None = None
) -> Transfer:
    images = ImageData(str(Path(pair[0]).parent / "images"), resolution=32, batch_size=2)
    torch.manual_seed(3)
    setup = Transfer(
        *pair,
        sharing=Combined([AdaFM(["resnet_*.conv_[01].weight"]), FreezeLower(4)]),
        optimizer_g=lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.0, 0.99), eps=1e-20),
    )
    trainer = quiet_trainer(root, max_steps=steps, callbacks=[*callbacks, Resumable(every_n_steps=1)])
    trainer.fit(setup, datamodule=images, ckpt_path=resume)
    return setup


class Watch(Callback):
    """Keeps gamma and beta, and the optimiser's steps for them, after every batch."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.counts: list[set[float]] = []
        self.others: list[set[float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Copy them."""
        modulation = {n: p for n, p in pl_module.generator.named_parameters() if is_modulation(n)}
        self.states.append({name: p.detach().clone() for name, p in modulation.items()})
        own = {id(p) for p in modulation.values()}
        state = trainer.optimizers[0].state
        self.counts.append({float(s["step"]) for p, s in state.items() if id(p) in own})
        self.others.append({float(s["step"]) for p, s in state.items() if id(p) not in own})


def is_modulation(name: str) -> bool:
    return name.endswith(("weight.original1", "weight.original2"))


def test_weights_wait_for_their_step(pair: tuple[str, str], tmp_path: Path) -> None:
    watch = Watch()
    setup = transfer(tmp_path, pair, 5, Unfreeze(3, [GAMMA_BETA]), GeneratorEMA(0.5), watch)
    before, *_, after = watch.states
    assert len(before) == 2 * 24
    for state in watch.states[:3]:  # the steps 0, 1 and 2
        for name, value in state.items():
            assert torch.equal(value, torch.full_like(value, float(name.endswith("original1")))), name
    # Adam knows nothing of them before, and its bias correction begins at their own first step.
    assert watch.counts == [set(), set(), set(), {1.0}, {2.0}]
    assert watch.others == [{1.0}, {2.0}, {3.0}, {4.0}, {5.0}]
    first = watch.states[3]
    # With beta1 = 0 and no epsilon the first step is the rate times the sign of the gradient; it
    # would be twice the rate, were the bias corrected for four steps.
    for name, value in first.items():
        moved = (value - before[name]).abs()
        assert moved.median().item() == pytest.approx(1e-3, rel=0.05), name
        assert moved.max().item() == pytest.approx(1e-3, rel=1e-3), name
    assert all(not torch.equal(after[name], first[name]) for name in after)
    assert all(p.requires_grad for n, p in setup.generator.named_parameters() if is_modulation(n))


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_resuming_on_either_side_of_the_step_is_bit_identical(
    cut: int, pair: tuple[str, str], tmp_path: Path
) -> None:
    def last(name: str, steps: int, resume: str | None = None) -> dict[str, Any]:
        start = tmp_path / resume / "checkpoints/last.ckpt" if resume else None
        callbacks = (Unfreeze(3, [GAMMA_BETA]), EarlyStop(0.0, 4))
        transfer(tmp_path / name, pair, steps, *callbacks, resume=start)
        return read_checkpoint(tmp_path / name / "checkpoints/last.ckpt")

    whole = last("whole", 6)
    last("cut", cut)
    resumed = last("resumed", 6, "cut")
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    steps = [[float(s["step"]) for s in c["optimizer_states"][0]["state"].values()] for c in (whole, resumed)]
    assert steps[0] == steps[1]
    assert [c["callbacks"]["EarlyStop"]["count"] for c in (whole, resumed)] == [2, 2]
    assert torch.equal(*(c["callbacks"]["EarlyStop"]["sum"] for c in (whole, resumed)))


def test_from_step_0_on_nothing_waits(pair: tuple[str, str], tmp_path: Path) -> None:
    watch = Watch()
    transfer(tmp_path, pair, 1, Unfreeze(0, [GAMMA_BETA]), watch)
    assert watch.counts == [{1.0}]


def test_a_pattern_that_names_nothing_trained(pair: tuple[str, str], tmp_path: Path) -> None:
    frozen = "generator.resnet_5*.original0"
    with pytest.raises(UserError, match=r"no trained weight is named 'generator.resnet_5.*original0'"):
        transfer(tmp_path, pair, 1, Unfreeze(1, [GAMMA_BETA, frozen]))
    with pytest.raises(ValueError, match="at_step is -1"):
        Unfreeze(-1, [GAMMA_BETA])


class Losses(Callback):
    """Keeps the discriminator's loss of every batch, and what is logged of its mean."""

    def __init__(self) -> None:
        self.own: list[float] = []
        self.means: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Copy it."""
        self.own.append(outputs["loss_d"].item())
        if "loss_d_mean" in trainer.callback_metrics:
            self.means.append(trainer.callback_metrics["loss_d_mean"].item())


def test_stops_at_the_end_of_the_first_window_below_the_limit(pair: tuple[str, str], tmp_path: Path) -> None:
    watch = Losses()
    transfer(tmp_path / "whole", pair, 9, EarlyStop(0.0, 3), watch)
    means = [sum(watch.own[first : first + 3]) / 3 for first in (0, 3, 6)]
    assert sorted(set(watch.means)) == pytest.approx(sorted(means))
    assert means[1] < means[0]  # a discriminator that learns
    limit = (means[0] + means[1]) / 2
    watch = Losses()
    transfer(tmp_path / "short", pair, 9, EarlyStop(limit, 3), watch)
    assert len(watch.own) == 6
    assert read_checkpoint(tmp_path / "short/checkpoints/last.ckpt")["global_step"] == 6
    with pytest.raises(ValueError, match="window is 0"):
        EarlyStop(0.1, 0)


def test_the_last_checkpoint_is_of_the_step_that_stopped(pair: tuple[str, str], tmp_path: Path) -> None:
    config = tmp_path / "stop.yaml"
    config.write_text(
        "trainer:\n  callbacks:\n    - class_path: gansharing.callbacks.EarlyStop\n"
        "      init_args: {below: 99, window: 3}\n"
    )
    done = run(
        *("fit", "--config", TINY, "--config", config, "--model=Transfer", "--model.source", pair[0]),
        *("--model.source_discriminator", pair[1], "--data.path", write_images(tmp_path / "images", 12)),
        *("--trainer.max_steps=50", f"--trainer.default_root_dir={tmp_path / 'run'}"),
    )
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["status"], results["steps"]) == ("finished", 3)
    assert results["history"][-1]["step"] == 3  # scored after the last step
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 3
    assert "loss_d_mean" in (tmp_path / "run/csv/version_0/metrics.csv").read_text()
