"""What goes beyond SlimGAN's paper, started from its files, shrunk."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from gansharing.checkpoints import load, save_network, slimmed
from gansharing.errors import UserError
from gansharing.networks import SNDCGANDiscriminator, SNDCGANGenerator
from gansharing.sharing import WidthWise, split_of
from gansharing.slimmable import SlimmableGenerator, at_width, extract
from tests.cli.program import run, write_images

FILES = Path(__file__).parents[1] / "experiments" / "slimgan"
LATENT = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
DCGAN = ("--model.discriminator.network.channels=32",)
RESNET = ("--model.discriminator.network.channels=16", "--model.discriminator_steps=1")
NETWORK = "--model.generator.network"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "small", count=8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "g.safetensors"
    torch.manual_seed(1)
    save_network(SNDCGANGenerator(32, channels=64), path, "generator")
    return path


def start(folder: Path, photos: Path, table: str, name: str, *more: object, scored: bool = False) -> None:
    done = run(
        *("fit", "--config", FILES / "base.yaml", "--config", FILES / f"{table}.yaml"),
        *("--config", FILES / f"{name}.yaml", "--data.path", photos, "--data.batch_size=4"),
        "--data.reference_split=train",
        *(
            "--trainer.max_steps=2",
            "--trainer.val_check_interval=2",
            "--trainer.check_val_every_n_epoch=null",
        ),
        *("--trainer.log_every_n_steps=1", "--scores.num_samples=4", "--scores.untrained=false"),
        *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--grids.rows=1"),
        *("--trainer.enable_model_summary=false", f"--trainer.default_root_dir={folder}", *more),
        *(() if scored else ("--trainer.limit_val_batches=0",)),
    )
    assert done.code == 0, done.err
    results = json.loads((folder / "results.json").read_text())
    assert (results["status"], results["steps"]) == ("finished", 2)
    assert not scored or math.isfinite(results["scores"]["fid_lite"])


def losses(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "csv/version_0/metrics.csv").read_text().splitlines()))


def test_random_widths_train_and_any_width_is_exported(photos: Path, tmp_path: Path) -> None:
    start(tmp_path, photos, "dcgan_cifar10", "sandwich", f"{NETWORK}.channels=32", *DCGAN)
    names = {"0.25", "between", "1"}
    kinds = [("loss_d", names), ("loss_g", names), ("distillation", names - {"1"})]
    for row in losses(tmp_path)[:2]:
        for kind, expected in kinds:
            found = {
                key.partition("/")[2] for key, value in row.items() if key.startswith(f"{kind}/") and value
            }
            assert found == expected
    done = run("export", tmp_path, "--width=0.6", "--out", tmp_path / "g.safetensors")
    assert done.code == 0, done.err
    network, slim = load(tmp_path / "g.safetensors"), load(tmp_path)
    assert isinstance(network, SNDCGANGenerator) and network.channels == 19
    assert isinstance(slim, SlimmableGenerator) and torch.equal(network(LATENT), extract(slim, 0.6)(LATENT))
    done = run("sample", tmp_path, "--width=0.25,0.6,1", "--seeds=0-1", "--out", tmp_path / "samples")
    assert done.code == 0 and (tmp_path / "samples/width0.6/seed0000001.png").is_file()


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("stylegan2", [f"{NETWORK}.channel_base=1024", f"{NETWORK}.channel_max=16", f"{NETWORK}.w_dim=16"]),
        ("fastgan", [f"{NETWORK}.base_channels=4"]),
    ],
)
def test_other_networks_train_at_every_width(
    name: str, small: list[str], photos: Path, tmp_path: Path
) -> None:
    start(tmp_path, photos, "resnet_celeba", name, *small, *RESNET, scored=name == "stylegan2")
    if name == "stylegan2":
        scores = json.loads((tmp_path / "results.json").read_text())["scores"]
        assert all(math.isfinite(scores[f"fid_lite/{width:g}"]) for width in (0.25, 0.5, 0.75))
    done = run("export", tmp_path, "--width=0.25", "--out", tmp_path / "g.safetensors")
    assert done.code == 0, done.err
    slim, latent = load(tmp_path), load(tmp_path).sample_latent(2)  # type: ignore[operator]
    with at_width(0.25):
        torch.testing.assert_close(load(tmp_path / "g.safetensors")(latent), slim(latent), rtol=0, atol=1e-6)


def test_a_trained_generator_is_sorted_and_slimmed(photos: Path, source: Path, tmp_path: Path) -> None:
    slim, plain = slimmed(source, sort=True), load(source)
    assert slim.training and slim.widths == [0.25, 0.5, 0.75, 1.0]
    torch.testing.assert_close(slim.eval()(LATENT), plain(LATENT), rtol=0, atol=1e-5)
    assert not torch.equal(
        extract(slim, 1.0).state_dict()["to_rgb.weight"], plain.state_dict()["to_rgb.weight"]
    )
    start(tmp_path, photos, "dcgan_cifar10", "anycost", f"--model.generator.path={source}", *DCGAN)
    trained = load(tmp_path)
    assert isinstance(trained, SlimmableGenerator)
    torch.testing.assert_close(
        trained.state_dict()["network.first.parametrizations.weight.original"],
        slim.state_dict()["network.first.parametrizations.weight.original"],
        rtol=0,
        atol=2e-3,  # two steps of Adam at 2e-4
    )


def test_a_domain_is_trained_at_every_width(photos: Path, source: Path, tmp_path: Path) -> None:
    base, run_dir = tmp_path / "base.safetensors", tmp_path / "run"
    save_network(slimmed(source), base, "generator")
    start(run_dir, photos, "dcgan_cifar10", "width_wise", f"--model.generator.path={base}", *DCGAN)
    divided, before = load(run_dir, divided=True), load(base)
    split = split_of(divided)
    assert 0.05 < split.learn_ratio < 0.1
    done = run("export", run_dir, "--delta", "--out", tmp_path / "d.safetensors")
    assert done.code == 0, done.err
    done = run(
        "sample", "--base", base, "--delta", tmp_path / "d.safetensors", "--seeds=0", "--out", tmp_path / "s"
    )
    assert done.code == 0, done.err
    whole, start_from = load(run_dir), before
    for width in (0.25, 1.0):
        with at_width(width):
            assert not torch.equal(whole(LATENT), start_from(LATENT))
    WidthWise(0.1).apply(before)
    for name, parameter in split_of(before).shared.items():
        assert torch.equal(parameter, split.shared[name])


def test_what_cannot_be_slimmed_is_told(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "slim.safetensors"
    save_network(slimmed(source, [0.5, 1.0]), path, "generator")
    save_network(SNDCGANDiscriminator(32, channels=16), tmp_path / "d.safetensors", "discriminator")
    assert slimmed(path, [0.5, 1.0]).widths == [0.5, 1.0]
    with pytest.raises(UserError, match="slimmable already, with the widths"):
        slimmed(path)
    with pytest.raises(UserError, match="and no sort"):
        slimmed(path, [0.5, 1.0], sort=True)
    with pytest.raises(UserError, match="holds a discriminator"):
        slimmed(tmp_path / "d.safetensors")
