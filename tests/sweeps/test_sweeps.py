"""The sweeps: against W&B's own schema, as its agent writes their commands, and with the real agent."""

import itertools
import json
import math
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from tests.cli.program import run, write_images
from tests.sweeps.server import serving

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.accelerator=cpu"),
    *("--scores.num_samples=4", "--scores.untrained=false", "--trainer.enable_progress_bar=false"),
]
SMALL_DCGAN = [
    *("--data.batch_size=4", "--model.generator.base_channels=2", "--model.discriminator.base_channels=2"),
]
GAME = "--model.init_args.game.init_args"
SWEEPS = sorted((ROOT / "experiments/sweeps").glob("*.yaml"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images", count=20)


def grid(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    names = list(sweep["parameters"])
    values = (sweep["parameters"][name]["values"] for name in names)
    return [dict(zip(names, drawn, strict=True)) for drawn in itertools.product(*values)]


def command(sweep: dict[str, Any], drawn: dict[str, Any]) -> list[str]:
    """What the agent makes of ``command``, from 'fit' on."""
    args = create_sweep_command_args({"args": {name: {"value": value} for name, value in drawn.items()}})
    words = [word for part in sweep["command"] for word in (args["args"] if part == "${args}" else [part])]
    return words[words.index("fit") :]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_fits_the_schema_of_wandb(path: Path) -> None:
    schema = json.loads(
        Path(str(distribution("sweeps").locate_file("sweeps/config/schema.json"))).read_text()
    )
    sweep = yaml.safe_load(path.read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(sweep)] == []
    broken = sweep | {"method": "gird"}
    assert list(Draft7Validator(schema).iter_errors(broken))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_program_takes_every_value(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    first, *others = grid(sweep)
    trials = [first] + [drawn for drawn in others if sum(first[key] != drawn[key] for key in drawn) == 1]
    said = []
    for drawn in trials:
        done = run(*command(sweep, drawn), "--print_config")
        assert done.code == 0, done.err
        said.append(done.out)
    assert len(set(said)) == len(said)  # each trial is another one


SHRUNK = {
    "sharing": [
        *("--data.domains={twemoji: IMAGES, openmoji: IMAGES}", "--data.batch_size=4"),
        *(f"{GAME}.generator.channel_base=64", f"{GAME}.discriminator.channel_base=64"),
    ],
    "slimmable": ["--data.path=IMAGES", "--data.batch_size=4", "--scores.bootstrap=0"],
    "diffaugment": ["--data.path=IMAGES", *SMALL_DCGAN],
}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_last_trial_starts(
    path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    sweep = yaml.safe_load(path.read_text())
    shrunk = [word.replace("IMAGES", str(images)) for word in SHRUNK[path.stem]]
    words = [word for word in command(sweep, grid(sweep)[-1]) if word != "--trainer.logger=WandbLogger"]
    done = run(*words, *shrunk, *SMALL, "--trainer.default_root_dir=run")
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "run/results.json").read_text())["scores"]
    assert math.isfinite(scores[sweep["metric"]["name"]])


@pytest.mark.services
@pytest.mark.timeout(600)
def test_the_agent_of_wandb_runs_two_trials(images: Path, tmp_path: Path) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    sweep = yaml.safe_load((ROOT / "experiments/sweeps/diffaugment.yaml").read_text())
    sweep["command"][-1:-1] = [f"--data.path={images}", *SMALL, *SMALL_DCGAN]
    sweep["parameters"] |= {"data.fraction": {"values": [0.5, 1.0]}, "model.augment.policy": {"values": [""]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    with serving() as server:
        environment = {
            **os.environ,
            **{"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "0" * 40},
            **{"WANDB_ENTITY": "tester", "WANDB_PROJECT": "test", "WANDB_MODE": "offline"},
            **{"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        }
        for words in (["sweep", "sweep.yaml"], ["agent", "--count=2", "tester/test/sweep1"]):
            done = subprocess.run(
                ["wandb", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
    assert {"UpsertSweep", "SweepWithRuns", "CreateAgent", "Heartbeat"} <= set(server.asked)
    for number, fraction in ((1, 0.5), (2, 1.0)):
        folder = tmp_path / f"runs/demo-00{number}"
        results = json.loads((folder / "results.json").read_text())
        assert (results["status"], results["steps"]) == ("finished", 2)
        assert sweep["metric"]["name"] in results["scores"]
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["data"]["init_args"]["fraction"] == fraction
        assert len(list((tmp_path / "wandb").glob(f"offline-run-*-trial{number}"))) == 1
