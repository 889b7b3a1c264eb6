"""Batch statistics adaptation: its terms against plain loops, and a training that rebuilds its images."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm  # type: ignore[import-untyped]
from torch import nn

from gansharing.checkpoints import load, save_network
from gansharing.data import ImageData
from gansharing.errors import UserError
from gansharing.networks import GPGANDiscriminator, GPGANGenerator
from gansharing.setups.reconstruct import Reconstruct, change, spread, truncated
from gansharing.sharing import FilterSelection, split_of
from gansharing.visual import save_png
from tests.cli.program import run, write_images
from tests.support import quiet_trainer

FILES = Path(__file__).parents[2] / "experiments" / "adafm"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    torch.manual_seed(1)
    save_network(GPGANGenerator(32, 8, num_classes=3, base_channels=2), folder / "g.safetensors", "generator")
    torch.manual_seed(1)
    plain = GPGANGenerator(32, 6, base_channels=2)
    with torch.no_grad():  # else latents hardly reach the image of an untrained network
        for weight in plain.parameters():
            weight.mul_(2 if weight.ndim > 1 else 1)
    save_network(plain, folder / "plain.safetensors", "generator")
    discriminator = GPGANDiscriminator(32, num_classes=3, base_channels=2)
    save_network(discriminator, folder / "d.safetensors", "discriminator")
    write_images(folder / "images", 6)
    return folder


def test_the_distance_to_normal_latents() -> None:
    latents, normals = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    table = [[float(((z - r) ** 2).sum()) for r in normals] for z in latents]
    there = sum(min(line) for line in table) / 3
    back = sum(min(line[j] for line in table) for j in range(5)) / 5
    assert float(spread(latents, normals)) == pytest.approx(there + back, rel=1e-10)
    assert float(spread(latents, latents)) == pytest.approx(0, abs=1e-12)


def test_how_far_scales_and_shifts_have_moved() -> None:
    network = GPGANGenerator(32, 6, base_channels=2)
    assert change(network).item() == 0
    FilterSelection().apply(network)
    assert change(network).item() == 0
    own = split_of(network).domain
    with torch.no_grad():
        for parameter in own.values():
            parameter.copy_(torch.randn_like(parameter))
    scales = np.concatenate([p.detach().numpy().ravel() for n, p in own.items() if n.endswith("original1")])
    shifts = np.concatenate([p.detach().numpy().ravel() for n, p in own.items() if n.endswith("original2")])
    expected = np.mean((scales - 1) ** 2) + np.mean(shifts**2)
    assert change(network).item() == pytest.approx(expected, rel=1e-5)


def test_truncated_latents_have_the_truncated_distribution() -> None:
    normal = torch.linspace(-6, 6, 1001)
    found = truncated(normal, 0.3)
    shares = torch.special.ndtr(normal.double()).numpy()
    np.testing.assert_allclose(found.numpy(), truncnorm.ppf(shares, -0.3, 0.3), atol=1e-6)
    assert found.abs().max() <= 0.3 and (found.diff() >= 0).all()


def test_only_scales_shifts_and_latents_move_and_the_images_are_found(source: Path, tmp_path: Path) -> None:
    wanted = load(source / "plain.safetensors")
    for number, image in enumerate(wanted(torch.randn(6, 6, generator=torch.Generator().manual_seed(4)))):
        save_png(image, tmp_path / f"{number}.png")
    data = ImageData(str(tmp_path), resolution=32, batch_size=6)
    torch.manual_seed(2)
    setup = Reconstruct(str(source / "plain.safetensors"))
    before = {name: tensor.clone() for name, tensor in setup.generator.state_dict().items()}
    losses: list[float] = []
    setup.log_dict = lambda found, **_: losses.append(float(found["loss_pixels"]))  # type: ignore[assignment, misc]
    quiet_trainer(tmp_path / "run", max_steps=60).fit(setup, datamodule=data)
    moved = {n for n, tensor in setup.generator.state_dict().items() if not torch.equal(tensor, before[n])}
    assert moved <= split_of(setup.generator).domain.keys() and len(moved) > 20
    assert setup.latents.shape == (6, 6) and bool(setup.latents.abs().sum(1).all())
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])


def test_mirrored_images_cannot_be_rebuilt(source: Path, tmp_path: Path) -> None:
    data = ImageData(str(source / "images"), resolution=32, batch_size=6, flip=True)
    with pytest.raises(UserError, match="set data.flip to false"):
        quiet_trainer(tmp_path).fit(Reconstruct(str(source / "plain.safetensors")), datamodule=data)


def test_the_experiment_starts(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run(
        *("fit", "--config", FILES / "base.yaml", "--config", FILES / "bsa.yaml"),
        *("--model.source", source / "g.safetensors", "--data.path", source / "images"),
        *("--data.resolution=32", "--data.batch_size=2", "--scores.num_samples=4", "--grids.rows=1"),
        *("--model.target.resolution=32", "--model.target.base_channels=2"),
        "--model.perceptual=gansharing.metrics.perceptual.LiteDistance",
        *("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1"),
        *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--scores.untrained=false"),
        *("--trainer.enable_model_summary=false", f"--trainer.default_root_dir={folder}"),
    )
    assert done.code == 0, done.err
    rows = list(csv.DictReader((folder / "csv/version_0/metrics.csv").read_text().splitlines()))
    names = ("pixels", "perceptual", "prior", "change")
    parts = [float(rows[0][f"loss_{name}"]) for name in names]
    assert all(map(math.isfinite, parts)) and sum(parts) == pytest.approx(float(rows[0]["loss_g"]), rel=1e-4)
    generator = load(folder, divided=True)
    filters = [
        m.out_channels for m in generator.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)
    ]
    entry = 32 * (256 + 1) + 32  # 16 times 2 channels of one pixel
    assert split_of(generator).domain_size == 2 * sum(filters) + entry
