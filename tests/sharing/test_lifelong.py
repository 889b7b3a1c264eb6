"""A sequence of tasks on one frozen base: no task changes what an earlier one generates."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gansharing import load
from gansharing.callbacks import GeneratorEMA, Resumable
from gansharing.checkpoints import read_delta, save_network
from gansharing.checkpoints.deltas import export_delta
from gansharing.checkpoints.gan_stability import MEMORY, TRANSFER
from gansharing.data import ImageData
from gansharing.networks import Generator, GPGANDiscriminator, GPGANGenerator, SmallHeadGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.setups import Transfer
from gansharing.sharing import FreezeLower, Sharing, apply_delta
from tests.cli.program import write_images
from tests.support import quiet_trainer

SEEDS = [3, 1, 4, 1, 5]
TASKS = ["one", "two", "three"]


def smallhead_on(source: GPGANGenerator) -> SmallHeadGenerator:
    """An untrained head before the general part of ``source``."""
    general = ("resnet_3", "resnet_4", "resnet_5", "conv_img")
    base = SmallHeadGenerator(32, 6, style_dim=8, mapping_layers=2, base_channels=2)
    taken = {name: t for name, t in source.state_dict().items() if name.startswith(general)}
    base.load_state_dict(base.state_dict() | taken)
    return base


def images(network: Generator) -> Tensor:
    return network.eval()(seeded_latents(network, SEEDS))


@torch.no_grad()
def remembered(base: Path, deltas: list[Path]) -> list[Tensor]:
    """Images of every task, from the base and the tasks' files alone."""
    network = load(base)
    assert isinstance(network, Generator)
    found = []
    for delta in deltas:
        apply_delta(network, read_delta(delta))
        found.append(images(network))
    return found


@pytest.mark.parametrize(
    ("sharing", "init"), [(TRANSFER, "fresh"), (TRANSFER, "pretrained"), (MEMORY, "pretrained")]
)
def test_after_the_third_task_the_first_two_generate_the_very_same(
    sharing: Sharing, init: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    source = GPGANGenerator(32, 6, base_channels=2)
    base, judge = tmp_path / "base.safetensors", tmp_path / "d.safetensors"
    save_network(source if sharing is MEMORY else smallhead_on(source), base, "generator")
    save_network(GPGANDiscriminator(32, base_channels=2), judge, "discriminator")
    stored = base.read_bytes()

    deltas: list[Path] = []
    seen: list[Tensor] = []
    for number, task in enumerate(TASKS):
        torch.manual_seed(10 + number)
        setup = Transfer(
            str(base),
            str(judge),
            sharing=sharing,
            sharing_discriminator=FreezeLower(2),
            init=init,  # type: ignore[arg-type]
            optimizer_g=lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.0, 0.99)),
        )
        data = ImageData(str(write_images(tmp_path / task, 8)), resolution=32, batch_size=4)
        callbacks = [GeneratorEMA(0.5), Resumable()]
        quiet_trainer(tmp_path / f"run-{task}", max_steps=3, callbacks=callbacks).fit(setup, datamodule=data)
        deltas.append(tmp_path / f"{task}.safetensors")
        export_delta(tmp_path / f"run-{task}", deltas[-1])
        trained = load(tmp_path / f"run-{task}")
        assert isinstance(trained, Generator)
        with torch.no_grad():
            seen.append(images(trained))

    assert base.read_bytes() == stored
    for old, again in zip(seen, remembered(base, deltas), strict=True):
        assert torch.equal(old, again)
    for old, again in zip(seen[::-1], remembered(base, deltas[::-1]), strict=True):
        assert torch.equal(old, again)
    assert not any(torch.equal(seen[a], seen[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert all(delta.stat().st_size < len(stored) for delta in deltas)
