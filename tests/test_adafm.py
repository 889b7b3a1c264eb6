"""The AdaFM experiments: every method and setting starts, and the files ask for the published sizes."""

import csv
import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gansharing.callbacks import Unfreeze
from gansharing.checkpoints import load, read_checkpoint, save_network
from gansharing.networks import GPGANDiscriminator, GPGANGenerator
from gansharing.sharing import split_of
from tests.cli.program import Outcome, run, write_images

FILES = Path(__file__).parents[1] / "experiments" / "adafm"
METHODS = [
    *("our", "official", "our_fs", "smallhead", "scratch"),
    *("gphead", "transfergan", "freezed", "gpgan", "minegan"),
]
GENERAL = ["resnet_3", "resnet_4", "resnet_5", "conv_img"]
JUDGE = ["conv_img", *(f"resnet_{i}" for i in range(6))]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GP-GAN with classes, as the pretrained one has."""
    folder = tmp_path_factory.mktemp("imagenet")
    torch.manual_seed(1)
    save_network(GPGANGenerator(32, 8, num_classes=3, base_channels=2), folder / "g.safetensors", "generator")
    discriminator = GPGANDiscriminator(32, num_classes=3, base_channels=2)
    save_network(discriminator, folder / "d.safetensors", "discriminator")
    return folder / "g.safetensors", folder / "d.safetensors"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "flowers", count=8)


def start(files: list[str], pair: tuple[Path, Path], photos: Path, folder: Path, *more: str) -> Outcome:
    configs = [part for name in ("base", *files) for part in ("--config", FILES / f"{name}.yaml")]
    return run(
        *("fit", *configs, "--model.source", pair[0], "--model.source_discriminator", pair[1]),
        *("--data.path", photos, "--data.resolution=32", "--data.batch_size=2", "--scores.num_samples=4"),
        *("--model.target.resolution=32", "--model.target.base_channels=2"),
        *("--model.target_discriminator.resolution=32", "--model.target_discriminator.base_channels=2"),
        *("--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.log_every_n_steps=1"),
        *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--grids.rows=1"),
        *(
            "--trainer.enable_model_summary=false",
            "--scores.untrained=false",
            "--trainer.limit_val_batches=0",
        ),
        *(f"--trainer.default_root_dir={folder}", *more),
    )


def results(done: Outcome, folder: Path) -> dict[str, Any]:
    assert done.code == 0, done.err
    found = json.loads((folder / "results.json").read_text())
    assert found["status"] == "finished"
    (row,) = losses(folder)[:1]
    assert all(math.isfinite(float(row[name])) for name in ("loss_g", "loss_d_real", "loss_d_fake", "r1"))
    return found


def losses(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "csv/version_0/metrics.csv").read_text().splitlines()))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_starts(method: str, pair: tuple[Path, Path], photos: Path, tmp_path: Path) -> None:
    found = results(start([method], pair, photos, tmp_path / "run"), tmp_path / "run")
    head = method in ("our", "official", "our_fs", "smallhead", "scratch")
    nothing = method in ("gpgan", "scratch")
    whole = GENERAL if head else [f"resnet_{i}" for i in range(6)] + ["conv_img"]
    assert found["start"]["generator"]["from_source"] == ([] if nothing else whole)
    assert found["start"]["discriminator"]["from_source"] == ([] if nothing else JUDGE)
    frozen = {"gphead": 4, "smallhead": 4, "our": 4, "official": 4, "our_fs": 4}.get(method, 0)
    generator = load(tmp_path / "run", divided=True)
    stages = list(generator.stages().values())[-frozen:] if frozen else []
    plain = [p for stage in stages for n, p in stage.named_parameters() if not n.endswith(("l1", "l2"))]
    assert found["sharing"]["generator"]["shared"] == sum(p.numel() for p in plain)
    # D2, but where the discriminator is trained whole or FreezeD freezes four groups
    count = 0 if method in ("transfergan", "gpgan", "scratch", "minegan") else 4 if method == "freezed" else 2
    judge = list(GPGANDiscriminator(32, base_channels=2).stages().values())[:count]
    size = sum(p.numel() for stage in judge for p in stage.parameters())
    assert found["sharing"]["discriminator"]["shared"] == size
    network = {True: "SmallHeadGenerator", False: "GPGANGenerator"}[head]
    assert type(generator).__name__ == network


@pytest.mark.parametrize(("setting", "frozen"), [("d3", 3), ("d5", 5), ("25_images", 6)])
def test_a_setting_starts(
    setting: str, frozen: int, pair: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    found = results(start(["our", setting], pair, photos, folder), folder)
    judge = list(GPGANDiscriminator(32, base_channels=2).stages().values())[:frozen]
    size = sum(p.numel() for stage in judge for p in stage.parameters())
    assert found["sharing"]["discriminator"]["shared"] == size
    assert ("r2" in losses(folder)[0]) == (setting == "25_images")
    assert getattr(load(folder), "latent_dim") == (4 if setting == "25_images" else 64)  # noqa: B009


def test_official_and_early_stop_are_laid_over_one_another(
    pair: tuple[Path, Path], photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    more = ("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.limit_val_batches=1")
    found = results(start(["official", "25_images", "early_stop"], pair, photos, folder, *more), folder)
    assert math.isfinite(found["scores"]["fid_lite"]) and (folder / "checkpoints/best.ckpt").is_file()
    checkpoint = read_checkpoint(folder / "checkpoints/last.ckpt")
    assert checkpoint["callbacks"]["EarlyStop"]["count"] == 2
    split = split_of(load(folder, divided=True))
    waiting = {n: p for n, p in split.domain.items() if n.endswith(("original1", "original2"))}
    assert len(waiting) == 2 * 12
    for name, parameter in waiting.items():  # not before step 10,000
        assert (parameter == float(name.endswith("original1"))).all(), name


def test_figure_13_is_drawn_at_a_validation(pair: tuple[Path, Path], photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    results(start(["our", "figure_13"], pair, photos, folder, "--trainer.limit_val_batches=1"), folder)
    assert (folder / "images/step_0000001_modulation.png").is_file()
    done = start(["gphead", "figure_13"], pair, photos, tmp_path / "other")
    assert done.code == 2 and "the generator has no scales and shifts" in done.err


def settings(*files: str) -> dict[str, Any]:
    """Options of the model, the later file laid over the earlier."""
    model: dict[str, Any] = yaml.safe_load((FILES.parent / "pieces/adafm_model.yaml").read_text())[
        "init_args"
    ]
    for file in files:
        for key, value in yaml.safe_load((FILES / f"{file}.yaml").read_text())["model"]["init_args"].items():
            both = isinstance(value, dict) and "class_path" not in value
            model[key] = (
                model[key] | {"init_args": model[key]["init_args"] | value["init_args"]} if both else value
            )
    return model


def made(value: Any) -> Any:
    """The object of a class path with its arguments."""
    if isinstance(value, list):
        return [made(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    module, _, name = value["class_path"].rpartition(".")
    arguments = {key: made(entry) for key, entry in value.get("init_args", {}).items()}
    return getattr(importlib.import_module(module), name)(**arguments)


@pytest.mark.parametrize(
    ("files", "generator", "discriminator"),
    [
        (["our"], 24_423_937, 91_697_537),
        (["official"], 26_045_953, 91_697_537),
        (["our", "d3"], 24_423_937, 90_926_849),
        (["our", "d5"], 24_423_937, 75_522_049),
        (["our", "25_images"], 23_917_057, 37_769_217),
        (["our_fs"], 23_563_777 + 3_584, 91_697_537),
        (["smallhead"], 23_563_777, 91_697_537),
        (["gphead"], 92_055_552, 91_697_537),
        (["scratch"], 28_470_212, 91_892_161),
    ],
)
def test_the_published_sizes(files: list[str], generator: int, discriminator: int) -> None:
    model = settings(*files)
    with torch.device("meta"):
        for network, sharing, expected in (
            ("target", "sharing", generator),
            ("target_discriminator", "sharing_discriminator", discriminator),
        ):
            assert made(model[sharing]).apply(made(model[network])).domain_size == expected
    weights = {type(penalty).__name__: penalty.weight for penalty in made(model["regularizers"])}
    few = "25_images" in files
    assert weights == ({"R1": 40.0, "R2": 40.0} if few else {"R1": 20.0})  # twice the code's 20 and 10


def test_the_official_schedule() -> None:
    (callback,) = yaml.safe_load((FILES / "official.yaml").read_text())["trainer"]["callbacks"]
    unfreeze = made(callback)
    assert isinstance(unfreeze, Unfreeze) and unfreeze.at_step == 10_000
