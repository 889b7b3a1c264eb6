"""The command line as people, sweeps and checkpoints use it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

import gansharing
from gansharing.networks import DCGANGenerator
from gansharing.networks.seeded import seeded_latents
from gansharing.rundir import choose_run_dir, forget_run_dir
from gansharing.visual import to_uint8
from tests.cli.program import TINY, files_in, fit, run


def config_of(*args: object) -> dict[str, Any]:
    """The whole configuration that a command line means."""
    done = run(*args, "--print_config")
    assert done.code == 0, done.err
    return yaml.safe_load(done.out)


def tiny(*args: object) -> dict[str, Any]:
    return config_of("fit", "--config", TINY, *args)


def carried(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, weights_only=True)


# The traps of LightningCLI.


def test_what_the_user_writes_beats_the_checkpoint(here: Path, images: Path, trained: Path) -> None:
    source = trained / "checkpoints/last.ckpt"
    more = ("--model.share_latent=true", "--model.optimizer_g.lr=0.003", "--trainer.max_steps=5")
    fit(images, "--ckpt_path", source, *more, "--trainer.default_root_dir=run")
    model = yaml.safe_load((here / "run/config.yaml").read_text())["model"]["init_args"]
    assert model["share_latent"] is True
    assert model["optimizer_g"]["init_args"]["lr"] == 0.003
    assert yaml.safe_load(carried(source)["config"])["model"]["init_args"]["share_latent"] is False
    assert carried(here / "run/checkpoints/last.ckpt")["global_step"] == 5


def test_nothing_is_linked_silently() -> None:
    # Data and networks each keep their own resolution: what one is told changes nothing in the other.
    config = tiny("--data.resolution=128")
    assert config["data"]["init_args"]["resolution"] == 128
    assert config["model"]["init_args"]["generator"]["init_args"]["resolution"] == 32


@pytest.mark.parametrize("net", ["generator", "discriminator"])
def test_sizes_that_differ_are_an_error(here: Path, images: Path, net: str) -> None:
    done = run("fit", "--config", TINY, "--data.path", images, f"--model.{net}.resolution=64")
    assert done.code == 2
    assert f"--model.{net}.resolution=32" in done.err


def test_a_checkpoint_is_plain_and_rebuilds_its_generator(here: Path, trained: Path) -> None:
    checkpoint = carried(trained / "checkpoints/last.ckpt")  # weights_only: no class is looked up
    assert checkpoint["networks"]["generator"]["init_args"]["base_channels"] == 2
    generator = gansharing.load(trained / "checkpoints/last.ckpt")
    assert isinstance(generator, DCGANGenerator)
    assert not generator.training
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, checkpoint["state_dict"][f"generator.{name}"])


def test_validate_needs_only_the_checkpoint(here: Path, trained: Path) -> None:
    done = run("validate", "--ckpt_path", trained / "checkpoints/last.ckpt", "--scores.num_samples=8")
    assert done.code == 0, done.err
    shown = float(re.search(r"fid_lite\W+([\d.]+)", done.out)[1])  # type: ignore[index]
    history = json.loads((trained / "results.json").read_text())["history"]
    assert shown == pytest.approx(history[-1]["fid_lite"], rel=1e-3)


def test_test_needs_only_the_checkpoint(here: Path, trained: Path) -> None:
    done = run("test", f"--ckpt_path={trained}/checkpoints/best.ckpt")
    assert done.code == 0, done.err
    assert "fid_lite" in done.out


def test_predict_needs_only_the_checkpoint(here: Path, trained: Path) -> None:
    checkpoint = trained / "checkpoints/last.ckpt"
    done = run("predict", "--ckpt_path", checkpoint, "--predictions.seeds=7,2-3", "--predictions.out=made")
    assert done.code == 0, done.err
    names = sorted(path.name for path in (here / "made").iterdir())
    assert names == ["grid.png", "seed0000002.png", "seed0000003.png", "seed0000007.png"]
    generator = gansharing.load(checkpoint)
    with torch.inference_mode(), Image.open(here / "made/seed0000007.png") as image:
        expected = to_uint8(generator(seeded_latents(generator, [7])))[0]
        assert image.tobytes() == expected.permute(1, 2, 0).numpy().tobytes()
        assert image.text["seed"] == "7"  # type: ignore[attr-defined]


def test_last_of_a_named_run_is_evaluated(here: Path, trained: Path) -> None:
    done = run(
        "predict", "--ckpt_path=last", f"--trainer.default_root_dir={trained}", "--predictions.out=made"
    )
    assert done.code == 0, done.err
    assert len(list((here / "made").glob("seed*.png"))) == 16


def test_two_trainings_in_one_process_are_the_same(here: Path, images: Path, trained: Path) -> None:
    fit(images, "--trainer.default_root_dir=run")
    a, b = (carried(f / "checkpoints/last.ckpt")["state_dict"] for f in (trained, here / "run"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_another_seed_is_another_training(here: Path, images: Path, trained: Path) -> None:
    fit(images, "--seed_everything=4", "--trainer.default_root_dir=run")
    a, b = (
        carried(folder / "checkpoints/last.ckpt")["state_dict"]["generator.to_rgb.weight"]
        for folder in (here / "run", trained)
    )
    assert not torch.equal(a, b)


# Configurations.


def test_later_files_lie_over_earlier_and_options_over_both(here: Path) -> None:
    (here / "a.yaml").write_text("trainer: {max_steps: 10, precision: bf16-mixed}\nema: {decay: 0.9}\n")
    (here / "b.yaml").write_text(
        "trainer: {max_steps: 20}\nmodel: {init_args: {generator: {init_args: {latent_dim: 9}}}}\n"
    )
    config = tiny("--config", "a.yaml", "--config", "b.yaml", "--ema.decay=0.5")
    assert config["trainer"]["max_steps"] == 20
    assert config["trainer"]["precision"] == "bf16-mixed"
    assert config["ema"]["decay"] == 0.5
    generator = config["model"]["init_args"]["generator"]["init_args"]
    assert (generator["latent_dim"], generator["base_channels"]) == (9, 2)


def test_what_is_printed_means_the_same(here: Path) -> None:
    config = tiny("--model.order=gd")
    (here / "all.yaml").write_text(yaml.safe_dump(config))
    assert config_of("fit", "--config", "all.yaml") == config


def test_a_runs_config_gives_the_same_run(here: Path, trained: Path) -> None:
    before = files_in(trained)
    done = run("fit", "--config", trained / "config.yaml", "--trainer.default_root_dir=null")
    assert done.code == 0, done.err
    again = here / "runs/run-001"  # a run of its own, of the former's name
    first, second = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (trained, again))
    assert first["trainer"].pop("default_root_dir") == str(trained)
    assert second["trainer"].pop("default_root_dir") is None
    assert first == second
    a, b = (carried(folder / "checkpoints/last.ckpt")["state_dict"] for folder in (trained, again))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert files_in(trained) == before


@pytest.mark.parametrize("dots", ["model.discriminator_steps", "model.init_args.discriminator_steps"])
def test_dotted_options_with_and_without_init_args(dots: str) -> None:
    assert tiny(f"--{dots}=3")["model"]["init_args"]["discriminator_steps"] == 3


def test_deep_options_and_class_changes() -> None:
    model = tiny("--model.loss=Hinge", "--model.generator.init_args.latent_dim=11")["model"]["init_args"]
    assert model["loss"]["class_path"] == "gansharing.objectives.Hinge"
    assert model["generator"]["init_args"] == {"resolution": 32, "latent_dim": 11, "base_channels": 2}
    # Another class keeps the arguments that it shares with the former.
    other = tiny("--model.generator=SpectralStyleGenerator")["model"]["init_args"]["generator"]["init_args"]
    assert (other["base_channels"], other["mapping"]) == (2, "separate")


def test_lists_of_classes_are_appended_to() -> None:
    more = ("--model.regularizers+=R1", "--model.regularizers.weight=3", "--model.regularizers+=R2")
    regularizers = tiny(*more)["model"]["init_args"]["regularizers"]
    assert [r["class_path"].rpartition(".")[2] for r in regularizers] == ["R1", "R2"]
    assert regularizers[0]["init_args"]["weight"] == 3


def test_sections_from_files_of_their_own(here: Path) -> None:
    (here / "parts").mkdir()
    (here / "parts/net.yaml").write_text(
        "class_path: DCGANGenerator\ninit_args: {resolution: 32, latent_dim: 5}\n"
    )
    (here / "whole.yaml").write_text("model: {init_args: {generator: parts/net.yaml}}\n")
    (here / "elsewhere").mkdir()
    for args in (["--config", "whole.yaml"], ["--model.generator=parts/net.yaml"]):
        generator = tiny(*args)["model"]["init_args"]["generator"]
        assert generator["init_args"]["latent_dim"] == 5


def test_options_exactly_as_a_sweep_writes_them() -> None:
    drawn = {
        "model.optimizer_g.lr": 1e-05,
        "model.optimizer_g.betas": [0.0, 0.99],
        "model.share_latent": True,
        "data.flip": False,
        "model.loss": "Hinge",
        "model.init_args.generator.init_args.latent_dim": 24,
        "ema.rampup": "null",
        "trainer.precision": "bf16-mixed",
    }
    built = create_sweep_command_args({"args": {name: {"value": value} for name, value in drawn.items()}})
    for args in (built["args"], built["args_no_boolean_flags"]):
        if "--model.share_latent" in args:
            continue  # bare flags: no option of this program is one
        config = tiny(*args)
        model = config["model"]["init_args"]
        assert model["optimizer_g"]["init_args"]["lr"] == 1e-5
        assert list(model["optimizer_g"]["init_args"]["betas"]) == [0.0, 0.99]
        assert (model["share_latent"], config["data"]["init_args"]["flip"]) == (True, False)
        assert model["loss"]["class_path"].endswith("Hinge")
        assert model["generator"]["init_args"]["latent_dim"] == 24
        assert config["ema"]["rampup"] is None
        assert config["trainer"]["precision"] == "bf16-mixed"


# Runs.


def test_last_begins_a_run_and_continues_the_newest(here: Path, images: Path) -> None:
    # One command can be given to a scheduler that restarts it: without a checkpoint it starts anew.
    fit(images, "--ckpt_path=last")
    first, second = here / "runs/tiny-001", here / "runs/tiny-002"
    shutil.copytree(first, second)
    before = (first / "checkpoints/last.ckpt").read_bytes()
    fit(images, "--ckpt_path=last", "--trainer.max_steps=6")
    assert sorted((here / "runs").iterdir()) == [first, second]
    assert (first / "checkpoints/last.ckpt").read_bytes() == before
    assert carried(second / "checkpoints/last.ckpt")["global_step"] == 6


def test_parallel_runs_take_different_numbers(here: Path) -> None:
    chosen = set()
    for _ in range(3):
        chosen.add(choose_run_dir(None, "x", None))
        (sorted(chosen)[-1] / "results.json").write_text("{}")
        forget_run_dir()
    assert [path.name for path in sorted(chosen)] == ["x-001", "x-002", "x-003"]
    # Taken between the look and the making:
    (here / "runs/x-004").write_text("")
    with pytest.raises(gansharing.errors.UserError, match="x-004"):
        choose_run_dir(None, "x", None)
    forget_run_dir()
    assert not (here / "runs/x-005").exists()


def test_a_dry_run_leaves_nothing(here: Path, images: Path) -> None:
    fit(images, "--trainer.fast_dev_run=true")
    assert list(here.iterdir()) == []


# Help.


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command(args: list[str]) -> None:
    done = run(*args)
    assert done.code == 0
    for command in "fit validate test predict sample interpolate score inspect export import data".split():
        assert f"gansharing {command}" in done.out or f"|{command}" in done.out


def test_the_overviews_commands_exist(here: Path) -> None:
    overview = run("--help").out
    named = set(re.findall(r"^  gansharing ([\w|]+)", overview, re.MULTILINE))
    for command in {word for words in named for word in words.split("|")}:
        done = run(command, "--help")
        assert done.code == 0 and "usage: " in done.out, command


def test_options_named_in_the_overview_exist() -> None:
    for option in re.findall(r"--([a-z_]+\.[a-z_]+)", run("--help").out):
        assert f"--{option}" in run(
            "predict" if "predictions" in option else "fit", "--help"
        ).out or option in (
            "data.path",
            "model.x",
            "model.help",
        ), option


def test_help_of_a_class() -> None:
    done = run("fit", "--model.help", "Adversarial")
    assert done.code == 0
    assert "--model.init_args.discriminator_steps" in done.out or "--model.discriminator_steps" in done.out


def test_the_installed_program(here: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "gansharing", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"gansharing {gansharing.__version__}\n")


# Tools.


def test_sample_writes_numbered_images_and_a_grid(here: Path, trained: Path) -> None:
    assert run("sample", trained, "--seeds=5,0-1", "--out=made", "--columns=2", "--batch_size=2").code == 0
    assert {p.name for p in (here / "made").iterdir()} == {
        *(f"seed000000{seed}.png" for seed in (0, 1, 5)),
        "grid.png",
    }
    assert run("sample", trained, "--seeds=5", "--out=alone").code == 0
    name = "seed0000005.png"  # an image depends on its seed, not on its batch
    with Image.open(here / "made" / name) as a, Image.open(here / "alone" / name) as b:
        assert a.tobytes() == b.tobytes()


def test_an_exported_generator_makes_the_same_images(here: Path, trained: Path) -> None:
    assert run("export", trained, "--out=g.safetensors").code == 0
    for source, out in ((trained, "a"), ("g.safetensors", "b")):
        assert run("sample", source, "--seeds=3", f"--out={out}").code == 0
    with Image.open(here / "a/seed0000003.png") as a, Image.open(here / "b/seed0000003.png") as b:
        assert a.tobytes() == b.tobytes()


def test_interpolate_passes_through_its_seeds(here: Path, trained: Path) -> None:
    assert run("interpolate", trained, "--seeds=4,9", "--steps=3", "--out=walk").code == 0
    assert run("sample", trained, "--seeds=4,9", "--out=made").code == 0
    with Image.open(here / "walk/strip.png") as strip, Image.open(here / "walk/walk.gif") as walk:
        assert walk.size == (32, 32)
        assert strip.size == (4 * 34 - 2, 32)
        for left, seed in ((0, 4), (3 * 34, 9)):
            with Image.open(here / f"made/seed000000{seed}.png") as image:
                assert strip.crop((left, 0, left + 32, 32)).tobytes() == image.tobytes()


def test_inspect_counts_what_the_checkpoint_holds(here: Path, trained: Path) -> None:
    done = run("inspect", trained)
    total = sum(p.numel() for p in gansharing.load(trained).parameters())
    assert done.code == 0
    assert f"{total:,}" in done.out
    assert "DCGANGenerator" in done.out and "DCGANDiscriminator" in done.out


def test_score_a_run_against_its_data(here: Path, images: Path, trained: Path) -> None:
    best = trained / "checkpoints/best.ckpt"
    done = run("score", best, images, "--num_images=8", "--metrics=[fid]", "--out=scores.json")
    assert done.code == 0, done.err
    found = json.loads((here / "scores.json").read_text())["scores"]["fid_lite"]
    assert found == pytest.approx(
        json.loads((trained / "results.json").read_text())["best"]["fid_lite"], rel=1e-3
    )
